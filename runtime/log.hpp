// Lines for a person, on standard error: "netvm[node 2]: ...". One write(2) a line, so lines of several nodes never mix.
// Everything here is async-signal-safe and may be called from any thread.
#pragma once

#include <array>
#include <cstdarg>
#include <cstddef>
#include <cstdint>

namespace netvm {

/// The levels of NETVM_VERBOSE: a line appears if its level is at most the verbosity.
inline constexpr std::uint32_t kLogError = 0;
inline constexpr std::uint32_t kLogStart = 1;
inline constexpr std::uint32_t kLogDetail = 2;

/// Process-wide; 0 until set.
void set_log_verbosity(std::uint32_t level);
[[nodiscard]] std::uint32_t log_verbosity();

/// Writes one line if its level is wanted; without a newline in the format. A line longer than 1000 characters is cut.
void log_line(std::uint32_t level, const char* format, ...) __attribute__((format(printf, 2, 3)));

/// A line under construction in a buffer of its own.
class LineBuffer {
 public:
  void append_prefix();  ///< "netvm[node 2]: ", or "netvm: " while the node is not known
  void append(const char* format, ...) __attribute__((format(printf, 2, 3)));
  void vappend(const char* format, va_list arguments) __attribute__((format(printf, 2, 0)));
  /// Ends the line and writes it to standard error.
  void write_line();

 private:
  std::array<char, 1024> text_{};
  std::size_t length_ = 0;
};

}  // namespace netvm
