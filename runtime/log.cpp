#include "runtime/log.hpp"

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cinttypes>
#include <cstdio>

#include "runtime/check.hpp"

namespace netvm {
namespace {

std::atomic<std::uint32_t> verbosity{kLogError};

}  // namespace

void set_log_verbosity(std::uint32_t level) { verbosity.store(level, std::memory_order_relaxed); }  // relaxed: orders nothing
std::uint32_t log_verbosity() { return verbosity.load(std::memory_order_relaxed); }                 // relaxed: orders nothing

void log_line(std::uint32_t level, const char* format, ...) {
  if (level > log_verbosity()) return;
  const int saved_errno = errno;
  LineBuffer line;
  line.append_prefix();
  va_list arguments;
  va_start(arguments, format);
  line.vappend(format, arguments);
  va_end(arguments);
  line.write_line();
  errno = saved_errno;
}

void LineBuffer::append_prefix() {
  const std::int32_t node = check_context().node;
  if (node >= 0) {
    append("netvm[node %" PRId32 "]: ", node);
  } else {
    append("netvm: ");
  }
}

void LineBuffer::append(const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  vappend(format, arguments);
  va_end(arguments);
}

void LineBuffer::vappend(const char* format, va_list arguments) {
  const std::size_t room = text_.size() - 1 - length_;  // one byte is kept for the newline
  const int wanted = std::vsnprintf(text_.data() + length_, room, format, arguments);
  if (wanted > 0) length_ += std::min(static_cast<std::size_t>(wanted), room - 1);
}

void LineBuffer::write_line() {
  text_[length_] = '\n';
  std::size_t written = 0;
  while (written <= length_) {
    const ssize_t n = ::write(STDERR_FILENO, text_.data() + written, length_ + 1 - written);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) break;  // standard error is gone: there is nobody left to tell
    written += static_cast<std::size_t>(n);
  }
  length_ = 0;
}

}  // namespace netvm
