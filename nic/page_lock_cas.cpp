#include "nic/page_lock_cas.hpp"

#include <sched.h>

#include "nic/backoff.hpp"

namespace netvm::nic {

std::uint64_t CasPageLock::Locker::yield_and_reload(const std::atomic<std::uint64_t>& entry) {
  sched_yield();
  return entry.load(std::memory_order_relaxed);  // relaxed: the caller's exchange decides
}

void CasPageLock::await_unlocked(PageRange pages) const {
  for (std::uint64_t page = pages.first.value; page < pages.end(); ++page) {
    Backoff backoff;
    while ((entries_[page].load() & ShadowEntry::kLockMask) != 0) backoff.wait();  // seq_cst: invariant 2
  }
}

}  // namespace netvm::nic
