// Asymmetric fence: between a side that is fast and frequent and a side that is rare, across processes. A pair of light() and heavy() orders
// like two seq_cst fences; light() costs nothing, heavy() is a system call (membarrier) that runs a fence on every processor where a
// thread of an enrolled process runs.
//
// Invariants
//  1. light() counts only in a process that has enrolled. Where enrol() fails, that process must use a full fence in its place.
//  2. ThreadSanitizer models no fences: its builds need seq_cst operations on both sides instead.
// Threads: any.
#pragma once

#include <atomic>

namespace netvm {

class AsymmetricFence {
 public:
  /// Makes this process's light() effective against everybody's heavy(). Again costs little. False: the kernel is older than Linux 4.16,
  /// or a seccomp profile forbids membarrier.
  [[nodiscard]] static bool enrol();
  /// Whether this process may call heavy().
  [[nodiscard]] static bool available();

  static void light() { std::atomic_signal_fence(std::memory_order_seq_cst); }
  static void heavy();
};

}  // namespace netvm
