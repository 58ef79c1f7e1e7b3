#include "engine.hpp"

#include "accel/guest_calls.hpp"
#include "guest_thread.hpp"
#include "host_functions.hpp"
#include "hose/guest_calls.hpp"
#include "nn/guest_calls.hpp"
#include "state/guest_calls.hpp"
#include "wasi/wasi.hpp"
#include "wasm_text.hpp"

#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <climits>
#include <stdexcept>
#include <utility>

namespace edgeagent {

namespace {

// Until the configuration says otherwise.
constexpr std::size_t kHoseBytesMax = 1 << 30;

// A worker thread says to whom starts it whether it can work.
struct Start {
  Engine *engine;
  std::binary_semaphore said{0};
  bool is_ready = false;
};

} // namespace

Engine::Engine(int workers) : hoses_(std::make_shared<HosePool>(kHoseBytesMax)) {
  event_fd_ = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (event_fd_ < 0) {
    throw std::runtime_error("cannot make an eventfd");
  }
  ticker_.start();
  const std::lock_guard<std::mutex> lock(mutex_);
  while (workers_wanted_ < workers && start_worker()) {
    ++workers_wanted_;
  }
  if (workers_.empty()) {
    throw std::runtime_error("cannot start a worker thread");
  }
}

Engine::~Engine() {
  stop();
  for (const std::unique_ptr<Pool> &pool : pools_) {
    wt.wasmtime_linker_delete(pool->linker);
    wt.wasm_engine_delete(pool->engine);
  }
  ::close(event_fd_);
}

bool Engine::start_worker() {
  pthread_attr_t attributes{};
  pthread_attr_init(&attributes);
  pthread_attr_setstacksize(&attributes, kWorkerStackBytes);
  pthread_t thread{};
  Start given{this};
  const auto entry = [](void *raw) -> void * {
    auto *start = static_cast<Start *>(raw);
    Engine *engine = start->engine;
    const bool is_ready = ready_for_guests();
    start->is_ready = is_ready;
    start->said.release(); // from here `start` is gone
    if (is_ready) {
      engine->worker();
    }
    return nullptr;
  };
  bool started = pthread_create(&thread, &attributes, entry, &given) == 0;
  pthread_attr_destroy(&attributes);
  if (started) {
    given.said.acquire();
    started = given.is_ready;
    if (started) {
      workers_.push_back(thread);
    } else {
      pthread_join(thread, nullptr);
    }
  }
  return started;
}

void Engine::retire_worker() {
  const auto self = std::find_if(workers_.begin(), workers_.end(),
                                 [](pthread_t thread) { return pthread_equal(thread, pthread_self()) != 0; });
  retired_.push_back(*self);
  workers_.erase(self);
}

bool Engine::about_to_wait() {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (waiting_ >= kWaitingMax || joined_) {
    return false;
  }
  for (const pthread_t thread : retired_) {
    pthread_join(thread, nullptr); // it has let go of the mutex, and does nothing more
  }
  retired_.clear();
  ++waiting_;
  if (static_cast<int>(workers_.size()) - waiting_ < workers_wanted_) {
    start_worker(); // or else there is one less until this one is back
  }
  return true;
}

void Engine::done_waiting() {
  const std::lock_guard<std::mutex> lock(mutex_);
  --waiting_;
}

void Engine::post(Ask ask) {
  bool was_empty = false;
  {
    const std::lock_guard<std::mutex> lock(done_mutex_);
    was_empty = asks_.empty();
    asks_.push_back(std::move(ask));
  }
  if (was_empty) {
    const std::uint64_t one = 1;
    [[maybe_unused]] const ssize_t written = ::write(event_fd_, &one, sizeof(one));
  }
}

std::vector<Ask> Engine::take_asks() {
  std::vector<Ask> asks;
  const std::lock_guard<std::mutex> lock(done_mutex_);
  asks.swap(asks_);
  return asks;
}

void Engine::answer(std::uint64_t id, Answer answer) {
  const std::lock_guard<std::mutex> lock(mutex_);
  const auto found = in_flight_.find(id);
  if (found != in_flight_.end()) {
    found->second->answer(std::move(answer));
  }
}

std::size_t Engine::add_pool(wasm_engine_t *engine, int slots, bool is_large, std::uint64_t resident_bytes) {
  auto pool = std::make_unique<Pool>();
  pool->engine = wt.wasmtime_engine_clone(engine);
  pool->linker = wt.wasmtime_linker_new(pool->engine);
  pool->slots = slots;
  pool->is_large = is_large;
  pool->resident_bytes = resident_bytes;
  pools_.push_back(std::move(pool)); // owned from here, also when a definition below throws
  define_edge_log(pools_.back()->linker);
  define_wasi(pools_.back()->linker);
  define_edge_hose(pools_.back()->linker);
  define_edge_state(pools_.back()->linker);
  define_edge_accel(pools_.back()->linker);
  define_wasi_nn(pools_.back()->linker);
  if (!ticker_.add_engine(pools_.back()->engine)) {
    throw std::runtime_error("too many engines");
  }
  return pools_.size() - 1;
}

std::shared_ptr<Function> Engine::load(FunctionSpec spec, const std::string &code_path,
                                       const std::vector<std::size_t> &pools) {
  auto function = std::make_shared<Function>(std::move(spec));
  std::string why;
  for (const std::size_t i : pools) {
    if (std::string refused = function->add_source(*pools_.at(i), code_path); !refused.empty()) {
      why = std::move(refused);
    }
  }
  if (!function->has_source()) {
    throw std::runtime_error(why.empty() ? "no pool to load into" : why);
  }
  return function;
}

std::shared_ptr<Call> Engine::make_call(std::shared_ptr<Function> function, const std::uint8_t *body,
                                        std::size_t body_bytes, std::int64_t wall_ns) {
  const std::int64_t deadline = wall_ns > 0 ? now_ns() + wall_ns : INT64_MAX;
  auto call = std::make_shared<Call>(std::move(function), ticker_, body, body_bytes, deadline, hoses_, crossovers_);
  call->id = next_id_.fetch_add(1, std::memory_order_relaxed);
  return call;
}

bool Engine::needs_worker(const Call &call) {
  const Call *one = &call;
  while (one != nullptr && one->spec().stack_bytes <= kCallerStackMax) {
    one = one->next().get();
  }
  return one != nullptr;
}

std::shared_ptr<Call> Engine::run(const std::shared_ptr<Call> &call) {
  if (!needs_worker(*call)) {
    if (ready_for_guests()) {
      return run_chain(call);
    }
    call->out().fail(Failure::NoSlot, "the system has no memory or no mappings left for this thread");
    return call;
  }
  Waiting waiting;
  call->waiting = &waiting;
  submit(call);
  waiting.done.acquire();
  return std::move(waiting.last);
}

// All calls of a chain on this thread: no other has to wake up between two of them.
std::shared_ptr<Call> Engine::run_chain(std::shared_ptr<Call> call) {
  std::shared_ptr<Payload> given; // to the call that runs
  for (;;) {
    const std::shared_ptr<Call> next = call->next();
    if (next) {
      next->prepare_ahead();
    }
    call->run();
    std::shared_ptr<Payload> payload;
    const bool goes_on = next && call->hand_on(call, payload);
    if (goes_on) {
      replace(call, next);
    }
    if (given && given->size() >= kDropHereMax) {
      discard(std::move(given), true);
    }
    given = std::move(payload);
    if (!goes_on) {
      return call;
    }
    call = next;
  }
}

// The next call of a chain is the one to be cancelled, and to be answered, from now on.
void Engine::replace(const std::shared_ptr<Call> &call, const std::shared_ptr<Call> &next) {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (const auto found = in_flight_.find(call->id); found != in_flight_.end()) {
    found->second = next;
  }
  if (call->cancelled()) {
    next->cancel();
  }
}

bool Engine::start(const std::shared_ptr<Call> &call, bool may_inline) {
  if (may_inline && !call->has_input() && !call->next() && call->function()->may_run_inline(call->body_bytes()) && ready_for_guests()) {
    if (call->run_inline()) {
      counters_.inline_calls.fetch_add(1, std::memory_order_relaxed);
      return true;
    }
    counters_.inline_overruns.fetch_add(1, std::memory_order_relaxed);
    call->function()->overran(call->body_bytes());
  }
  call->ask_of(this);
  submit(call);
  return false;
}

void Engine::submit(const std::shared_ptr<Call> &call) {
  bool taken = false;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    taken = !joined_;
    if (taken) {
      in_flight_.emplace(call->id, call);
      queue_.push_back(call);
    }
  }
  if (taken) {
    wake_.notify_one();
  } else {
    call->abandon();
    complete(call);
  }
}

