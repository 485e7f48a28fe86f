// Thread slot: a small number of the calling thread, for whoever keeps something apart for each thread (statistics, page locks).
//
// Invariants
//  1. Of the living threads of a process at most one has a given number below kShared. All others have kShared.
//  2. A thread that ends hands its number on; the next owner sees what it has written.
// Threads: any; costs one load after the first call.
#pragma once

#include <cstdint>

namespace netvm {

class ThreadSlot {
 public:
  static constexpr std::uint8_t kCount = 64;
  static constexpr std::uint8_t kShared = kCount - 1;
  static std::uint8_t mine() {
    if (slot_ == kNone) [[unlikely]]
      slot_ = claim();
    return slot_;
  }
  /// For paths that leave everything unusual to others: mine() if that is below kShared, else kShared or more.
  static std::uint8_t if_own() { return slot_; }

 private:
  static constexpr std::uint8_t kNone = 0xff;
  static_assert(kNone > kShared);
  static std::uint8_t claim();
  struct Owner;
  // initial-exec: a load, never a call; a shared libnetvm takes this byte from the static TLS that the loader keeps in reserve.
  [[gnu::tls_model("initial-exec")]] static inline thread_local constinit std::uint8_t slot_ = kNone;
};

}  // namespace netvm
