// One invocation from admission to outcome.
//
// Theory of operation. A call owns a fresh store and instance. It runs in one of three phases:
//
//   Alloc   edge_alloc of a call that may run inline: short by contract, so YIELD is not allowed yet; if the ticker
//           fires here the instance is dropped and the call starts again on a worker.
//   Inline  on the event loop's thread, on a fiber: a tick makes the fiber yield and a worker resumes it.
//   Worker  on a worker thread, or on the caller's own thread for a synchronous call.
//
// A store has one epoch callback (on_epoch), the one place where the wall deadline, cancellation and the inline slice
// are decided. Rules:
//   1. Starting again is safe: before a call has finished, nothing of it is visible outside (output, log lines and
//      standard error are buffered in the call, scratch is private).
//   2. Only the thread that runs the call touches it, but for `cancel()`, which sets an atomic and wakes a sleeper.
//   3. The store is deleted, and the pool's permit given back, in finish() or in the destructor, whatever happened.
#pragma once

#include "ask.hpp"
#include "clock.hpp"
#include "function.hpp"
#include "hose/call_hoses.hpp"
#include "outcome.hpp"
#include "state/call_state.hpp"
#include "ticker.hpp"
#include "wasmtime_api.hpp"

#include <atomic>
#include <cstdint>
#include <memory>
#include <semaphore>
#include <string>
#include <vector>

namespace edgeagent {

class Wasi;
class Call;

// A caller that waits on its own thread for what a worker runs.
struct Waiting {
  std::binary_semaphore done{0};
  std::shared_ptr<Call> last; // of the chain, which tells how it ended
};

enum class Phase : std::uint8_t { Alloc, Inline, Worker };
enum class Stop : std::uint8_t { None, Deadline, Cancelled, Overrun };

class Call {
public:
  Call(std::shared_ptr<Function> function, Ticker &ticker, const std::uint8_t *body, std::size_t body_bytes,
       std::int64_t caller_deadline_ns, const std::shared_ptr<HosePool> &pool, const Crossovers &crossovers);
  Call(const Call &) = delete;
  Call &operator=(const Call &) = delete;
  ~Call();

  // What runs after this call on its output, on the same thread and by the same deadline of the caller.
  void run_next(std::shared_ptr<Call> next) { next_ = std::move(next); }
  const std::shared_ptr<Call> &next() const { return next_; }
  // Makes the instance while the call before it has yet to run, where slots are plenty: the hand-over then finds it.
  void prepare_ahead();
  // This call, run by now, gives the next one its output and all that the chain's caller waits for. `payload` must stay
  // until the next one has run. False: this one failed, and the chain ends with it.
  bool hand_on(const std::shared_ptr<Call> &self, std::shared_ptr<Payload> &payload);
  // Of the calls of a chain that ran before this one, in their order.
  std::vector<Outcome> take_earlier() { return std::move(earlier_); }

  void use_args(std::vector<std::string> args) {
    args_ = std::move(args);
    has_args_ = true;
  }

  // The output of another call instead of a body; false when it was taken already. Worker phase only.
  bool use_input(std::shared_ptr<Payload> input, bool may_move);
  bool has_input() const { return hoses_ && hoses_->input() != nullptr; }
  // The output stays where it is and is asked for with take_payload().
  void keep_output() { keeps_output_ = true; }

  // Runs to the end on this thread.
  void run();
  // Runs on a fiber on this thread for at most about one tick. False: a worker must call run().
  bool run_inline();

  // From any thread.
  void cancel();
  bool cancelled() const { return (wake_word_.load(std::memory_order_acquire) & kCancelled) != 0; }
  // Another thread's answer to what this call asks.
  void answer(Answer answer);
  // Waits until `until_ns`, the deadline or cancellation, whichever is first; false when the call must stop.
  bool sleep_until(std::int64_t until_ns);
  // Who is asked; null (a synchronous call): nobody, and every ask is refused.
  void ask_of(Asked *asked) { asked_ = asked; }
  // Asks the node and waits for its answer; false when the call must stop.
  bool ask(Ask ask, Answer &answer);
  bool has_asked() const { return asked_ != nullptr; }
  bool is_stopping() const { return stop_ != Stop::None; }
  // Sets the reason to stop if there is one now.
  bool must_stop();

