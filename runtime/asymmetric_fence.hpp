// Asymmetric fence: between a side that is fast and frequent and a side that is rare, across processes. A pair of light() and heavy() orders
// like two seq_cst fences; light() costs nothing, heavy() is a system call (membarrier) that runs a fence on every processor where a
// thread of an enrolled process runs.
//
// Invariants
//  1. light() counts only in a process that has enrolled. Where enrol() fails, that process must use a full fence in its place.
//  2. ThreadSanitizer models no fences: its builds need seq_cst operations on both sides instead.
//  3. The kernel's fence for all processes (GLOBAL_EXPEDITED) leaves out a processor on which a thread of an enrolled process has exited, as long as
//     only threads of that process have run there since: it takes the processor for one that nobody has enrolled for (exit_mm() says so, and a switch
//     within an address space does not correct it; Linux 5.11 to 6.18 at least). The one for the calling process has no such hole. So towards
//     others heavy() also waits for longer than a store can stay unseen by itself: kSettle.
// Threads: any.
#pragma once

#include <atomic>
#include <cstdint>

namespace netvm {

class AsymmetricFence {
 public:
  /// Whose light() a heavy() is for.
  enum class Reach : std::uint8_t {
    process,  ///< of this process's threads
    host,     ///< of those of every enrolled process
  };

  /// Makes this process's light() effective against everybody's heavy(). Again costs little. False: the kernel is older than Linux 4.16,
  /// or a seccomp profile forbids membarrier.
  [[nodiscard]] static bool enrol();
  /// Whether this process may call heavy(). It must have enrolled.
  [[nodiscard]] static bool available();

  static void light() { std::atomic_signal_fence(std::memory_order_seq_cst); }
  /// Reach::process: a microsecond or two. Reach::host: kSettle more.
  static void heavy(Reach reach);

  /// A processor's store buffer holds less than a hundred stores, each of which waits for one cache line at most: some microseconds, tens of
  /// them where all lines come from another socket that is busy.
  static constexpr std::int64_t kSettle = 50'000;  // ns
};

}  // namespace netvm
