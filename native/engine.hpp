// The engine: pools of instances, the ticker, worker threads, and one batched eventfd for completions.
//
// Workers never take the GIL: they resolve nothing, they append finished calls to a list and write the eventfd when
// the list was empty. The event loop's reader takes the whole list (take_done).
//
// Exit order (stop): no new calls; every call cancelled; one tick; workers and ticker joined; what is left in the
// queue and the list handed to the last take_done.
#pragma once

#include "call.hpp"
#include "ticker.hpp"

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

namespace edgeagent {

struct EngineCounters {
  std::atomic<std::uint64_t> inline_calls{0};
  std::atomic<std::uint64_t> worker_calls{0};
  std::atomic<std::uint64_t> inline_overruns{0};
  std::atomic<int> workers_busy{0};
};

class Engine : private Asked {
public:
  explicit Engine(int workers);
  Engine(const Engine &) = delete;
  Engine &operator=(const Engine &) = delete;
  ~Engine() override;

  // Clones the raw engine handle that Python made, and defines the host functions for it.
  std::size_t add_pool(wasm_engine_t *engine, int slots, bool is_large, std::uint64_t resident_bytes);
  // Throws std::runtime_error with wasmtime's text when no pool takes the module.
  std::shared_ptr<Function> load(FunctionSpec spec, const std::string &code_path, const std::vector<std::size_t> &pools);

  std::shared_ptr<Call> make_call(std::shared_ptr<Function> function, const std::uint8_t *body, std::size_t body_bytes,
                                  std::int64_t wall_ns);
  const std::shared_ptr<HosePool> &hoses() const { return hoses_; }
  Crossovers &crossovers() { return crossovers_; }
  // Lets go of a payload on a worker: dropping large memory takes milliseconds. `may_drop_here`: unless none is idle,
  // for what waits for one meanwhile is memory that nobody has use for.
  void discard(std::shared_ptr<Payload> payload, bool may_drop_here);
  // Waits until nothing is left to be let go of, nor to be cleared in the pool of hoses (benchmarks and tests).
  void settle();
  // Letting go of less takes less time than waking a worker for it.
  static constexpr std::uint64_t kDropHereMax = 1 << 20;
  // Synchronous, on this thread; on a worker when the function's stack is larger than a caller may have.
  // Returns the call that ended the chain which begins with this one: itself, where it is none.
  std::shared_ptr<Call> run(const std::shared_ptr<Call> &call);
  // Event loop's thread. True: finished. False: a worker has it, its id comes back through take_done.
  bool start(const std::shared_ptr<Call> &call, bool may_inline);
  void cancel(std::uint64_t id);
  std::vector<std::shared_ptr<Call>> take_done();
  // What running calls ask, and the answer to one of them; of a call that has ended meanwhile it is dropped.
  std::vector<Ask> take_asks();
  void answer(std::uint64_t id, Answer answer);
  int event_fd() const { return event_fd_; }

  void stop(); // idempotent
  bool stopped() const { return stopping_.load(std::memory_order_acquire); }

  int live_instances() const;
  std::size_t queued();
  int workers() const { return workers_wanted_; }
  const EngineCounters &counters() const { return counters_; }

private:
  // A synchronous call on a thread that we did not make must leave room for the thread's own frames.
  static constexpr std::size_t kCallerStackMax = 2 << 20;
  static constexpr std::size_t kWorkerStackBytes = 10 << 20;
  static constexpr int kWorkerNice = 10;
  // Calls that wait for the node at once; each has a thread to itself meanwhile.
  static constexpr int kWaitingMax = 256;

  std::shared_ptr<Call> run_chain(std::shared_ptr<Call> call);
  void replace(const std::shared_ptr<Call> &call, const std::shared_ptr<Call> &next);
  static bool needs_worker(const Call &call);
  void submit(const std::shared_ptr<Call> &call);
  void worker();
  void complete(std::shared_ptr<Call> call);
  bool start_worker();
  void retire_worker();
  bool about_to_wait() override;
  void done_waiting() override;
  void post(Ask ask) override;

  Ticker ticker_;
  std::shared_ptr<HosePool> hoses_;
  Crossovers crossovers_; // set before the first call
  std::vector<std::unique_ptr<Pool>> pools_;
  int workers_wanted_ = 0; // that do not wait
  std::atomic<bool> stopping_{false};
  bool joined_ = false;
  std::atomic<std::uint64_t> next_id_{1};
  int event_fd_ = -1;
  EngineCounters counters_;

  std::mutex mutex_; // guards what follows
  std::vector<pthread_t> workers_;
  std::vector<pthread_t> retired_; // to be joined
  int waiting_ = 0;
  int idle_ = 0;     // workers with nothing to do
  int dropping_ = 0; // those that let go of payloads
  std::condition_variable wake_;
  std::condition_variable dropped_;
  std::deque<std::shared_ptr<Call>> queue_;
  std::vector<std::shared_ptr<Payload>> discarded_;
  std::unordered_map<std::uint64_t, std::shared_ptr<Call>> in_flight_;

  std::mutex done_mutex_;
  std::vector<std::shared_ptr<Call>> done_;
  std::vector<Ask> asks_;
};

} // namespace edgeagent
