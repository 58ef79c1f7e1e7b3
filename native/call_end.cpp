// How a call ends: its output, the reason of its failure, and what is given back.
#include "call.hpp"

#include "wasi/guest_memory.hpp"
#include "wasi/wasi.hpp"
#include "wasm_text.hpp"

#include <sys/resource.h>

#include <algorithm>
#include <memory>
#include <new>
#include <optional>
#include <utility>

namespace edgeagent {

namespace {

// A smaller output is copied out, so that its instance is free for the next call.
constexpr std::uint64_t kKeptBytesMin = 32 << 10;

// The kernel would not take a window away (no mappings left): the store and its slot stay until it does, rather than
// show the hose to their next tenant.
void set_aside(HosePool &hoses, wasmtime_store_t *store, std::uint8_t *base, Pool &slots, CallHoses &held) {
  try {
    auto ledger = std::make_shared<Ledger>(held.take_ledger());
    const bool taken = hoses.set_aside([ledger, store, base, &slots] {
      if (!ledger->release_all(base)) {
        return false;
      }
      wt.wasmtime_store_delete(store);
      slots.release();
      return true;
    });
    static_cast<void>(taken); // else it stays for ever, as the engine is at its end
  } catch (const std::bad_alloc &) {
    return; // it stays for ever
  }
}

} // namespace

long Call::minor_faults() {
  rusage usage{};
  getrusage(RUSAGE_THREAD, &usage);
  return usage.ru_minflt;
}

void Call::settle_output(std::uint64_t packed) {
  const std::uint64_t start = packed >> 32U;
  const std::uint64_t count = packed & 0xffffffffU;
  const std::uint64_t size = wt.wasmtime_memory_data_size(context_, &memory_);
  if (!GuestMemory(nullptr, size).holds(start, count)) {
    out_.fail(Failure::BadOutput, "edge_handle returned " + std::to_string(count) + " bytes at " +
                                      std::to_string(start) + ", outside the memory of " + std::to_string(size) +
                                      " bytes");
    return;
  }
  if (count > spec().output_bytes) {
    out_.fail(Failure::OutputTooLarge, "the output of " + std::to_string(count) + " bytes is over the limit of " +
                                           std::to_string(spec().output_bytes));
    return;
  }
  if (std::optional<HoseRange> range = hoses_ ? hoses_->in_loan(start, count) : std::nullopt) {
    // The guest does not run any more, so that nobody writes there; the rest of the store goes when there is time.
    kept_range_ = std::move(*range);
    keeps_store_ = keeps_output_ && source_->pool->keep();
    return;
  }
  if (count >= crossovers_.huge_bytes_min) {
    function_->was_bulk(size);
  }
  if (keeps_output_ && count >= kKeptBytesMin && source_->pool->keep()) {
    kept_start_ = start;
    kept_bytes_ = count;
    keeps_store_ = true;
  } else {
    out_.output.append(guest_base() + start, count);
  }
}

// Exit is how a command ends; for a bytes function it is a failure, with whatever code: there is no output then.
void Call::settle_failure(wasm_trap_t *trap, wasmtime_error_t *error) {
  if (wasi_ == nullptr || !wasi_->exited() || stop_ != Stop::None || host_failed_) {
    classify(trap, error);
    return;
  }
  drop_failure(trap, error);
  out_.exit_code = wasi_->exit_code();
  if (out_.exit_code != 0 || spec().abi == Abi::Bytes) {
    out_.fail(Failure::Exit, "exit code " + std::to_string(out_.exit_code));
  }
}

void Call::classify(wasm_trap_t *trap, wasmtime_error_t *error) {
  if (stop_ == Stop::Overrun) {
    drop_failure(trap, error);
    return;
  }
  if (host_failed_) {
    const Failure kind = out_.failure;
    std::string text = std::move(out_.message);
    describe_failure(out_, trap, error);
    out_.fail(kind, std::move(text));
    return;
  }
  describe_failure(out_, trap, error);
  if (stop_ == Stop::Deadline) {
    const bool callers = caller_deadline_ns_ < started_ns_ + spec().wall_ns;
    out_.fail(Failure::Deadline, callers ? std::string("the caller's deadline passed")
                                         : "the wall limit of " + std::to_string(spec().wall_ns / kNsPerMs) +
                                               " ms passed");
  } else if (stop_ == Stop::Cancelled) {
    out_.fail(Failure::Cancelled, "the call was cancelled");
  } else if (out_.trap_code == kTrapStackOverflow) {
    out_.failure = Failure::StackOverflow;
  } else if (out_.trap_code == kTrapOutOfFuel) {
    out_.failure = Failure::OutOfFuel;
  } else {
    out_.failure = Failure::Trap;
  }
}

void Call::drop_store() {
  if (future_ != nullptr) {
    wt.wasmtime_call_future_delete(future_);
    future_ = nullptr;
    drop_failure(fiber_trap_, fiber_error_);
    fiber_trap_ = nullptr;
    fiber_error_ = nullptr;
  }
  if (hoses_ && has_memory_ && !hoses_->restore()) {
    if (keeps_store_) {
      source_->pool->unkeep();
      keeps_store_ = false;
    }
    set_aside(*pool_, store_, guest_base(), *source_->pool, *hoses_);
    store_ = nullptr;
    source_ = nullptr;
  }
  if (store_ != nullptr) {
    wt.wasmtime_store_delete(store_);
    store_ = nullptr;
    has_memory_ = false;
  }
  if (source_ != nullptr) {
    if (keeps_store_) {
      source_->pool->unkeep();
      keeps_store_ = false;
    }
    source_->pool->release();
    source_ = nullptr;
  }
}

// What the function's next call in a chain should find: tier.hpp says where it is best.
void Call::tell_what_passed() {
  if (out_.failure == Failure::None && store_ != nullptr && in_chain()) {
    const std::uint64_t output = std::max<std::uint64_t>({kept_bytes_, kept_range_.bytes, out_.output.size()});
    const bool had_views = hoses_ && hoses_->had_views();
    function_->passed(crossovers_, {std::max<std::uint64_t>(body_bytes_, output), guest_bytes(), had_views});
  }
}

void Call::finish() {
  if (wasi_) {
    wasi_->take_results(out_);
  }
  state_.forget();
  if (out_.failure != Failure::None) {
    out_.output = Buffer();
    kept_range_ = HoseRange();
  }
  if (hoses_) {
    // Beside a body, or a standard input, of the call's own.
    HoseReport moved = hoses_->report();
    moved.copied += out_.hose.copied;
    if (moved.tier == Tier::None && moved.copied > 0) {
      moved.tier = Tier::Copy;
    }
    out_.hose = moved;
    hoses_->forget_input();
  }
  tell_what_passed();
  if (!keeps_store_ || out_.failure != Failure::None) {
    drop_store();
  }
  wasi_.reset();
  out_.duration_ns = used_ns_ > 0 ? used_ns_ : now_ns() - started_ns_;
  // Keeping more memory resident helps nobody whose pages come and go: those would be touched again, to be cleared.
  if (faults_before_ >= 0 && !keeps_output_ && !(hoses_ && hoses_->touched_pages())) {
    function_->faulted(minor_faults() - faults_before_);
  }
  if (out_.failure == Failure::None || out_.failure == Failure::Exit) {
    function_->record(body_bytes_, out_.duration_ns, out_.is_inline);
  }
}

bool Call::hand_on(const std::shared_ptr<Call> &self, std::shared_ptr<Payload> &payload) {
  const std::shared_ptr<Call> next = std::move(next_);
  if (out_.failure != Failure::None) {
    return false; // and what was made ahead goes
  }
  payload = take_payload(self);
  next->id = id;
  next->owner = std::exchange(owner, nullptr);
  next->waiting = std::exchange(waiting, nullptr);
  next->asked_ = asked_;
  out_.passed_bytes = payload ? payload->size() : out_.output.size();
  next->had_input_ = payload != nullptr;
  if (payload) {
    static_cast<void>(next->use_input(payload, true)); // nobody else has it
  } else {
    next->body_ = out_.output.data(); // which moves along without its bytes moving
    next->body_bytes_ = out_.output.size();
  }
  next->earlier_ = std::move(earlier_);
  next->earlier_.push_back(std::move(out_));
  return true;
}

std::shared_ptr<Payload> Call::take_payload(const std::shared_ptr<Call> &self) {
  if (out_.failure != Failure::None) {
    return nullptr;
  }
  Attachments attachments = hoses_ ? hoses_->take_attachments() : Attachments();
  if (kept_range_.hose) {
    return std::make_shared<Payload>(std::move(kept_range_), keeps_store_ ? self : nullptr, std::move(attachments));
  }
  if (!keeps_store_ && attachments.empty() && out_.output.size() < kKeptBytesMin) {
    return nullptr;
  }
  if (keeps_store_) {
    return std::make_shared<Payload>(self, kept_start_, kept_bytes_, std::move(attachments));
  }
  return std::make_shared<Payload>(std::move(out_.output), std::move(attachments));
}

} // namespace edgeagent
