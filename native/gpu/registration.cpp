#include "registration.hpp"

#include <functional>
#include <optional>

#include <unistd.h>

namespace edgeagent::gpu {

std::shared_ptr<Registration> Registration::make(const std::shared_ptr<Context> &context, void *host,
                                                 std::uint64_t bytes, bool read_only) {
  const auto page = static_cast<std::uint64_t>(sysconf(_SC_PAGESIZE));
  if (host == nullptr || bytes == 0 || reinterpret_cast<std::uintptr_t>(host) % page != 0) {
    throw Fault(FaultKind::Misuse, 0, "", "only memory from the start of a page can be registered");
  }
  if (!context->facts().host_register) {
    throw Fault(FaultKind::Unsupported, 0, "cuMemHostRegister", "this device cannot use memory of others");
  }
  auto registration = std::make_shared<Registration>(context, host, bytes);
  const Context::Use use(*context);
  context->join(*registration);
  registration->make_all(read_only);
  return registration;
}

void Registration::make_all(bool read_only) {
  context().pin(bytes_);
  is_pinned_ = true;
  const Driver &api = context().api();
  const DeviceFacts &facts = context().facts();
  is_read_only_ = read_only && facts.read_only_register;
  const unsigned flags = kHostPortable | (facts.can_map_host ? kHostDeviceMap : 0U) |
                         (is_read_only_ ? kRegisterReadOnly : 0U);
  context().check(api.host_register(host_, bytes_, flags), "cuMemHostRegister");
  is_registered_ = true;
  if (facts.can_map_host) {
    context().check(api.host_device_pointer(&device_, host_, 0), "cuMemHostGetDevicePointer");
  }
}

void *Registration::host() {
  const Entry entry(*this);
  return host_;
}

CUdeviceptr Registration::device() {
  const Entry entry(*this);
  return device_;
}

void Registration::drop() noexcept {
  if (std::exchange(is_registered_, false)) {
    context().note(context().api().host_unregister(host_), "cuMemHostUnregister");
  }
  if (std::exchange(is_pinned_, false)) {
    context().unpin(bytes_);
  }
}

std::shared_ptr<Event> Event::make(const std::shared_ptr<Context> &context, bool has_timing) {
  auto event = std::make_shared<Event>(context);
  const Context::Use use(*context);
  context->join(*event);
  event->has_timing_ = has_timing;
  context->check(context->api().event_create(&event->event_, has_timing ? 0U : kEventDisableTiming), "cuEventCreate");
  return event;
}

void Event::record(Tenant &tenant) {
  require_same(tenant);
  const Entry entry(*this);
  const Gate gate(tenant);
  context().check(context().api().event_record(event_, tenant.stream()), "cuEventRecord");
}

bool Event::is_done() {
  const Entry entry(*this);
  return context().is_ready(context().api().event_query(event_), "cuEventQuery");
}

bool Event::wait(Seconds patience) {
  return wait_until([this] { return is_done(); }, patience);
}

double Event::ms_until(Event &later) {
  require_same(later);
  const Context::Use use(context());
  const bool is_first = std::less<>()(this, &later); // one order of gates, whoever asks whom
  const Gate gate(is_first ? *this : later);
  std::optional<Gate> other;
  if (this != &later) {
    other.emplace(is_first ? later : *this);
  }
  if (!has_timing_ || !later.has_timing_) {
    throw Fault(FaultKind::Misuse, 0, "", "an event without timing measures nothing");
  }
  float ms = 0.0F;
  const CUresult result = context().api().event_elapsed(&ms, event_, later.event_);
  if (!context().is_ready(result, "cuEventElapsedTime")) {
    throw Fault(FaultKind::Misuse, result, "cuEventElapsedTime", "an event that is not done measures nothing");
  }
  return static_cast<double>(ms);
}

void Event::drop() noexcept {
  if (CUevent event = std::exchange(event_, nullptr); event != nullptr) {
    context().note(context().api().event_destroy(event), "cuEventDestroy");
  }
}

} // namespace edgeagent::gpu
