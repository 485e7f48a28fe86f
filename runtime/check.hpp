// NETVM_CHECK: a broken invariant stops the program in every build and says where it was: node, time, seed.
#pragma once

#include <cstdint>

namespace netvm {

/// What a failing check prints beside its own text, and what a line of the log is marked with.
struct CheckContext {
  std::int32_t node = -1;     ///< -1: not known yet
  std::int64_t time_ns = -1;  ///< virtual time in the simulator, -1 on real machines
  std::uint64_t seed = 0;     ///< of the simulation, 0 on real machines
};

/// The context of the calling thread: the innermost ScopedCheckContext, else the process's. A process that is one node sets
/// the process's once at start, before it has other threads. Async-signal-safe.
CheckContext& check_context();

/// A context of its own for the calling thread, for as long as this lives: one node of several in a process, or a simulator.
class ScopedCheckContext {
 public:
  explicit ScopedCheckContext(const CheckContext& context);
  ~ScopedCheckContext();
  ScopedCheckContext(const ScopedCheckContext&) = delete;
  ScopedCheckContext& operator=(const ScopedCheckContext&) = delete;

 private:
  CheckContext context_;
  CheckContext* outer_;
};

/// Prints and aborts. Async-signal-safe: formats into a stack buffer and writes it with one write(2).
[[noreturn]] void check_failed(const char* file, int line, const char* condition, const char* format, ...)
    __attribute__((format(printf, 4, 5)));

/// For %llu and %#llx: std::uint64_t is another type than the one that these print.
constexpr unsigned long long printable(std::uint64_t value) { return value; }

}  // namespace netvm

#define NETVM_CHECK(condition, ...)                                       \
  do {                                                                    \
    if (__builtin_expect(!(condition), 0)) {                              \
      ::netvm::check_failed(__FILE__, __LINE__, #condition, __VA_ARGS__); \
    }                                                                     \
  } while (false)
