#include "window.hpp"

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

void Window::close() {
  std::unique_lock<std::mutex> lock(mutex_);
  is_closed_ = true;
  changed_.wait(lock, [this] { return inside_ == 0; });
}

} // namespace edgeagent
