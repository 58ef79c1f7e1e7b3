#include "window.hpp"

#include "../hose/remap.hpp"

#include <algorithm>
#include <cstring>
#include <string>

#include <fcntl.h>
#include <unistd.h>

namespace edgeagent {

bool Window::enter() {
  const std::lock_guard<std::mutex> lock(mutex_);
  inside_ += is_closed_ ? 0 : 1;
  return !is_closed_;
}

void Window::leave() {
  const std::lock_guard<std::mutex> lock(mutex_);
  --inside_;
  changed_.notify_all();
}

HoseSource::~HoseSource() { ::close(fd_); }

std::unique_ptr<HoseSource> Window::source(std::uint64_t start, std::uint64_t bytes) {
  const auto view = std::find_if(views_.begin(), views_.end(), [&](const HoseMessage &one) {
    return start >= one.start && bytes <= one.bytes && start - one.start <= one.bytes - bytes;
  });
  if (view == views_.end() || bytes == 0 || !enter()) {
    return nullptr;
  }
  const bool is_same = is_as_received(*view, start, bytes);
  leave();
  if (!is_same) {
    return nullptr;
  }
  const Hose &hose = *view->hose;
  const std::string path = "/proc/self/fd/" + std::to_string(hose.fd());
  const int fd = hose.is_sealed() ? ::fcntl(hose.fd(), F_DUPFD_CLOEXEC, 3) : ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) {
    return nullptr;
  }
  return std::make_unique<HoseSource>(view->hose, fd, view->hose_offset + (start - view->start));
}

bool Window::is_as_received(const HoseMessage &view, std::uint64_t start, std::uint64_t bytes) const {
  const std::uint64_t end = start + bytes;
  const std::uint64_t mapped_end = view.start + view.mapped;
  const std::uint64_t tail = std::max(start, mapped_end);
  if (end > bytes_ || (tail < end && std::memcmp(base_ + tail, view.hose->data() + view.hose_offset + (tail - view.start),
                                                 end - tail) != 0)) {
    return false;
  }
  return start >= mapped_end || shows_file(base_ + start, std::min(end, mapped_end) - start);
}

void Window::close() {
  std::unique_lock<std::mutex> lock(mutex_);
  is_closed_ = true;
  changed_.wait(lock, [this] { return inside_ == 0; });
}

} // namespace edgeagent
