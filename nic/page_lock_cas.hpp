// CasPageLock: a page's lock is a count in its entry. Two locked instructions an access, and nobody knows whose a lock is: a holder that is
// killed leaves its page locked for ever. Kept to measure AnnouncedPageLock against (docs/decisions/0008-page-locks.md).
//
// Invariants
//  1. A lock is taken by CAS, in a state that allows it; a changed state and a count of 0 mean that nobody is in.
//  2. Locking is seq_cst, so that a lock taken before a change elsewhere (a region's key) is seen by whoever looks for locks after it.
// Threads: any, of any process that maps the entries; a Locker: one thread.
#pragma once

#include <atomic>
#include <cstdint>

#include "nic/shadow_entry.hpp"
#include "runtime/ids.hpp"

namespace netvm::nic {

class CasPageLock {
 public:
  explicit CasPageLock(std::atomic<std::uint64_t>* entries) : entries_(entries) {}

  static constexpr bool kCountsInEntries = true;

  /// One thread's way to lock pages, one at a time.
  class Locker {
   public:
    explicit Locker(const CasPageLock& scheme) : entries_(scheme.entries_) {}

    /// False if the page's state does not allow it. *frame is set only on success.
    template <LockFor kWhat>
    bool try_lock(PageId page, std::uint64_t* frame) {
      std::atomic<std::uint64_t>& entry = entries_[page.value];
      std::uint64_t word = entry.load(std::memory_order_relaxed);  // relaxed: the exchange below decides
      for (;;) {
        if (!ShadowEntry::allows<kWhat>(word)) return false;
        if ((word & ShadowEntry::kLockMask) == ShadowEntry::kLockMask) [[unlikely]] {  // all counted out: locks are short
          word = yield_and_reload(entry);
          continue;
        }
        const std::uint64_t next = (word + ShadowEntry::kOneLock) | ShadowEntry::use_bits<kWhat>();
        if (entry.compare_exchange_weak(word, next)) break;  // seq_cst: invariant 2
      }
      held_ = &entry;
      *frame = static_cast<std::uint32_t>(word);
      return true;
    }
    /// As AnnouncedPageLock's; of one page: a count is taken page by page.
    template <LockFor kWhat>
    std::uint64_t try_lock_run(PageId first, std::uint64_t /*most*/, std::uint64_t* frame) {
      return try_lock<kWhat>(first, frame) ? 1 : 0;
    }
    /// Of the page locked last.
    void unlock() {
      held_->fetch_sub(ShadowEntry::kOneLock, std::memory_order_release);  // release: partner is await_unlocked()'s load
    }

   private:
    static std::uint64_t yield_and_reload(const std::atomic<std::uint64_t>& entry);

    std::atomic<std::uint64_t>* entries_;
    std::atomic<std::uint64_t>* held_ = nullptr;
  };

  /// Returns once no lock that existed at the call is left on the pages. The pages' node only.
  void await_unlocked(PageRange pages) const;

 private:
  std::atomic<std::uint64_t>* entries_;
};

}  // namespace netvm::nic
