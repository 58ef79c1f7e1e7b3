// A loaded function: where its instances come from, its limits, and what its history says about inline execution.
#pragma once

#include "hose/tier.hpp"
#include "wasmtime_api.hpp"

#include <array>
#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

namespace edgeagent {

enum class Abi : std::uint8_t { Bytes, Command };

// One wasmtime engine with its host functions; ``slots`` = 0 means that instances are mapped on demand.
struct Pool {
  wasm_engine_t *engine = nullptr;
  wasmtime_linker_t *linker = nullptr;
  int slots = 0;
  bool is_large = false;
  std::uint64_t resident_bytes = 0; // of each slot's memory, cleared and kept from one tenant to the next
  std::atomic<int> live{0};
  std::atomic<int> kept{0}; // instances that only wait for their output to be taken

  // A full pool is an error inside wasmtime: take a permit first.
  bool acquire() {
    const int before = live.fetch_add(1, std::memory_order_acq_rel);
    if (slots > 0 && before >= slots) {
      live.fetch_sub(1, std::memory_order_acq_rel);
      return false;
    }
    return true;
  }
  void release() { live.fetch_sub(1, std::memory_order_acq_rel); }
  // At most half of the slots may wait: outputs that nobody takes must not stop the calls that would take them.
  bool keep() {
    if (kept.fetch_add(1, std::memory_order_acq_rel) < (slots > 0 ? slots / 2 : kKeptOnDemandMax)) {
      return true;
    }
    unkeep();
    return false;
  }
  // For what is not needed yet: at least half of the slots must stay for what is.
  bool has_plenty() const { return slots == 0 || 2 * live.load(std::memory_order_relaxed) <= slots; }
  bool may_keep() const { return kept.load(std::memory_order_relaxed) < (slots > 0 ? slots / 2 : kKeptOnDemandMax); }
  // Whether the slot with its memory at `base` may have seams between pages of different origin: a bound for mappings.
  bool may_exchange(const std::uint8_t *base);
  void unkeep() { kept.fetch_sub(1, std::memory_order_acq_rel); }

private:
  static constexpr int kKeptOnDemandMax = 64;
  static constexpr std::size_t kExchangingMax = 48; // of at most 256 seams each

  std::mutex mutex_;
  std::vector<const std::uint8_t *> exchanging_;
};

struct FunctionSpec {
  std::string name;
  Abi abi = Abi::Bytes;
  std::int64_t memory_bytes = 0;
  std::uint64_t output_bytes = 0;
  std::int64_t wall_ns = 0;
  std::uint64_t fuel = 0;
  std::size_t stack_bytes = 0;
  std::vector<std::string> args;
  std::vector<std::string> env; // "NAME=value"
  std::string scratch_dir;      // parent of private directories, "" = none
  std::uint64_t scratch_bytes_max = 0;
  bool may_block = false; // imports something that can wait: never inline
  bool has_start = false; // instantiation runs guest code: never inline
  bool needs_wasi = false;     // a bytes function that was linked with a WASI library
  bool has_initialize = false; // exports _initialize
  bool uses_hose = false;         // imports edge_hose
  bool has_alloc = false;         // exports edge_alloc
  bool has_aligned_alloc = false; // exports edge_alloc_aligned
  // Where plain memory begins: below lie the data segments, whose pages must never change owner.
  std::uint64_t data_end = UINT64_MAX;
};

// Recent run times of one input-size class. A class runs inline when at least 32 runs are known, at most one of the
// last 32 was not short (p95), and no overrun is being paid off. Short is 50 us on the loop's thread and 200 us on a
// worker, which has just been woken and finds its caches cold: what such a run takes says little about an inline one,
// and what the first inline ones take is looked at next.
class History {
public:
  static constexpr std::int64_t kShortNs = 50'000;
  static constexpr std::int64_t kShortOnWorkerNs = 200'000;
  static constexpr std::uint32_t kPenaltyFirst = 64;
  static constexpr std::uint32_t kPenaltyMax = 1 << 16;
  static constexpr std::uint32_t kForgiveRuns = 256;

