// AnnouncedPageLock: whoever is about to touch a page says so in a word of its own, and only then looks at the page's entry. Whoever takes
// pages away changes their entries, and only then looks at those words. An asymmetric fence stands between the two steps of each side, so
// that an access costs two plain stores and a load, and an unmap (of any number of pages) one system call.
//
//   the target's device memory:  used[node] ...  |  area of node 0: 64 slots  |  area of node 1  | ...        a slot: one cache line
//   a slot:                      | page + 1, 0: none 33 | sequence 31 |
//
// Invariants
//  1. A thread holds at most one page lock at a time; its slot is the one of its ThreadSlot in the area of its node. The last slot of an
//     area is for all threads without a number of their own: used under a lock of the process.
//  2. Every access: announce, fence (light), look at the entry and at the region's key, touch, withdraw (release).
//     Every unmap and revocation: change the entry or the key, fence (heavy), then wait for every slot that names one of the pages to
//     change. Either the access sees the change, or the announcement is seen.
//  3. used[node] is above the index of every slot in which that node has ever announced; it is raised before the first announcement.
//  4. A slot belongs to a node. Once the node is dead release_dead() withdraws what it announced: nothing stays locked for ever.
//  5. Where a process cannot enrol in the asymmetric fence, its announcements are full fences; where the target's cannot fence heavily,
//     everybody's are. (Device decides.)
// Threads: a Locker: one thread, which does not block while it lives. await_unlocked(), release_dead(): the target's process, any thread.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <span>

#include "nic/shadow_entry.hpp"
#include "runtime/asymmetric_fence.hpp"
#include "runtime/cpu.hpp"
#include "runtime/env.hpp"
#include "runtime/ids.hpp"
#include "runtime/sanitizers.hpp"
#include "runtime/thread_slot.hpp"

namespace netvm::nic {

/// In device memory; 0 everywhere: nobody has announced anything.
struct alignas(kCacheLine) AnnouncementSlot {
  std::atomic<std::uint64_t> word;
};
using AnnouncementArea = std::array<AnnouncementSlot, ThreadSlot::kCount>;
static_assert(sizeof(AnnouncementArea) == kPageSize, "an area is a page: what a node does not use costs nothing");

class AnnouncedPageLock {
 public:
  /// The announcements at one target, as mapped here.
  struct Memory {
    std::atomic<std::uint32_t>* used = nullptr;  ///< by node
    AnnouncementArea* areas = nullptr;           ///< by node
    std::uint32_t nodes = 0;
  };
  enum class Fence : std::uint8_t {
    light,  ///< this process has enrolled, and the target's fences heavily
    full,
  };

  /// For accesses of `initiator`'s threads in this process. No other process uses that node's area.
  AnnouncedPageLock(std::atomic<std::uint64_t>* entries, const Memory& memory, NodeId initiator, Fence fence)
      : entries_(entries), memory_(memory), initiator_(initiator), fence_(fence) {}

  static constexpr bool kCountsInEntries = false;

  class Locker {
   public:
    explicit Locker(const AnnouncedPageLock& scheme)
        : entries_(scheme.entries_), index_(ThreadSlot::mine()), fence_(scheme.fence_), scheme_(&scheme) {
      slot_ = &scheme.memory_.areas[scheme.initiator_.value][index_].word;
    }

    /// False if the page's state does not allow it. *frame is set only on success.
    template <LockFor kWhat>
    bool try_lock(PageId page, std::uint64_t* frame) {
      std::atomic<std::uint64_t>& entry = entries_[page.value];
      // relaxed: a hint. Who waits for the page to go need not wait for those who cannot have it.
      if (!ShadowEntry::allows<kWhat>(entry.load(std::memory_order_relaxed))) [[unlikely]]
        return false;
      announce(page);
      const std::uint64_t word = entry.load(kLook);
      if (!ShadowEntry::allows<kWhat>(word)) [[unlikely]] {
        unlock();
        return false;
      }
      if ((word & ShadowEntry::use_bits<kWhat>()) != ShadowEntry::use_bits<kWhat>()) [[unlikely]]
        entry.fetch_or(ShadowEntry::use_bits<kWhat>(), std::memory_order_relaxed);  // relaxed: the lock's end releases it
      *frame = static_cast<std::uint32_t>(word);
      return true;
    }
    /// Of the page locked last.
    void unlock() {
      slot_->store(announced_ & kSequenceMask, std::memory_order_release);  // release: partner is await_unlocked()'s acquire
      if (index_ == ThreadSlot::kShared) [[unlikely]]
        leave_shared();
    }

   private:
#if NETVM_TSAN
    static constexpr std::memory_order kLook = std::memory_order_seq_cst;  // no fences for ThreadSanitizer
#else
    static constexpr std::memory_order kLook = std::memory_order_acquire;  // acquire: the filled frame; partner is map()'s exchange
#endif

    void announce(PageId page) {
      if (index_ == ThreadSlot::kShared) [[unlikely]]
        enter_shared();
      std::uint64_t idle = slot_->load(std::memory_order_relaxed);  // relaxed: only this thread writes it
      if (idle - 1 >= kSequenceMask - 1) [[unlikely]]               // never used, or at the sequence's end
        idle = first_use(idle);
      announced_ = ((page.value + 1) << kSequenceBits) + idle + 1;
#if !NETVM_TSAN
      if (fence_ == Fence::light) [[likely]] {
        slot_->store(announced_, std::memory_order_relaxed);  // relaxed: the fence orders it; partner is await_unlocked()'s heavy()
        AsymmetricFence::light();
        return;
      }
#endif
      slot_->exchange(announced_);
    }
    std::uint64_t first_use(std::uint64_t word);
    static void enter_shared();
    static void leave_shared();

    std::atomic<std::uint64_t>* entries_;
    std::atomic<std::uint64_t>* slot_;
    std::uint64_t announced_ = 0;
    std::uint8_t index_;
    Fence fence_;
    const AnnouncedPageLock* scheme_;
  };

  /// Returns once no lock that existed at the call is left on any of the pages. One fence, however many ranges.
  void await_unlocked(std::span<const PageRange> ranges) const;
  /// Withdraws what the node has announced. It must be dead: none of its threads runs any more.
  void release_dead(NodeId node) const;

  /// For tests and reports, as of some moment: pages that the node's threads hold locked, and how often they have announced any.
  [[nodiscard]] std::uint32_t held_by(NodeId node) const;
  [[nodiscard]] std::uint64_t announced_by(NodeId node) const;

 private:
  template <class Visit>
  void each_slot(NodeId node, Visit&& visit) const;  // visit(slot word)

  static constexpr unsigned kSequenceBits = 31;
  static constexpr std::uint64_t kSequenceMask = (std::uint64_t{1} << kSequenceBits) - 1;

  std::atomic<std::uint64_t>* entries_;
  Memory memory_;
  NodeId initiator_;
  Fence fence_;
};

}  // namespace netvm::nic
