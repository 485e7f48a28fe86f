// with_rights(): a system call with a buffer in shared memory, made again until the kernel finds the rights it needs.
#pragma once

#include <sys/socket.h>
#include <sys/uio.h>

#include <cerrno>
#include <cstddef>
#include <cstring>

namespace netvm::kit {

/// Takes the faults of the range. False: no shared memory lies there, so there is nothing to be done for it.
bool touch(void* buffer, std::size_t bytes, bool write);

/// Another node may take a page again before the call looks; a pointer to nowhere beside it never becomes one to somewhere.
inline constexpr int kMostTries = 100;

/// Calls f() until it does not fail with EFAULT, after touch_all(), which takes the faults that the call would. It returns whether there are any to take.
template <class Touch, class F>
auto with_touched(Touch&& touch_all, F&& f) {
  const bool shared = touch_all();
  auto result = f();
  for (int i = 0; i < kMostTries && shared && result == -1 && errno == EFAULT && touch_all(); ++i) result = f();
  return result;
}

/// Of [buffer, buffer + bytes). `write`: the kernel writes there.
template <class F>
auto with_rights(const void* buffer, std::size_t bytes, bool write, F&& f) {
  return with_touched([=] { return touch(const_cast<void*>(buffer), bytes, write); }, f);
}

inline bool touch_segments(const iovec* segments, std::size_t count, bool write) {
  bool shared = false;
  for (std::size_t i = 0; i < count; ++i) shared = touch(segments[i].iov_base, segments[i].iov_len, write) || shared;
  return shared;
}
template <class F>
auto with_segments(const iovec* segments, std::size_t count, bool write, F&& f) {
  return with_touched([=] { return touch_segments(segments, count, write); }, f);
}

/// Of a message with all that it points to. `write`: it is to be received.
template <class F>
auto with_message(const msghdr* message, bool write, F&& f) {
  return with_touched(
      [=] {
        const auto touch_it = [write](const void* at, std::size_t bytes) { return touch(const_cast<void*>(at), bytes, write); };
        bool shared = touch_it(message, sizeof *message);
        shared = touch_it(message->msg_name, message->msg_namelen) || shared;
        shared = touch_it(message->msg_control, message->msg_controllen) || shared;
        shared = touch_it(message->msg_iov, message->msg_iovlen * sizeof(iovec)) || shared;
        return touch_segments(message->msg_iov, message->msg_iovlen, write) || shared;
      },
      f);
}

/// Of a string, wherever it lies; its end is found by reading it, so by faults that are served.
template <class F>
auto with_string(const char* text, F&& f) {
  return with_rights(text, text != nullptr ? std::strlen(text) + 1 : 0, false, f);
}

}  // namespace netvm::kit
