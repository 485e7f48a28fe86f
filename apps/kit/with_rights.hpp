// with_rights(): a system call with a buffer in shared memory, made again until the kernel finds the rights it needs.
#pragma once

#include <cerrno>
#include <cstddef>
#include <cstring>

namespace netvm::kit {

/// Takes the faults of the range. False: no shared memory lies there, so there is nothing to be done for it.
bool touch(void* buffer, std::size_t bytes, bool write);

/// Calls f() until it does not fail with EFAULT for want of a right to [buffer, buffer + bytes). `write`: the kernel writes there.
template <class F>
auto with_rights(const void* buffer, std::size_t bytes, bool write, F&& f) {
  const bool shared = touch(const_cast<void*>(buffer), bytes, write);
  auto result = f();
  while (shared && result == -1 && errno == EFAULT && touch(const_cast<void*>(buffer), bytes, write)) result = f();
  return result;
}

/// Of a string, wherever it lies; its end is found by reading it, so by faults that are served.
template <class F>
auto with_string(const char* text, F&& f) {
  return with_rights(text, text != nullptr ? std::strlen(text) + 1 : 0, false, f);
}

}  // namespace netvm::kit
