#include "guest_thread.hpp"

#include <link.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <new>

// Of the platform's ABI for thread-local storage: how compiled code asks for a module's block.
struct TlsIndex {
  unsigned long module;
  unsigned long offset;
};
extern "C" void *__tls_get_addr(TlsIndex *index); // NOLINT(bugprone-reserved-identifier): the name is the ABI's

namespace edgeagent {

namespace {

// What wasmtime asks of a signal stack, and a little more.
constexpr std::size_t kSignalStackBytesMin = 256 << 10;
constexpr std::size_t kSignalStackBytes = 320 << 10;
// What a call's own bookkeeping takes on the heap, and more.
constexpr std::size_t kHeapProbeBytes = 64 << 10;

class SignalStack {
public:
  SignalStack() = default;
  SignalStack(const SignalStack &) = delete;
  SignalStack &operator=(const SignalStack &) = delete;
  ~SignalStack() {
    if (room_ != nullptr) {
      ::sigaltstack(&before_, nullptr);
      ::munmap(room_, room_bytes_);
    }
  }

  bool install() {
    if (::sigaltstack(nullptr, &before_) == 0 && (before_.ss_flags & SS_DISABLE) == 0 &&
        before_.ss_size >= kSignalStackBytesMin) {
      return true;
    }
    const auto guard = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
    room_bytes_ = guard + kSignalStackBytes;
    void *room = ::mmap(nullptr, room_bytes_, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (room == MAP_FAILED) {
      return false;
    }
    stack_t own{};
    own.ss_sp = static_cast<std::uint8_t *>(room) + guard;
    own.ss_size = kSignalStackBytes;
    if (::mprotect(own.ss_sp, own.ss_size, PROT_READ | PROT_WRITE) != 0 || ::sigaltstack(&own, nullptr) != 0) {
      ::munmap(room, room_bytes_);
      return false;
    }
    room_ = room;
    return true;
  }

private:
  void *room_ = nullptr;
  std::size_t room_bytes_ = 0;
  stack_t before_{};
};

// A pthread key and not thread_local: the first keys of a process take no memory.
class Key {
public:
  Key() {
    made_ = pthread_key_create(&key_, [](void *stack) { delete static_cast<SignalStack *>(stack); }) == 0;
  }
  bool is_set() const { return !made_ || pthread_getspecific(key_) != nullptr; }
  bool set(SignalStack *stack) const { return pthread_setspecific(key_, stack) == 0; }

private:
  pthread_key_t key_{};
  bool made_ = false;
};

int touch_block(dl_phdr_info *info, std::size_t, void *) {
  if (info->dlpi_tls_modid != 0) {
    TlsIndex index{info->dlpi_tls_modid, 0};
    __tls_get_addr(&index);
  }
  return 0;
}

} // namespace

bool ready_for_guests() {
  static const Key key;
  if (key.is_set()) {
    return true;
  }
  void *volatile probe = std::malloc(kHeapProbeBytes);
  std::free(probe);
  auto *stack = probe == nullptr ? nullptr : new (std::nothrow) SignalStack();
  if (stack == nullptr || !stack->install() || !key.set(stack)) {
    delete stack;
    return false;
  }
  ::dl_iterate_phdr(&touch_block, nullptr);
  return true;
}

} // namespace edgeagent
