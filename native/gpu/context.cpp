#include "context.hpp"

#include "tenant.hpp"

#include <algorithm>

namespace edgeagent::gpu {

namespace {

constexpr std::size_t kNotesMax = 64;

Fault closed_fault() { return {FaultKind::Closed, 0, "", "the GPU context is closed"}; }

Fault poisoned_fault(int code) {
  return {FaultKind::Poisoned, code, "", "the GPU context was lost to " + fault_name(code) + " before"};
}

} // namespace

Child::Gate::Gate(Child &child, std::nothrow_t) noexcept : lock_(child.gate_), is_open_(child.joined_) {}

Child::Gate::Gate(Child &child, std::try_to_lock_t) noexcept
    : lock_(child.gate_, std::try_to_lock), is_open_(lock_.owns_lock() && child.joined_) {}

Child::Gate::Gate(Child &child) : Gate(child, std::nothrow) {
  if (!is_open_) {
    throw Fault(FaultKind::Closed, 0, "", "it is closed");
  }
}

void Child::require_same(const Child &other) const {
  if (context_ != other.context_) {
    throw Fault(FaultKind::Misuse, 0, "", "two GPU contexts know nothing of each other");
  }
}

void Child::leave() noexcept {
  Context &context = *context_;
  const std::shared_lock<std::shared_timed_mutex> lock(context.life_);
  const std::unique_lock<std::shared_mutex> alone(gate_);
  if (!joined_) {
    return;
  }
  joined_ = false;
  {
    const std::lock_guard<std::mutex> held(context.books);
    context.children_.erase(this);
  }
  try {
    const Context::Use use(context, std::adopt_lock);
    drop();
  } catch (const Fault &fault) { // it cannot be made current: nothing can be given back
    context.note(fault.code, fault.function.c_str());
  }
}

Context::Use::Use(Context &context, When when) : context_(context), lock_(context.life_) {
  if (context.closed_.load()) {
    throw closed_fault();
  }
  if (const int code = context.poison_.load(); code != 0 && when == When::Healthy) {
    throw poisoned_fault(code);
  }
  enter(true);
}

// Giving back goes on without knowing what was current before: none, then.
Context::Use::Use(Context &context, std::adopt_lock_t) : context_(context) { enter(false); }

void Context::Use::enter(bool is_strict) {
  if (!context_.driver_->is_ours()) {
    throw Fault(FaultKind::Closed, 0, "", "CUDA does not survive a fork: start a new process instead");
  }
  const Driver &api = context_.api();
  if (const CUresult result = api.get_current(&former_); is_strict) {
    context_.check(result, "cuCtxGetCurrent");
  } else {
    context_.note(result, "cuCtxGetCurrent");
  }
  if (former_ != context_.handle_) {
    context_.check(api.set_current(context_.handle_), "cuCtxSetCurrent");
    is_changed_ = true;
  }
}

Context::Use::~Use() {
  if (is_changed_) {
    context_.note(context_.api().set_current(former_), "cuCtxSetCurrent");
  }
}

Context::Context(std::shared_ptr<Driver> driver, const Options &options)
    : driver_(std::move(driver)), budget_bytes_(options.budget_bytes), pinned_bytes_max_(options.pinned_bytes_max) {}

std::shared_ptr<Context> Context::open(std::shared_ptr<Driver> driver, const Options &options) {
  if (const int devices = driver->count(); devices == 0 || options.ordinal < 0 || options.ordinal >= devices) {
    throw Fault(FaultKind::Absent, 0, "cuDeviceGetCount",
                "no GPU " + std::to_string(options.ordinal) + ": the driver shows " + std::to_string(devices));
  }
  auto context = std::make_shared<Context>(std::move(driver), options);
  context->retain(options); // from here on the destructor releases
  return context;
}

void Context::retain(const Options &options) {
  device_ = driver_->device(options.ordinal);
  facts_ = driver_->facts(options.ordinal);
  const unsigned flags = options.schedule_flags | (facts_.can_map_host ? kContextMapHost : 0U);
  // Somebody in this process (CuPy) may have it already, with flags of their own: those hold.
  if (const CUresult result = driver_->primary_set_flags(device_, flags); result != kPrimaryContextActive) {
    check(result, "cuDevicePrimaryCtxSetFlags");
  }
  check(driver_->primary_retain(&handle_, device_), "cuDevicePrimaryCtxRetain");
  const Use use(*this); // it can be made current
}

Context::~Context() {
  // All children hold it, so none is left.
  if (handle_ != nullptr && !closed_.load() && driver_->is_ours()) {
    driver_->primary_release(device_);
  }
}

void Context::check(CUresult result, const char *function) {
  if (result != kSuccess && kind_of(result) == FaultKind::Poisoned) {
    poison_.store(result);
  }
  driver_->check(result, function);
}

bool Context::is_ready(CUresult result, const char *function) {
  if (result == kNotReady) {
    return false;
  }
  check(result, function);
  return true;
}

void Context::note(CUresult result, const char *function) noexcept {
  if (result == kSuccess) {
    return;
  }
  if (kind_of(result) == FaultKind::Poisoned) {
    poison_.store(result);
  }
  const std::lock_guard<std::mutex> held(notes_mutex_);
  if (notes_.size() < kNotesMax) {
    notes_.push_back(std::string(function) + ": " + fault_name(result));
  }
}

void Context::join(Child &child) {
  const std::lock_guard<std::mutex> held(books);
  if (children_.size() >= kChildrenMax) {
    throw Fault(FaultKind::Busy, 0, "", "a GPU context has " + std::to_string(kChildrenMax) + " things at most");
  }
  children_.insert(&child);
  child.joined_ = true;
}

void Context::pin(std::uint64_t bytes) {
  const std::lock_guard<std::mutex> held(books);
  if (bytes > pinned_bytes_max_ - pinned_bytes_) {
    throw Fault(FaultKind::Quota, 0, "",
                std::to_string(bytes) + " bytes more of pinned memory are over the bound of " +
                    std::to_string(pinned_bytes_max_) + "; " + std::to_string(pinned_bytes_) + " are pinned");
  }
  pinned_bytes_ += bytes;
}

void Context::unpin(std::uint64_t bytes) {
  const std::lock_guard<std::mutex> held(books);
  pinned_bytes_ -= bytes;
}

ContextStats Context::stats() {
  const std::lock_guard<std::mutex> held(books);
  ContextStats stats;
  stats.pinned_bytes = pinned_bytes_;
  stats.trims = trims_;
  stats.evictions = evictions_;
  stats.children = children_.size();
  for (const Child *child : children_) {
    if (const auto *tenant = dynamic_cast<const Tenant *>(child)) {
      ++stats.tenants;
      stats.used_bytes += tenant->used_bytes;
      stats.held_bytes += tenant->held_bytes;
    }
  }
  return stats;
}

void Context::memory(std::uint64_t &free_bytes, std::uint64_t &total_bytes) {
  const Use use(*this);
  std::size_t free = 0;
  std::size_t total = 0;
  check(driver_->mem_info(&free, &total), "cuMemGetInfo");
  free_bytes = free;
  total_bytes = total;
}

bool Context::within_budget(std::uint64_t more) {
  if (budget_bytes_ == 0) {
    return true;
  }
  std::uint64_t held = 0;
  for (const Child *child : children_) {
    if (const auto *tenant = dynamic_cast<const Tenant *>(child)) {
      held += tenant->held_bytes;
    }
  }
  return held <= budget_bytes_ && more <= budget_bytes_ - held;
}

// Memory that a pool only keeps goes first, of whomever; blocks only of tenants that said that they can make them anew.
bool Context::make_room(Tenant *asking, std::vector<std::shared_ptr<Tenant>> &late) {
  for (const bool with_blocks : {false, true}) {
    std::vector<std::shared_ptr<Tenant>> idle;
    {
      const std::lock_guard<std::mutex> held(books);
      for (Child *child : children_) {
        auto *tenant = dynamic_cast<Tenant *>(child);
        if (tenant == nullptr || tenant == asking || tenant->runs != 0) {
          continue;
        }
        if (with_blocks ? tenant->is_evictable && !tenant->blocks.empty() : tenant->held_bytes > tenant->used_bytes) {
          if (auto kept = tenant->weak_from_this().lock()) {
            idle.push_back(std::move(kept));
          }
        }
      }
      std::sort(idle.begin(), idle.end(), [](const auto &a, const auto &b) { return a->stamp < b->stamp; });
    }
    late.insert(late.end(), idle.begin(), idle.end());
    for (const auto &tenant : idle) {
      if (with_blocks ? tenant->evict_if_idle() : tenant->trim_if_idle()) {
        const std::lock_guard<std::mutex> held(books);
        ++(with_blocks ? evictions_ : trims_);
        return true;
      }
    }
  }
  return false;
}

bool Context::settle_all(Seconds patience) {
  const auto deadline = std::chrono::steady_clock::now() + patience;
  for (Child *child : children_) {
    if (!child->settle(deadline - std::chrono::steady_clock::now())) {
      return false;
    }
  }
  return true;
}

void Context::drop_all() {
  std::vector<Child *> ordered;
  {
    const std::lock_guard<std::mutex> held(books);
    ordered.assign(children_.begin(), children_.end());
    for (Child *child : ordered) {
      child->joined_ = false;
    }
    children_.clear();
  }
  std::stable_sort(ordered.begin(), ordered.end(), [](const Child *a, const Child *b) { return a->rank() < b->rank(); });
  for (Child *child : ordered) {
    child->drop();
  }
}

std::vector<std::string> Context::close(Seconds patience, bool reset) {
  const std::unique_lock<std::shared_timed_mutex> lock(life_, patience);
  if (!lock.owns_lock()) {
    throw Fault(FaultKind::Busy, 0, "", "the GPU context is in use by another thread");
  }
  if (closed_.load() || !driver_->is_ours()) {
    return {};
  }
  try {
    const Use use(*this, std::adopt_lock);
    if (poison() == 0 && !settle_all(patience) && poison() == 0) {
      throw Fault(FaultKind::Busy, 0, "", "work on the GPU is not finished");
    }
    drop_all();
  } catch (const Fault &fault) {
    if (fault.kind == FaultKind::Busy) {
      throw;
    }
    note(fault.code, fault.function.c_str()); // it cannot be made current: the driver ends what is on it
    drop_all();
  }
  closed_.store(true);
  note(driver_->primary_release(device_), "cuDevicePrimaryCtxRelease");
  if (reset) {
    note(driver_->primary_reset(device_), "cuDevicePrimaryCtxReset");
  }
  const std::lock_guard<std::mutex> held(notes_mutex_);
  return notes_;
}

} // namespace edgeagent::gpu
