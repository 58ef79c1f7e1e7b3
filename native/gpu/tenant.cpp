#include "tenant.hpp"

#include <limits>

namespace edgeagent::gpu {

namespace {

Fault out_of_memory(const std::string &name, std::uint64_t bytes, const char *what) {
  return {FaultKind::OutOfMemory, kOutOfMemory, "", name + ": " + std::to_string(bytes) + " bytes: " + what};
}

} // namespace

Tenant::Tenant(std::shared_ptr<Context> context, TenantOptions options)
    : Child(std::move(context)), is_evictable(options.is_evictable), options_(std::move(options)) {}

std::shared_ptr<Tenant> Tenant::make(const std::shared_ptr<Context> &context, TenantOptions options) {
  auto tenant = std::make_shared<Tenant>(context, std::move(options));
  const Context::Use use(*context);
  context->join(*tenant);
  tenant->make_all(); // where it throws, the destructor drops what there is of it
  return tenant;
}

void Tenant::make_all() {
  const Driver &api = context().api();
  int least = 0;
  int greatest = 0; // the numerically lowest
  context().check(api.priority_range(&least, &greatest), "cuCtxGetStreamPriorityRange");
  const int priority = std::clamp(options_.priority, std::min(least, greatest), std::max(least, greatest));
  context().check(api.stream_create(&stream_, kStreamNonBlocking, priority), "cuStreamCreateWithPriority");
  if (!context().facts().memory_pools) {
    return;
  }
  CUmemPoolProps props{};
  props.alloc_type = kPinnedAllocation;
  props.location_type = kLocationDevice;
  props.location_id = context().facts().ordinal;
  context().check(api.pool_create(&pool_, &props), "cuMemPoolCreate");
  std::uint64_t keep = std::min(options_.keep_bytes, options_.quota_bytes);
  context().check(api.pool_set(pool_, kPoolReleaseThreshold, &keep), "cuMemPoolSetAttribute");
}

std::uint64_t Tenant::generation() {
  const std::lock_guard<std::mutex> held(context().books);
  return generation_;
}

void Tenant::charge(std::uint64_t bytes) {
  const std::lock_guard<std::mutex> held(context().books);
  if (bytes > options_.quota_bytes || used_bytes > options_.quota_bytes - bytes) {
    throw Fault(FaultKind::Quota, 0, "",
                options_.name + ": " + std::to_string(bytes) + " bytes more than the " + std::to_string(used_bytes) +
                    " in use are over its quota of " + std::to_string(options_.quota_bytes));
  }
  const std::uint64_t after = used_bytes + bytes;
  if (after > held_bytes && !context().within_budget(after - held_bytes)) {
    throw out_of_memory(options_.name, bytes, "over the budget of all functions");
  }
  used_bytes = after;
  held_bytes = std::max(held_bytes, after);
  stamp = ++context().stamp;
}

void Tenant::refund(std::uint64_t bytes) {
  const std::lock_guard<std::mutex> held(context().books);
  used_bytes -= bytes;
}

CUresult Tenant::take(CUdeviceptr &ptr, std::uint64_t bytes) {
  const Driver &api = context().api();
  return pool_ != nullptr ? api.pool_alloc(&ptr, bytes, pool_, stream_) : api.mem_alloc(&ptr, bytes);
}

CUresult Tenant::give(CUdeviceptr ptr) {
  const Driver &api = context().api();
  if (pool_ != nullptr) {
    return api.pool_free(ptr, stream_);
  }
  const CUresult result = api.stream_synchronize(stream_); // work that uses it may be under way
  const CUresult freed = api.mem_free(ptr);
  return result != kSuccess ? result : freed;
}

std::unique_ptr<Block> Tenant::alloc(std::uint64_t bytes) {
  if (bytes == 0 || bytes > std::numeric_limits<std::uint64_t>::max() - kGranule) {
    throw Fault(FaultKind::Misuse, 0, "", "a block has at least one byte");
  }
  const std::uint64_t charged = (bytes + kGranule - 1) / kGranule * kGranule;
  auto block = std::make_unique<Block>(shared_from_this()); // before the Entry: its end takes the lock too
  std::vector<std::shared_ptr<Tenant>> late;
  const Entry entry(*this);
  bool has_trimmed = false;
  for (;;) {
    try {
      charge(charged);
    } catch (const Fault &fault) {
      if (fault.kind != FaultKind::OutOfMemory || !context().make_room(this, late)) {
        throw;
      }
      continue;
    }
    CUdeviceptr ptr = 0;
    const CUresult result = take(ptr, charged);
    if (result == kSuccess) {
      const std::lock_guard<std::mutex> held(context().books);
      block->ptr_ = ptr;
      block->size_ = bytes;
      block->charged_ = charged;
      blocks.insert(block.get());
      return block;
    }
    refund(charged);
    if (result == kOutOfMemory && !has_trimmed && pool_ != nullptr) {
      has_trimmed = true; // its own pool may be in pieces
      trim_now();
    } else if (result != kOutOfMemory || !context().make_room(this, late)) {
      context().check(result, pool_ != nullptr ? "cuMemAllocFromPoolAsync" : "cuMemAlloc");
    }
  }
}

CUdeviceptr Tenant::release(Block &block) {
  const CUdeviceptr ptr = std::exchange(block.ptr_, 0);
  if (ptr != 0) {
    blocks.erase(&block);
    used_bytes -= block.charged_;
  }
  return ptr;
}

void Tenant::begin() {
  const Entry entry(*this);
  const std::lock_guard<std::mutex> held(context().books);
  ++runs;
  stamp = ++context().stamp;
}

void Tenant::end() {
  const std::lock_guard<std::mutex> held(context().books);
  if (runs == 0) {
    throw Fault(FaultKind::Misuse, 0, "", options_.name + " ended more often than it began");
  }
  --runs;
}

// A pool gives back only what it knows to be unused: a query of the idle stream tells it. A busy one keeps some of it.
void Tenant::trim_now() {
  if (pool_ == nullptr) {
    const std::lock_guard<std::mutex> held(context().books);
    held_bytes = used_bytes;
    return;
  }
  context().is_ready(context().api().stream_query(stream_), "cuStreamQuery");
  context().check(context().api().pool_trim(pool_, 0), "cuMemPoolTrimTo");
  const std::lock_guard<std::mutex> held(context().books);
  held_bytes = used_bytes;
}

bool Tenant::trim_if_idle() {
  const Gate gate(*this, std::try_to_lock);
  if (!gate.is_open() || !context().is_ready(context().api().stream_query(stream_), "cuStreamQuery")) {
    return false;
  }
  trim_now();
  return true;
}

bool Tenant::evict_if_idle() {
  const Gate gate(*this, std::try_to_lock);
  return gate.is_open() && evict_now();
}

bool Tenant::evict_now() {
  if (!context().is_ready(context().api().stream_query(stream_), "cuStreamQuery")) {
    return false;
  }
  std::vector<CUdeviceptr> freed;
  {
    const std::lock_guard<std::mutex> held(context().books);
    if (runs != 0) {
      return false;
    }
    while (!blocks.empty()) {
      freed.push_back(release(**blocks.begin()));
    }
    ++generation_;
  }
  CUresult first = kSuccess;
  for (const CUdeviceptr ptr : freed) {
    const CUresult result = give(ptr);
    first = first != kSuccess ? first : result;
  }
  context().check(first, "cuMemFreeAsync");
  context().check(context().api().stream_synchronize(stream_), "cuStreamSynchronize"); // or the pool keeps them
  trim_now();
  return true;
}

void Tenant::trim() {
  const Entry entry(*this);
  trim_now();
}

void Tenant::evict() {
  const Entry entry(*this);
  if (!evict_now()) {
    throw Fault(FaultKind::Busy, 0, "", options_.name + " runs now");
  }
}

bool Tenant::is_idle() {
  const Entry entry(*this);
  return context().is_ready(context().api().stream_query(stream_), "cuStreamQuery");
}

bool Tenant::synchronize(const Seconds *patience) {
  if (patience != nullptr) {
    return wait_until([this] { return is_idle(); }, *patience);
  }
  const Entry entry(*this);
  context().check(context().api().stream_synchronize(stream_), "cuStreamSynchronize");
  return true;
}

bool Tenant::settle(Seconds patience) noexcept {
  const auto ended = [this] { return context().api().stream_query(stream_) != kNotReady; }; // a fault ends it too
  return wait_until(ended, patience);
}

std::uint64_t Tenant::reserved_bytes() {
  const Entry entry(*this);
  if (pool_ == nullptr) {
    const std::lock_guard<std::mutex> held(context().books);
    return used_bytes;
  }
  std::uint64_t bytes = 0;
  context().check(context().api().pool_get(pool_, kPoolReserved, &bytes), "cuMemPoolGetAttribute");
  return bytes;
}

void Tenant::drop() noexcept {
  // Work that goes on would be the driver's to end; a slot that was copied on this stream counts on its being over.
  constexpr Seconds kPatience(5.0);
  if (stream_ != nullptr && context().poison() == 0 && !settle(kPatience)) {
    context().note(kNotReady, "cuStreamQuery");
  }
  std::vector<CUdeviceptr> freed;
  {
    const std::lock_guard<std::mutex> held(context().books);
    while (!blocks.empty()) {
      freed.push_back(release(**blocks.begin()));
    }
    held_bytes = 0;
  }
  for (const CUdeviceptr ptr : freed) {
    context().note(give(ptr), "cuMemFreeAsync");
  }
  const Driver &api = context().api();
  if (CUmemoryPool pool = std::exchange(pool_, nullptr); pool != nullptr) {
    context().note(api.pool_destroy(pool), "cuMemPoolDestroy");
  }
  if (CUstream stream = std::exchange(stream_, nullptr); stream != nullptr) {
    context().note(api.stream_destroy(stream), "cuStreamDestroy");
  }
}

CUdeviceptr Block::ptr() const {
  const std::lock_guard<std::mutex> held(tenant_->context().books);
  if (ptr_ == 0) {
    throw Fault(FaultKind::Closed, 0, "", "the block was freed, or evicted");
  }
  return ptr_;
}

bool Block::is_live() const {
  const std::lock_guard<std::mutex> held(tenant_->context().books);
  return ptr_ != 0;
}

void Block::free() {
  if (!is_live()) {
    return;
  }
  Context &context = tenant_->context();
  try {
    const Context::Use use(context, Context::Use::When::Always);
    const Child::Gate gate(*tenant_);
    CUdeviceptr ptr = 0;
    {
      const std::lock_guard<std::mutex> held(context.books);
      ptr = tenant_->release(*this);
    }
    if (ptr != 0 && context.poison() == 0) { // a lost context frees nothing
      context.check(tenant_->give(ptr), "cuMemFreeAsync");
    }
  } catch (const Fault &fault) {
    if (fault.kind != FaultKind::Closed) { // closed meanwhile: it was freed there
      throw;
    }
  }
}

Block::~Block() {
  try {
    free();
  } catch (const Fault &fault) { // nobody is there to tell it to but close()
    tenant_->context().note(fault.code, fault.function.c_str());
  }
}

CUdeviceptr Block::at(std::uint64_t bytes, std::uint64_t offset) const {
  if (offset > size_ || bytes > size_ - offset) {
    throw Fault(FaultKind::Misuse, 0, "",
                std::to_string(bytes) + " bytes at " + std::to_string(offset) + " are outside a block of " +
                    std::to_string(size_));
  }
  return ptr() + offset;
}

void Block::put(const void *from, std::uint64_t bytes, std::uint64_t offset) {
  Context &context = tenant_->context();
  context.check(context.api().copy_in(at(bytes, offset), from, bytes, tenant_->stream()), "cuMemcpyHtoDAsync");
}

void Block::get(void *to, std::uint64_t bytes, std::uint64_t offset) {
  Context &context = tenant_->context();
  context.check(context.api().copy_out(to, at(bytes, offset), bytes, tenant_->stream()), "cuMemcpyDtoHAsync");
}

void Block::upload(const void *from, std::uint64_t bytes, std::uint64_t offset) {
  const Child::Entry entry(*tenant_);
  put(from, bytes, offset);
}

void Block::download(void *to, std::uint64_t bytes, std::uint64_t offset) {
  const Child::Entry entry(*tenant_);
  get(to, bytes, offset);
}

} // namespace edgeagent::gpu
