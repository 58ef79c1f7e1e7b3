// One device's primary context, and all that was made on it: closing it closes that too, in the right order.
//
// Threads: any number may work at once; close() waits for them. Whoever calls into the driver holds a Use, which makes the
// context current on the calling thread for so long and puts the former one back.
#pragma once

#include "driver.hpp"
#include "faults.hpp"

#include <atomic>
#include <chrono>
#include <memory>
#include <mutex>
#include <new>
#include <set>
#include <shared_mutex>
#include <string>
#include <vector>

namespace edgeagent::gpu {

class Context;
class Tenant;

using Seconds = std::chrono::duration<double>;

// One thing made on a context. Each derived class ends its destructor's work by leave().
class Child {
public:
  explicit Child(std::shared_ptr<Context> context) : context_(std::move(context)) {}
  Child(const Child &) = delete;
  Child &operator=(const Child &) = delete;
  virtual ~Child() = default;

  Context &context() const { return *context_; }
  // Gives its resources back to the driver; what fails is noted in the context. Once, with the context current.
  virtual void drop() noexcept = 0;
  // Throws Fault Misuse: things of two contexts know nothing of each other.
  void require_same(const Child &other) const;
  // Order at close: streams and pools go last.
  virtual int rank() const { return 0; }
  // Waits for the work that it has under way. False: not finished in time.
  virtual bool settle(Seconds) noexcept { return true; }
  // Drops it, unless the context is closed already, and forgets it. Idempotent; waits for calls on it that are under way.
  void leave() noexcept;

  // Keeps it from leaving. Throws Fault Closed when it has left.
  class Gate {
  public:
    explicit Gate(Child &child);
    Gate(Child &child, std::nothrow_t) noexcept;
    // Whoever passes a gate already asks for another's so, and does without: no order of gates, no deadlock.
    Gate(Child &child, std::try_to_lock_t) noexcept;
    bool is_open() const { return is_open_; }

  private:
    std::shared_lock<std::shared_mutex> lock_;
    bool is_open_;
  };
  class Entry; // a Use of its context, and its gate

private:
  friend class Context;
  std::shared_ptr<Context> context_;
  std::shared_mutex gate_;
  bool joined_ = false; // written with the gate, or all of the context, to oneself
};

struct Options {
  int ordinal = 0;
  std::uint64_t budget_bytes = 0; // device memory of all tenants, cached too; 0: what the device has
  std::uint64_t pinned_bytes_max = 0;
  unsigned schedule_flags = 0; // CU_CTX_SCHED_*
};

struct ContextStats {
  std::uint64_t tenants = 0;
  std::uint64_t used_bytes = 0; // of live blocks
  std::uint64_t held_bytes = 0; // with what pools may have kept, at most
  std::uint64_t pinned_bytes = 0;
  std::uint64_t trims = 0;     // pools whose cached memory went back to the device for somebody else
  std::uint64_t evictions = 0; // tenants whose blocks went too
  std::uint64_t children = 0;
};

class Context : public std::enable_shared_from_this<Context> {
public:
  static constexpr std::size_t kChildrenMax = 4096;

  // Throws Fault; nothing is left behind then.
  static std::shared_ptr<Context> open(std::shared_ptr<Driver> driver, const Options &options);
  Context(std::shared_ptr<Driver> driver, const Options &options);
  Context(const Context &) = delete;
  Context &operator=(const Context &) = delete;
  ~Context();

  const Driver &api() const { return *driver_; }
  const DeviceFacts &facts() const { return facts_; }
  CUcontext handle() const { return handle_; }
  bool is_closed() const { return closed_.load(); }
  int poison() const { return poison_.load(); } // the CUresult that told, or 0
  ContextStats stats();
  void memory(std::uint64_t &free_bytes, std::uint64_t &total_bytes);

  // Ends everything; what the driver refused is returned, one line each. Work that is not finished in `patience` keeps
  // everything as it is: Fault Busy. With `reset` the device's primary context is destroyed whoever else holds it.
  std::vector<std::string> close(Seconds patience, bool reset);

  // Throws Fault, and remembers a code that poisons.
  void check(CUresult result, const char *function);
  // The same for a query: false where the work is not finished.
  bool is_ready(CUresult result, const char *function);
  // For what cannot throw: notes the failure for close() to tell.
  void note(CUresult result, const char *function) noexcept;

  // Throws Fault Closed, Busy.
  void join(Child &child);
  void pin(std::uint64_t bytes); // throws Fault Quota
  void unpin(std::uint64_t bytes);

  // Frees memory of another tenant that does nothing now, the one that ran longest ago first; false: there is none.
  // `late` outlives the caller's Use: what is let go in it takes the lock again.
  bool make_room(Tenant *asking, std::vector<std::shared_ptr<Tenant>> &late);
  bool within_budget(std::uint64_t more); // call with books held

  class Use;
  std::mutex books; // what tenants use, who runs, who is here; never held over a call that may wait
  std::uint64_t stamp = 0; // of the last run that began

private:
  friend class Child;
  void retain(const Options &options);
  void drop_all();
  bool settle_all(Seconds patience);

  std::shared_ptr<Driver> driver_;
  DeviceFacts facts_;
  CUdevice device_ = 0;
  CUcontext handle_ = nullptr;
  std::uint64_t budget_bytes_;
  std::uint64_t pinned_bytes_max_;
  std::uint64_t pinned_bytes_ = 0;
  std::uint64_t trims_ = 0;
  std::uint64_t evictions_ = 0;
  std::atomic<bool> closed_{false};
  std::atomic<int> poison_{0};
  std::shared_timed_mutex life_;
  std::set<Child *> children_;
  std::mutex notes_mutex_;
  std::vector<std::string> notes_;
};

class Context::Use {
public:
  enum class When : std::uint8_t { Healthy, Always };
  // Throws Fault: Closed, Poisoned (but for Always), or what the driver says. Always is for giving things back.
  explicit Use(Context &context, When when = When::Healthy);
  Use(const Use &) = delete;
  Use &operator=(const Use &) = delete;
  ~Use();

private:
  friend class Context;
  friend class Child;
  Use(Context &context, std::adopt_lock_t); // whoever holds life_ alone
  void enter(bool is_strict);

  Context &context_;
  std::shared_lock<std::shared_timed_mutex> lock_;
  CUcontext former_ = nullptr;
  bool is_changed_ = false;
};

class Child::Entry {
public:
  explicit Entry(Child &child) : use_(child.context()), gate_(child) {}

private:
  Context::Use use_;
  Gate gate_;
};

} // namespace edgeagent::gpu
