// What one function has on a device: a stream, a memory pool, and a bound on what it may take of it.
//
// The bound is kept by our own books: a pool's size is the driver's matter (granularity, what it keeps for reuse). Where
// the device has no pools, blocks come one by one from the device, and freeing one waits for the stream.
#pragma once

#include "context.hpp"
#include "wait.hpp"

#include <unordered_set>

namespace edgeagent::gpu {

class Tenant;

// Device memory. Freed on the tenant's stream, once: by free(), at its end, by eviction, or with its tenant.
class Block {
public:
  explicit Block(std::shared_ptr<Tenant> tenant) : tenant_(std::move(tenant)) {}
  Block(const Block &) = delete;
  Block &operator=(const Block &) = delete;
  ~Block();

  Tenant &tenant() const { return *tenant_; }
  CUdeviceptr ptr() const;
  std::uint64_t size() const { return size_; } // what was asked for
  bool is_live() const;
  void free(); // throws Fault; idempotent
  // Copies in stream order; memory that is not pinned is staged by the driver. Throws Fault, Misuse outside the block.
  void upload(const void *from, std::uint64_t bytes, std::uint64_t offset);
  void download(void *to, std::uint64_t bytes, std::uint64_t offset);

private:
  friend class Tenant;
  friend class Slot;
  void put(const void *from, std::uint64_t bytes, std::uint64_t offset); // both inside an Entry
  void get(void *to, std::uint64_t bytes, std::uint64_t offset);
  CUdeviceptr at(std::uint64_t bytes, std::uint64_t offset) const;

  std::shared_ptr<Tenant> tenant_;
  CUdeviceptr ptr_ = 0; // guarded by the books; 0: not live
  std::uint64_t size_ = 0;
  std::uint64_t charged_ = 0;
};

struct TenantOptions {
  std::string name;
  std::uint64_t quota_bytes = 0;
  std::uint64_t keep_bytes = 0; // what the pool keeps when nothing is used: the release threshold
  int priority = 0;             // lower is sooner; clamped to what the device has
  bool is_evictable = false;    // its blocks may go while it does not run
};

class Tenant final : public Child, public std::enable_shared_from_this<Tenant> {
public:
  static constexpr std::uint64_t kGranule = 512; // what the driver's pools round to

  static std::shared_ptr<Tenant> make(const std::shared_ptr<Context> &context, TenantOptions options);
  Tenant(std::shared_ptr<Context> context, TenantOptions options);
  ~Tenant() override { leave(); }

  const std::string &name() const { return options_.name; }
  std::uint64_t quota_bytes() const { return options_.quota_bytes; }
  CUstream stream() const { return stream_; }
  CUmemoryPool pool() const { return pool_; }
  std::uint64_t generation(); // goes up when its blocks were evicted

  std::unique_ptr<Block> alloc(std::uint64_t bytes);
  void begin();
  void end();
  void trim(); // what the pool keeps goes back to the device
  void evict(); // blocks and cached memory; Fault Busy while it runs
  bool is_idle();
  // Without a deadline the driver waits, with one we ask it again and again. False: not finished in time.
  bool synchronize(const Seconds *patience);
  std::uint64_t reserved_bytes(); // what the pool has of the device; without pools, what is used

  void drop() noexcept override;
  int rank() const override { return 9; }
  bool settle(Seconds patience) noexcept override;

  // For the context, under its books:
  std::uint64_t used_bytes = 0;
  std::uint64_t held_bytes = 0; // the most used since the last trim, so at least what the pool keeps
  std::uint64_t stamp = 0;
  std::uint64_t runs = 0;
  bool is_evictable;
  std::unordered_set<Block *> blocks;
  bool trim_if_idle();
  bool evict_if_idle();

private:
  friend class Block;
  void make_all();
  bool evict_now();
  CUresult take(CUdeviceptr &ptr, std::uint64_t bytes);
  CUresult give(CUdeviceptr ptr);
  void charge(std::uint64_t bytes);
  void refund(std::uint64_t bytes);
  CUdeviceptr release(Block &block); // under the books
  void trim_now();

  TenantOptions options_;
  CUstream stream_ = nullptr;
  CUmemoryPool pool_ = nullptr;
  std::uint64_t generation_ = 0;
};

} // namespace edgeagent::gpu
