// A ring of pinned host memory through which transfers are staged: reserved in order, free again when the device is done.
#pragma once

#include "tenant.hpp"

#include <condition_variable>
#include <deque>

namespace edgeagent::gpu {

class Ring;

// One reserved piece, for one thread. Its bytes are the ring's again after retire() and the work that was ordered before it.
class Slot {
public:
  Slot(std::shared_ptr<Ring> ring, std::uint64_t id, std::uint64_t offset, std::uint64_t bytes)
      : ring_(std::move(ring)), id_(id), offset_(offset), bytes_(bytes) {}
  Slot(const Slot &) = delete;
  Slot &operator=(const Slot &) = delete;
  ~Slot();

  std::uint64_t size() const { return bytes_; }
  std::uint64_t offset() const { return offset_; }
  void *host() const;
  CUdeviceptr device() const; // 0 where the device does not see host memory
  // Host to host, at once.
  void write(const void *from, std::uint64_t bytes, std::uint64_t at);
  void read(void *to, std::uint64_t bytes, std::uint64_t at) const;
  // Slot to block and back, in the order of the block's tenant's stream.
  void upload(Block &block, std::uint64_t bytes, std::uint64_t block_offset);
  void download(Block &block, std::uint64_t bytes, std::uint64_t block_offset);
  // Free as soon as what `stream` (null: the stream of the last copy here) has been given is done. Idempotent.
  void retire(CUstream stream);

private:
  void require(std::uint64_t bytes, std::uint64_t at) const; // throws Fault Misuse, Closed
  void copied_by(Block &block);

  std::shared_ptr<Ring> ring_;
  std::uint64_t id_;
  std::uint64_t offset_;
  std::uint64_t bytes_;
  std::shared_ptr<Tenant> last_; // whose stream copies last
  bool is_retired_ = false;
};

class Ring final : public Child, public std::enable_shared_from_this<Ring> {
public:
  static constexpr std::uint64_t kAlignment = 256;
  static constexpr std::size_t kSlotsMax = 1024;

  // Throws Fault: Quota over the context's bound on pinned memory, and what the driver says.
  static std::shared_ptr<Ring> make(const std::shared_ptr<Context> &context, std::uint64_t bytes);
  Ring(std::shared_ptr<Context> context, std::uint64_t bytes) : Child(std::move(context)), bytes_(bytes) {}
  ~Ring() override { leave(); }

  std::uint64_t size() const { return bytes_; }
  std::uint64_t used();
  // Throws Fault: Misuse for more than the ring has, Busy when `patience` is over.
  std::shared_ptr<Slot> reserve(std::uint64_t bytes, Seconds patience);

  void drop() noexcept override;
  int rank() const override { return 1; }
  bool settle(Seconds patience) noexcept override;

private:
  friend class Slot;
  struct Piece {
    std::uint64_t id;
    std::uint64_t begin; // with what was left over at the end of the ring
    std::uint64_t end;
    CUevent event; // null: nothing to wait for
    bool is_retired;
  };

  void make_all();
  void reap(); // with the mutex: frees what is done, oldest first
  bool place(std::uint64_t bytes, std::uint64_t &offset);
  void retire(std::uint64_t id, Tenant *tenant, CUstream stream);

  std::uint64_t bytes_;
  std::uint8_t *host_ = nullptr;
  CUdeviceptr device_ = 0;
  bool is_pinned_ = false;
  std::mutex mutex_;
  std::deque<Piece> pieces_; // in order of the ring
  std::vector<CUevent> spare_;
  std::uint64_t next_id_ = 0;
};

} // namespace edgeagent::gpu