  bool is_short() const {
    return runs_.load(std::memory_order_relaxed) >= 32 && penalty_.load(std::memory_order_relaxed) == 0 &&
           std::popcount(slow_bits_.load(std::memory_order_relaxed)) <= 1;
  }
  void record(std::int64_t duration_ns, bool is_inline) {
    const std::uint32_t slow = duration_ns > (is_inline ? kShortNs : kShortOnWorkerNs) ? 1U : 0U;
    slow_bits_.store((slow_bits_.load(std::memory_order_relaxed) << 1U) | slow, std::memory_order_relaxed);
    const std::uint32_t runs = runs_.load(std::memory_order_relaxed);
    if (runs < 32) {
      runs_.store(runs + 1, std::memory_order_relaxed);
    }
    const std::uint32_t penalty = penalty_.load(std::memory_order_relaxed);
    if (penalty > 0) {
      penalty_.store(penalty - 1, std::memory_order_relaxed);
    }
    const std::uint32_t streak = slow != 0U ? 0U : streak_.load(std::memory_order_relaxed) + 1;
    streak_.store(streak, std::memory_order_relaxed);
    const std::uint32_t next = next_penalty_.load(std::memory_order_relaxed);
    if (streak % kForgiveRuns == kForgiveRuns - 1 && next > kPenaltyFirst) {
      next_penalty_.store(next / 2, std::memory_order_relaxed);
    }
  }
  // An inline call that had to be handed over sends the class to the workers for 64 calls, doubling each time and
  // halving again with every 256 short runs in a row (a busy machine makes short calls look long).
  void overran() {
    const std::uint32_t next = next_penalty_.load(std::memory_order_relaxed);
    penalty_.store(next, std::memory_order_relaxed);
    next_penalty_.store(next < kPenaltyMax ? next * 2 : next, std::memory_order_relaxed);
  }

private:
  std::atomic<std::uint32_t> slow_bits_{0};
  std::atomic<std::uint32_t> runs_{0};
  std::atomic<std::uint32_t> penalty_{0};
  std::atomic<std::uint32_t> next_penalty_{kPenaltyFirst};
  std::atomic<std::uint32_t> streak_{0};
};

struct Source {
  Pool *pool = nullptr;
  wasmtime_instance_pre_t *pre = nullptr;
};

class Function {
public:
  static constexpr std::size_t kInlineBodyMax = 64 << 10;

  explicit Function(FunctionSpec spec) : spec_(std::move(spec)) {}
  Function(const Function &) = delete;
  Function &operator=(const Function &) = delete;
  ~Function();

  const FunctionSpec &spec() const { return spec_; }

  // Deserializes the checked machine code at `path` for `pool`. Returns wasmtime's text on refusal, else "".
  std::string add_source(Pool &pool, const std::string &path);
  bool has_source() const { return !sources_.empty(); }

  // Takes a permit from the preferred pool, else from any other; nullptr when all are full. `in_chain`: its input or
  // output is another function's, or lies in a hose; `keeps`: its output shall wait where it is.
  const Source *acquire(bool in_chain, bool keeps);

  bool may_run_inline(std::size_t body_bytes) const {
    return body_bytes <= kInlineBodyMax && !spec_.may_block && !spec_.uses_hose && !spec_.has_start && spec_.fuel == 0 &&
           spec_.scratch_dir.empty() && classes_[class_of(body_bytes)].is_short();
  }
  void record(std::size_t body_bytes, std::int64_t duration_ns, bool is_inline) {
    classes_[class_of(body_bytes)].record(duration_ns, is_inline);
  }
  void overran(std::size_t body_bytes) { classes_[class_of(body_bytes)].overran(); }

  // Whether this call should be watched for page faults (each look costs two system calls).
  bool should_count_faults() {
    if (prefers_large_.load(std::memory_order_relaxed)) {
      return false;
    }
    const std::uint32_t n = looks_.fetch_add(1, std::memory_order_relaxed);
    return n < 8 || n % 64 == 0;
  }
  // A function that touches more memory than `small` keeps resident moves to `large` until it is loaded again.
  void faulted(long minor_faults) {
    if (minor_faults > kFaultsMax) {
      prefers_large_.store(true, std::memory_order_relaxed);
    }
  }

  // A call in a chain has ended: memory that is kept resident is of use to the next one, or would only have to be
  // unmapped.
  void passed(const Crossovers &at, const Passed &passed);

  // How far the memory of an earlier call reached that gave back much: the next one is offered 2 MiB pages up to there.
  std::uint64_t bulk_bytes() const { return bulk_bytes_.load(std::memory_order_relaxed); }
  void was_bulk(std::uint64_t memory_bytes) { bulk_bytes_.store(memory_bytes, std::memory_order_relaxed); }

  // Whether a call of it has published: what it borrows next had better be a hose already, also where a chain alone
  // would rather have guest memory.
  bool publishes() const { return publishes_.load(std::memory_order_relaxed); }
  void published() { publishes_.store(true, std::memory_order_relaxed); }

private:
  static constexpr long kFaultsMax = 64;
  static constexpr std::size_t kClasses = 66;

  static std::size_t class_of(std::size_t bytes) { return static_cast<std::size_t>(std::bit_width(bytes)); }

  FunctionSpec spec_;
  std::vector<Source> sources_; // small, large, on demand: those that took the module
  std::atomic<bool> prefers_large_{false};
  std::atomic<bool> prefers_resident_{false}; // in chains
  std::atomic<bool> publishes_{false};
  std::atomic<std::uint32_t> looks_{0};
  std::atomic<std::uint64_t> bulk_bytes_{0};
  std::array<History, kClasses> classes_{};
};

} // namespace edgeagent
