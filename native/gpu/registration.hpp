// Memory of others (a hose) that the device may reach: pinned in place, and where the device shares the host's memory,
// used in place too. Events: marks in a stream.
#pragma once

#include "tenant.hpp"

namespace edgeagent::gpu {

class Registration final : public Child {
public:
  // [host, host + bytes), from the start of a page; it must stay mapped until this has left, and no work may use it then.
  // Throws Fault: Unsupported where the device or the driver refuses (stage instead), Quota, Misuse.
  static std::shared_ptr<Registration> make(const std::shared_ptr<Context> &context, void *host, std::uint64_t bytes,
                                            bool read_only);
  Registration(std::shared_ptr<Context> context, void *host, std::uint64_t bytes)
      : Child(std::move(context)), host_(host), bytes_(bytes) {}
  ~Registration() override { leave(); }

  void *host();
  std::uint64_t size() const { return bytes_; }
  // What kernels use; 0 where the device does not map host memory.
  CUdeviceptr device();
  bool is_read_only() const { return is_read_only_; } // the driver was told so
  // Kernels reach the memory itself as fast as their own: an integrated device.
  bool is_zero_copy() const { return device_ != 0 && context().facts().integrated; }

  void drop() noexcept override;

private:
  void make_all(bool read_only);

  void *host_;
  std::uint64_t bytes_;
  CUdeviceptr device_ = 0;
  bool is_read_only_ = false;
  bool is_pinned_ = false;
  bool is_registered_ = false;
};

class Event final : public Child {
public:
  static std::shared_ptr<Event> make(const std::shared_ptr<Context> &context, bool has_timing);
  explicit Event(std::shared_ptr<Context> context) : Child(std::move(context)) {}
  ~Event() override { leave(); }

  void record(Tenant &tenant);
  bool is_done(); // true also before the first record, as the driver has it
  bool wait(Seconds patience);
  double ms_until(Event &later); // both recorded and done, with timing; else Misuse

  void drop() noexcept override;

private:
  CUevent event_ = nullptr;
  bool has_timing_ = false;
};

} // namespace edgeagent::gpu