void Engine::discard(std::shared_ptr<Payload> payload, bool may_drop_here) {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    const std::size_t wanted = queue_.size() + discarded_.size();
    if (joined_ || (may_drop_here && static_cast<std::size_t>(idle_) <= wanted)) {
      return; // dropped here, once the lock is released
    }
    discarded_.push_back(std::move(payload));
  }
  wake_.notify_one();
}

void Engine::settle() {
  {
    std::unique_lock<std::mutex> lock(mutex_);
    dropped_.wait(lock, [this] { return joined_ || (discarded_.empty() && dropping_ == 0); });
  }
  hoses_->settle();
}

void Engine::cancel(std::uint64_t id) {
  const std::lock_guard<std::mutex> lock(mutex_);
  const auto found = in_flight_.find(id);
  if (found != in_flight_.end()) {
    found->second->cancel();
  }
}

void Engine::worker() {
  prctl(PR_SET_NAME, "edge-worker");
  // Long functions must not keep the event loop from its turn: workers are a little nicer than it (Linux: per thread).
  setpriority(PRIO_PROCESS, static_cast<id_t>(syscall(SYS_gettid)), kWorkerNice);
  for (;;) {
    std::shared_ptr<Call> call;
    std::vector<std::shared_ptr<Payload>> discarded;
    {
      std::unique_lock<std::mutex> lock(mutex_);
      if (static_cast<int>(workers_.size()) - waiting_ > workers_wanted_ && !stopped()) {
        retire_worker();
        wake_.notify_one(); // what this one was woken for
        return;
      }
      ++idle_;
      wake_.wait(lock, [this] { return !queue_.empty() || !discarded_.empty() || stopped(); });
      --idle_;
      discarded.swap(discarded_);
      dropping_ += discarded.empty() ? 0 : 1;
      if (queue_.empty() && discarded.empty()) {
        return;
      }
      if (!queue_.empty()) {
        call = std::move(queue_.front());
        queue_.pop_front();
      }
    }
    if (!discarded.empty()) {
      discarded.clear(); // before the call: it may need the slots
      const std::lock_guard<std::mutex> lock(mutex_);
      --dropping_;
      dropped_.notify_all();
    }
    if (!call) {
      continue;
    }
    counters_.workers_busy.fetch_add(1, std::memory_order_relaxed);
    counters_.worker_calls.fetch_add(1, std::memory_order_relaxed);
    call = run_chain(std::move(call));
    counters_.workers_busy.fetch_sub(1, std::memory_order_relaxed);
    complete(std::move(call));
  }
}

