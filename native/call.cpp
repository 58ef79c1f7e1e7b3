#include "call.hpp"

#include "hose/remap.hpp"
#include "wasi/guest_memory.hpp"
#include "wasi/wasi.hpp"
#include "wasm_text.hpp"

#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <climits>
#include <cstring>
#include <new>
#include <string_view>

namespace edgeagent {

namespace {

constexpr std::int64_t kTableElementsMax = 1'000'000;
constexpr std::int64_t kTablesMax = 16;
// Two ticks, so that a call is never interrupted for a tick that was about to come anyway.
constexpr std::uint64_t kFirstDeadlineTicks = 2;
constexpr std::int64_t kInlineSliceNs = kNsPerMs;

} // namespace

Call::Call(std::shared_ptr<Function> function, Ticker &ticker, const std::uint8_t *body, std::size_t body_bytes,
           std::int64_t caller_deadline_ns, const std::shared_ptr<HosePool> &pool, const Crossovers &crossovers)
    : function_(std::move(function)), ticker_(ticker), body_(body), body_bytes_(body_bytes),
      caller_deadline_ns_(caller_deadline_ns), pool_(pool), crossovers_(crossovers) {}

Call::~Call() { drop_store(); }

wasmtime_error_t *Call::on_epoch(wasmtime_context_t *, void *env, std::uint64_t *delta, std::uint8_t *kind) {
  Call &call = *static_cast<Call *>(env);
  *delta = 1;
  *kind = kEpochContinue;
  if (call.must_stop()) {
    return wt.wasmtime_error_new("stopped by the node");
  }
  if (call.phase_ != Phase::Worker && now_ns() - call.started_ns_ < kInlineSliceNs) {
    return nullptr; // a tick that only happened to fall into a short call
  }
  if (call.phase_ == Phase::Alloc) {
    call.stop_ = Stop::Overrun;
    return wt.wasmtime_error_new("inline slice used up");
  }
  if (call.phase_ == Phase::Inline) {
    *kind = kEpochYield;
  }
  return nullptr;
}

bool Call::must_stop() {
  if (cancelled()) {
    stop_ = Stop::Cancelled;
  } else if (now_ns() >= deadline_ns_) {
    stop_ = Stop::Deadline;
  } else {
    return false;
  }
  return true;
}

void Call::wake(std::uint32_t why) {
  wake_word_.fetch_or(why, std::memory_order_release);
  syscall(SYS_futex, reinterpret_cast<std::uint32_t *>(&wake_word_), FUTEX_WAKE | FUTEX_PRIVATE_FLAG, INT_MAX, nullptr,
          nullptr, 0);
}

void Call::cancel() { wake(kCancelled); }

void Call::answer(Answer answer) {
  answer_ = std::move(answer);
  wake(kAnswered);
}

bool Call::ask(Ask ask, Answer &answer) {
  if (asked_ == nullptr || !asked_->about_to_wait()) {
    answer.status = asked_ == nullptr ? kHoseBad : kHoseFull;
    return true;
  }
  ask.call_id = id;
  ask.function = spec().name;
  asked_->post(std::move(ask));
  bool is_answered = false;
  while (!is_answered && !must_stop()) {
    wait_awake(deadline_ns_);
    is_answered = (wake_word_.load(std::memory_order_acquire) & kAnswered) != 0;
  }
  asked_->done_waiting();
  if (is_answered) {
    answer = std::move(answer_);
    wake_word_.fetch_and(~kAnswered, std::memory_order_relaxed);
  }
  return is_answered;
}

// Until there is a reason to wake, or `until_ns`.
void Call::wait_awake(std::int64_t until_ns) {
  const std::int64_t left = until_ns - now_ns();
  if (left <= 0) {
    return;
  }
  timespec wait{};
  wait.tv_sec = static_cast<time_t>(left / 1'000'000'000);
  wait.tv_nsec = static_cast<long>(left % 1'000'000'000);
  syscall(SYS_futex, reinterpret_cast<std::uint32_t *>(&wake_word_), FUTEX_WAIT | FUTEX_PRIVATE_FLAG, 0U, &wait, nullptr,
          nullptr, 0);
}

bool Call::sleep_until(std::int64_t until_ns) {
  const std::int64_t end = std::min(until_ns, deadline_ns_);
  while (!must_stop()) {
    if (end <= now_ns()) {
      return true;
    }
    wait_awake(end);
  }
  return false;
}

void Call::fail_from_host(Failure kind, std::string text) {
  host_failed_ = true;
  out_.fail(kind, std::move(text));
}

bool Call::prepare() {
  started_ns_ = now_ns();
  deadline_ns_ = std::min(caller_deadline_ns_, started_ns_ + spec().wall_ns);
  if (must_stop()) {
    classify(nullptr, nullptr);
    return false;
  }
  if (is_ahead_) {
    wt.wasmtime_context_set_epoch_deadline(context_, kFirstDeadlineTicks); // ticks went by meanwhile
    return true;
  }
  source_ = function_->acquire(in_chain(), keeps_output_);
  if (source_ == nullptr) {
    out_.fail(Failure::NoSlot, "every instance slot is in use");
    return false;
  }
  faults_before_ = function_->should_count_faults() ? minor_faults() : -1;
  return make_instance() && (!spec().has_initialize || initialize());
}

void Call::prepare_ahead() {
  if (spec().abi != Abi::Bytes || spec().needs_wasi || spec().has_start || spec().has_initialize) {
    return; // making it runs code of the guest, which has its time then
  }
  had_input_ = true; // as it will have
  source_ = function_->acquire(true, keeps_output_);
  if (source_ == nullptr) {
    return;
  }
  bool is_made = false;
  try {
    is_made = source_->pool->has_plenty() && make_instance();
  } catch (const std::bad_alloc &) {
    is_made = false;
  }
  if (!is_made) { // when its turn has come it tries again, and may fail
    drop_store();
    out_ = Outcome();
    stop_ = Stop::None;
  }
  is_ahead_ = is_made;
}

bool Call::make_instance() {
  store_ = wt.wasmtime_store_new(source_->pool->engine, this, nullptr);
  context_ = wt.wasmtime_store_context(store_);
  wt.wasmtime_store_limiter(store_, spec().memory_bytes, kTableElementsMax, 1, kTablesMax, 1);
  wt.wasmtime_store_epoch_deadline_callback(store_, &Call::on_epoch, this, nullptr);
  wt.wasmtime_context_set_epoch_deadline(context_, kFirstDeadlineTicks);
  if (spec().fuel > 0) {
    if (wasmtime_error_t *error = wt.wasmtime_context_set_fuel(context_, spec().fuel)) {
      classify(nullptr, error);
      return false;
    }
  }
  if (spec().abi == Abi::Command || spec().needs_wasi) {
    wasi_ = std::make_unique<Wasi>(*this);
    if (std::string why = wasi_->open_scratch(); !why.empty()) {
      out_.fail(Failure::Scratch, std::move(why));
      return false;
    }
  }
  return instantiate() && find_exports();
}

// WASI reactors (C libraries built with -mexec-model=reactor) want their constructors run before anything else.
bool Call::initialize() {
  wasmtime_func_t function{};
  if (!export_func("_initialize", function)) {
    return false;
  }
  wasm_trap_t *trap = nullptr;
  wasmtime_val_raw_t none{};
  wasmtime_error_t *error = wt.wasmtime_func_call_unchecked(context_, &function, &none, 1, &trap);
  if (trap == nullptr && error == nullptr) {
    return true;
  }
  settle_failure(trap, error);
  return false;
}

bool Call::instantiate() {
  wasm_trap_t *trap = nullptr;
  wasmtime_error_t *error = wt.wasmtime_instance_pre_instantiate(source_->pre, context_, &instance_, &trap);
  if (trap == nullptr && error == nullptr) {
    return true;
  }
  if (trap == nullptr && stop_ == Stop::None && !host_failed_ && !(wasi_ && wasi_->exited())) {
    describe_failure(out_, nullptr, error);
    // The kernel's refusals (no memory, no mappings left) pass, the module's do not.
    const bool is_systems = out_.message.find("os error") != std::string::npos;
    out_.fail(is_systems ? Failure::NoSlot : Failure::Instantiation,
              is_systems ? "the system has no memory or no mappings left: " + out_.message : out_.message);
  } else {
    settle_failure(trap, error);
  }
  return false;
}

bool Call::export_func(const char *name, wasmtime_func_t &out) {
  wasmtime_extern_t item{};
  if (!wt.wasmtime_instance_export_get(context_, &instance_, name, std::strlen(name), &item) ||
      item.kind != kExternFunc) {
    out_.fail(Failure::Instantiation, std::string("the module does not export the function ") + name);
    return false;
  }
  out = item.of.func;
  return true;
}

bool Call::find_exports() {
  wasmtime_extern_t item{};
  if (!wt.wasmtime_instance_export_get(context_, &instance_, "memory", 6, &item) || item.kind != kExternMemory) {
    out_.fail(Failure::Instantiation, "the module does not export a memory");
    return false;
  }
  memory_ = item.of.memory;
  has_memory_ = true;
  if (const std::uint64_t bulk = function_->bulk_bytes(); bulk > 0) {
    expect_bulk(spec().data_end < bulk ? spec().data_end : 0, std::min(bulk, static_cast<std::uint64_t>(spec().memory_bytes)));
  }
  return export_func(spec().abi == Abi::Command ? "_start" : "edge_handle", entry_) &&
         (!(spec().has_alloc || spec().abi == Abi::Bytes) || export_func("edge_alloc", alloc_)) &&
         (!spec().has_aligned_alloc || export_func("edge_alloc_aligned", aligned_alloc_));
}

bool Call::allocate(std::uint32_t bytes, std::uint32_t align, std::uint32_t &ptr) {
  wasmtime_val_raw_t values[2]{};
  values[0].i32 = static_cast<std::int32_t>(bytes);
  values[1].i32 = static_cast<std::int32_t>(align);
  wasm_trap_t *trap = nullptr;
  wasmtime_error_t *error = wt.wasmtime_func_call_unchecked(context_, align > 0 ? &aligned_alloc_ : &alloc_, values,
                                                            align > 0 ? 2 : 1, &trap);
  if (trap != nullptr || error != nullptr) {
    settle_failure(trap, error);
    host_failed_ = true; // where a host function asked for it, the guest ends with this
    return false;
  }
  ptr = static_cast<std::uint32_t>(values[0].i32);
  return true;
}

bool Call::copy_body_in() {
  if (hoses_ && hoses_->input() != nullptr) {
    return hoses_->place_input(guest_ptr_);
  }
  if (body_bytes_ > UINT32_MAX) {
    out_.fail(Failure::BadOutput, "the body does not fit a 32-bit memory");
    return false;
  }
  if (!allocate(static_cast<std::uint32_t>(body_bytes_), 0, guest_ptr_)) {
    return false;
  }
  const std::uint64_t size = wt.wasmtime_memory_data_size(context_, &memory_);
  if (!GuestMemory(nullptr, size).holds(guest_ptr_, body_bytes_)) {
    out_.fail(Failure::BadOutput, "edge_alloc(" + std::to_string(body_bytes_) + ") returned " +
                                      std::to_string(guest_ptr_) + ", outside the memory of " + std::to_string(size) +
                                      " bytes");
    return false;
  }
  if (body_bytes_ > 0) {
    expect_bulk(guest_ptr_, body_bytes_);
    out_.hose.tier = Tier::Copy;
    out_.hose.copied = body_bytes_;
    std::memcpy(wt.wasmtime_memory_data(context_, &memory_) + guest_ptr_, body_, body_bytes_);
  }
  return true;
}

void Call::run() {
  Armed armed(ticker_);
  try {
    if (future_ != nullptr) { // handed over by run_inline
      phase_ = Phase::Worker;
      faults_before_ = -1; // counted on another thread
      const std::int64_t resumed = now_ns();
      while (!wt.wasmtime_call_future_poll(future_)) {
      }
      used_ns_ += now_ns() - resumed;
      after_fiber();
    } else if (phase_ = Phase::Worker; prepare()) {
      if (spec().abi == Abi::Command) {
        run_command();
      } else {
        run_bytes();
      }
    }
  } catch (const std::bad_alloc &) {
    out_.fail(Failure::Trap, "the node is out of memory");
  }
  finish();
}

void Call::run_bytes() {
  if (!copy_body_in()) {
    return;
  }
  wasmtime_val_raw_t values[2]{};
  values[0].i32 = static_cast<std::int32_t>(guest_ptr_);
  values[1].i32 = static_cast<std::int32_t>(static_cast<std::uint32_t>(body_bytes_));
  wasm_trap_t *trap = nullptr;
  out_.entered_ns = now_ns();
  wasmtime_error_t *error = wt.wasmtime_func_call_unchecked(context_, &entry_, values, 2, &trap);
  out_.returned_ns = now_ns();
  if (trap != nullptr || error != nullptr) {
    settle_failure(trap, error);
    return;
  }
  settle_output(static_cast<std::uint64_t>(values[0].i64));
}

void Call::run_command() {
  wasm_trap_t *trap = nullptr;
  wasmtime_val_raw_t none{};
  wasmtime_error_t *error = wt.wasmtime_func_call_unchecked(context_, &entry_, &none, 1, &trap);
  if (trap != nullptr || error != nullptr) {
    settle_failure(trap, error);
  }
}

bool Call::run_inline() {
  Armed armed(ticker_);
  out_.is_inline = true;
  phase_ = Phase::Alloc;
  const bool ready = prepare() && (spec().abi == Abi::Command || copy_body_in());
  if (stop_ == Stop::Overrun) {
    reset_for_worker();
    return false;
  }
  if (!ready) {
    finish();
    return true;
  }
  phase_ = Phase::Inline;
  start_fiber();
  const bool finished = wt.wasmtime_call_future_poll(future_);
  used_ns_ = now_ns() - started_ns_;
  if (!finished) {
    out_.is_inline = false;
    return false;
  }
  try {
    after_fiber();
  } catch (const std::bad_alloc &) {
    out_.fail(Failure::Trap, "the node is out of memory");
  }
  finish();
  return true;
}

void Call::start_fiber() {
  if (spec().abi == Abi::Bytes) {
    fiber_args_[0].kind = kValI32;
    fiber_args_[0].of.i32 = static_cast<std::int32_t>(guest_ptr_);
    fiber_args_[1].kind = kValI32;
    fiber_args_[1].of.i32 = static_cast<std::int32_t>(static_cast<std::uint32_t>(body_bytes_));
    future_ = wt.wasmtime_func_call_async(context_, &entry_, fiber_args_, 2, &fiber_result_, 1, &fiber_trap_,
                                          &fiber_error_);
  } else {
    future_ = wt.wasmtime_func_call_async(context_, &entry_, nullptr, 0, nullptr, 0, &fiber_trap_, &fiber_error_);
  }
}

void Call::after_fiber() {
  wt.wasmtime_call_future_delete(future_);
  future_ = nullptr;
  wasm_trap_t *trap = fiber_trap_;
  wasmtime_error_t *error = fiber_error_;
  fiber_trap_ = nullptr;
  fiber_error_ = nullptr;
  if (trap != nullptr || error != nullptr) {
    settle_failure(trap, error);
  } else if (spec().abi == Abi::Bytes) {
    settle_output(static_cast<std::uint64_t>(fiber_result_.of.i64));
  }
}

void Call::expect_bulk(std::uint64_t start, std::uint64_t bytes) {
  if (bytes >= crossovers_.huge_bytes_min) {
    advise_huge(guest_base() + start, bytes);
  }
}

CallHoses &Call::hoses() {
  if (!hoses_) {
    hoses_ = std::make_unique<CallHoses>(*this, pool_, crossovers_);
  }
  return *hoses_;
}

std::vector<HoseMessage> Call::hose_views() const {
  return hoses_ ? hoses_->views() : std::vector<HoseMessage>();
}

bool Call::use_input(std::shared_ptr<Payload> input, bool may_move) {
  if (!hoses().use_input(std::move(input), may_move)) {
    return false;
  }
  had_input_ = true;
  // A command reads its input where it lies: one copy, into its own buffer.
  body_ = hoses_->input()->data();
  body_bytes_ = hoses_->input()->size();
  return true;
}

void Call::reset_for_worker() {
  drop_store();
  hoses_.reset(); // a call with an input from another never runs inline
  wasi_.reset();
  out_ = Outcome();
  stop_ = Stop::None;
  host_failed_ = false;
  phase_ = Phase::Worker;
}

} // namespace edgeagent
