// What the stories of an initiator that locks a page which its host takes away share: how to make its announcement show late.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <thread>
#include <vector>

#include "nic/shadow_page_table.hpp"
#include "runtime/topology.hpp"

namespace netvm::test {

/// Stores that miss the cache go ahead of an announcement in the processor's store buffer, which drains in order: it shows late.
class SlowStores {
 public:
  [[gnu::always_inline]] void operator()() {
    for (int i = 0; i < 12; ++i) {
      x_ = x_ * 6364136223846793005U + 1442695040888963407U;
      static_cast<volatile std::uint64_t*>(memory_.data())[(x_ >> 33) % memory_.size()] = x_;
    }
  }

 private:
  std::vector<std::uint64_t> memory_ = std::vector<std::uint64_t>((std::size_t{32} << 20) / 8);
  std::uint64_t x_ = 1;
};

/// The kernel's fence for all processes forgets a processor where a thread has exited: this one from now on.
inline void let_a_thread_exit_on(int processor) {
  std::thread([processor] { (void)bind_this_thread(processor); }).join();
}

/// Locks page 0 behind slow stores and looks whether it is gone while it is locked. False: it could not be locked. Always inlined: a sanitizer's calls in between
/// would leave the announcement time to show.
[[gnu::always_inline]] inline bool lock_and_look(nic::ShadowPageTable::Locker locker, SlowStores& slow, const std::atomic<bool>& gone,
                                                 std::atomic<bool>& caught) {
  slow();
  std::uint64_t frame = 0;
  if (!locker.try_lock<nic::LockFor::read>(PageId{0}, &frame)) return false;
  for (int look = 0; look < 40; ++look) {
    if (gone.load(std::memory_order_relaxed)) caught.store(true);  // relaxed: the very question is what is seen without help
  }
  locker.unlock();
  return true;
}

}  // namespace netvm::test