void Engine::complete(std::shared_ptr<Call> call) {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    in_flight_.erase(call->id);
  }
  if (Waiting *waiting = call->waiting; waiting != nullptr) {
    waiting->last = std::move(call);
    waiting->done.release();
    return;
  }
  bool was_empty = false;
  {
    const std::lock_guard<std::mutex> lock(done_mutex_);
    was_empty = done_.empty();
    done_.push_back(std::move(call));
  }
  if (was_empty) {
    const std::uint64_t one = 1;
    [[maybe_unused]] const ssize_t written = ::write(event_fd_, &one, sizeof(one));
  }
}

std::vector<std::shared_ptr<Call>> Engine::take_done() {
  std::uint64_t count = 0;
  [[maybe_unused]] const ssize_t got = ::read(event_fd_, &count, sizeof(count));
  std::vector<std::shared_ptr<Call>> done;
  const std::lock_guard<std::mutex> lock(done_mutex_);
  done.swap(done_);
  return done;
}

void Engine::stop() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (joined_) {
      return;
    }
    joined_ = true;
    stopping_.store(true, std::memory_order_release);
    for (const auto &[id, call] : in_flight_) {
      call->cancel();
    }
  }
  ticker_.tick();
  wake_.notify_all();
  // No thread starts or retires any more.
  for (const std::vector<pthread_t> *threads : {&workers_, &retired_}) {
    for (const pthread_t thread : *threads) {
      pthread_join(thread, nullptr);
    }
  }
  ticker_.stop();
  discarded_.clear();
  hoses_->stop_trying();
}

int Engine::live_instances() const {
  int live = 0;
  for (const std::unique_ptr<Pool> &pool : pools_) {
    live += pool->live.load(std::memory_order_relaxed);
  }
  return live;
}

std::size_t Engine::queued() {
  const std::lock_guard<std::mutex> lock(mutex_);
  return queue_.size();
}

} // namespace edgeagent