  const std::shared_ptr<Function> &function() const { return function_; }
  const FunctionSpec &spec() const { return function_->spec(); }
  const std::vector<std::string> &args() const { return has_args_ ? args_ : spec().args; }
  const std::uint8_t *body() const { return body_; }
  std::size_t body_bytes() const { return body_bytes_; }
  Outcome &out() { return out_; }
  Wasi *wasi() { return wasi_.get(); }
  // The exported memory once the instance exists, else null (a start function is running).
  const wasmtime_memory_t *memory() const { return has_memory_ ? &memory_ : nullptr; }
  std::int64_t deadline_ns() const { return deadline_ns_; }
  std::uint8_t *guest_base() const { return wt.wasmtime_memory_data(context_, &memory_); }
  std::uint64_t guest_bytes() const { return wt.wasmtime_memory_data_size(context_, &memory_); }
  // edge_alloc, or with `align` > 0 edge_alloc_aligned; false: the guest failed, and the call with it.
  bool allocate(std::uint32_t bytes, std::uint32_t align, std::uint32_t &ptr);
  CallHoses &hoses();
  // What of the memory came by hoses.
  std::vector<HoseMessage> hose_views() const;
  CallState &state() { return state_; }
  // Bytes of this range are about to be written: 2 MiB pages are asked for where that pays.
  void expect_bulk(std::uint64_t start, std::uint64_t bytes);
  bool may_give(std::uint64_t start, std::uint64_t bytes) const {
    return hoses_ ? hoses_->may_give(start, bytes)
                  : start >= spec().data_end && start + bytes <= guest_bytes();
  }
  // Whether [0, end) of the memory stays resident in this call's slot when the next tenant has it.
  bool keeps_resident(std::uint64_t end) const { return source_ != nullptr && end <= source_->pool->resident_bytes; }
  bool may_exchange() { return source_ != nullptr && source_->pool->may_exchange(guest_base()); }
  bool host_failed() const { return host_failed_; }
  // Of a call that kept its output and succeeded; `self` is this call. Once. Null where the output is small: then it is
  // in out(), for a few bytes are quicker copied than kept.
  std::shared_ptr<Payload> take_payload(const std::shared_ptr<Call> &self);
  bool keeps_output() const { return keeps_output_; }
  // Of a call that did not keep its output but wrote it into a hose; else empty.
  HoseRange take_range() { return std::move(kept_range_); }

  // A host function that ends the guest says why here and returns a trap.
  void fail_from_host(Failure kind, std::string text);
  // Ends a call that no thread will run any more.
  void abandon() { out_.fail(Failure::Cancelled, "the engine was closed"); }

  std::uint64_t id = 0;
  void *owner = nullptr;              // what keeps the body alive; belongs to the bindings
  Waiting *waiting = nullptr; // a synchronous caller that waits for a worker

private:
  static wasmtime_error_t *on_epoch(wasmtime_context_t *context, void *env, std::uint64_t *delta, std::uint8_t *kind);

  void wake(std::uint32_t why);
  void wait_awake(std::int64_t until_ns);
  static long minor_faults();
  bool in_chain() const { return spec().uses_hose || keeps_output_ || had_input_; }
  void tell_what_passed();
  bool prepare();
  bool make_instance();
  bool instantiate();
  bool find_exports();
  bool initialize();
  bool copy_body_in();
  void settle_output(std::uint64_t packed);
  void run_bytes();
  void run_command();
  void start_fiber();
  void after_fiber();
  void settle_failure(wasm_trap_t *trap, wasmtime_error_t *error);
  void classify(wasm_trap_t *trap, wasmtime_error_t *error);
  void drop_store();
  void finish();
  void reset_for_worker();
  bool export_func(const char *name, wasmtime_func_t &out);

  std::shared_ptr<Function> function_;
  Ticker &ticker_;
  const std::uint8_t *body_;
  std::size_t body_bytes_;
  std::int64_t caller_deadline_ns_;
  std::int64_t deadline_ns_ = 0;
  std::int64_t started_ns_ = 0;
  std::int64_t used_ns_ = 0; // run time before a hand-over
  long faults_before_ = -1;
  std::vector<std::string> args_;
  bool has_args_ = false;
  bool has_memory_ = false;
  bool host_failed_ = false;
  Phase phase_ = Phase::Worker;
  Stop stop_ = Stop::None;
  // What a thread that waits in here is woken for; a futex.
  static constexpr std::uint32_t kCancelled = 1;
  static constexpr std::uint32_t kAnswered = 2;
  std::atomic<std::uint32_t> wake_word_{0};
  Asked *asked_ = nullptr;
  Answer answer_; // valid once kAnswered is set

  const Source *source_ = nullptr;
  wasmtime_store_t *store_ = nullptr;
  wasmtime_context_t *context_ = nullptr;
  wasmtime_instance_t instance_{};
  wasmtime_memory_t memory_{};
  wasmtime_func_t alloc_{};
  wasmtime_func_t aligned_alloc_{};
  wasmtime_func_t entry_{};
  std::uint32_t guest_ptr_ = 0;

  // A fiber's arguments and results must outlive it.
  wasmtime_call_future_t *future_ = nullptr;
  wasmtime_val_t fiber_args_[2]{};
  wasmtime_val_t fiber_result_{};
  wasm_trap_t *fiber_trap_ = nullptr;
  wasmtime_error_t *fiber_error_ = nullptr;

  std::unique_ptr<Wasi> wasi_;
  Outcome out_;

  const std::shared_ptr<HosePool> &pool_; // the engine's, as the crossovers are
  const Crossovers &crossovers_;
  std::unique_ptr<CallHoses> hoses_;
  CallState state_{*this};
  bool had_input_ = false; // of another call
  bool keeps_output_ = false;
  bool keeps_store_ = false;
  bool is_ahead_ = false; // the instance is there already
  std::shared_ptr<Call> next_;
  std::vector<Outcome> earlier_;
  std::uint64_t kept_start_ = 0; // of an output that lies in the guest's memory
  std::uint64_t kept_bytes_ = 0;
  HoseRange kept_range_; // of one that lies in a hose
};

} // namespace edgeagent
