// AnnouncedPageLock: whoever is about to touch a run of pages says so in a word of its own, and only then looks at the pages' entries. Whoever
// takes pages away changes their entries, and only then looks at those words. An asymmetric fence stands between the two steps of each side, so
// that an access costs two plain stores and two loads a page, and an unmap (of any number of pages) one system call.
//
//   the target's device memory:  use of node 0, 1 ...  |  area of node 0: 64 slots  |  area of node 1  | ...        a slot: one cache line
//   a slot:                      | first page + 1, 0: none 33 | pages - 1: 4 | sequence 27 |
//
// Invariants
//  1. A thread holds at most one lock at a time, of a run of at most kMostPages pages; its slot is the one of its ThreadSlot in the area of its
//     node. The last slot of an area is for all threads without a number of their own: used under a lock of the process.
//  2. Every access: announce, fence (light), look at the entry and at the region's key, touch, withdraw (release).
//     Every unmap and revocation: change the entry or the key, fence (heavy), then wait for every slot that names one of the pages to
//     change. Either the access sees the change, or the announcement is seen. A slot may name pages whose entries turned out not to allow
//     the access: those are not touched.
//  3. AnnouncementUse::slots is above the index of every slot in which that node has ever announced; it is raised before the first
//     announcement, and the process that announces is noted before that: fences for this process alone are cheaper.
//  4. A slot belongs to a node. Once the node is dead release_dead() withdraws what it announced: nothing stays locked for ever.
//  5. Where a process cannot enrol in the asymmetric fence, its announcements are full fences; where the target's cannot fence heavily,
//     everybody's are. (Device decides.)
// Threads: a Locker: one thread, which does not block while it lives. await_unlocked(), release_dead(): the target's process, any thread.
#pragma once

#include <algorithm>
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
/// Of one node; 0: it has never announced anything.
struct AnnouncementUse {
  std::atomic<std::uint32_t> slots;
  std::atomic<std::int32_t> process;
};
using AnnouncementArea = std::array<AnnouncementSlot, ThreadSlot::kCount>;
static_assert(sizeof(AnnouncementArea) == kPageSize, "an area is a page: what a node does not use costs nothing");

class AnnouncedPageLock {
 public:
  /// The announcements at one target, as mapped here.
  struct Memory {
    AnnouncementUse* used = nullptr;    ///< by node
    AnnouncementArea* areas = nullptr;  ///< by node
    std::uint32_t nodes = 0;
  };
  enum class Fence : std::uint8_t {
    light,  ///< this process has enrolled, and the target's fences heavily
    full,
  };

  /// What the common case of a lock looks at, by value: it never changes.
  struct View {
    std::atomic<std::uint64_t>* entries = nullptr;
    AnnouncementArea* area = nullptr;  ///< the initiator's
    std::uint32_t slots = 0;  ///< of threads that may lock as usual: with slots of their own, and none at all unless the fence is light
  };

  /// For accesses of `initiator`'s threads in this process. No other process uses that node's area.
  AnnouncedPageLock(std::atomic<std::uint64_t>* entries, const Memory& memory, NodeId initiator, Fence fence)
      : entries_(entries), area_(&memory.areas[initiator.value]), fence_(fence), memory_(memory), initiator_(initiator) {}

  [[nodiscard]] View view() const { return {entries_, area_, fence_ == Fence::light ? std::uint32_t{ThreadSlot::kShared} : 0}; }

  static constexpr bool kCountsInEntries = false;
  /// Of one lock. A bound on what an unmap waits for: one copy of that many pages.
  static constexpr std::uint64_t kMostPages = 16;

  class Locker {
   public:
    explicit Locker(const AnnouncedPageLock& scheme) : Locker(scheme, ThreadSlot::mine()) {}

    /// False if the page's state does not allow it. *frame is set only on success.
    template <LockFor kWhat>
    [[gnu::always_inline]] bool try_lock(PageId page, std::uint64_t* frame) {
      std::atomic<std::uint64_t>& entry = entries_[page.value];
      const std::uint64_t hint = entry.load(std::memory_order_relaxed);  // relaxed: a hint
      // Who waits for the page to go need not wait for those who cannot have it.
      if (!ShadowEntry::allows<kWhat>(hint)) [[unlikely]]
        return false;
      announce(page, 1);
      const std::uint64_t word = entry.load(kLook);
      if (word != hint && !ShadowEntry::allows<kWhat>(word)) [[unlikely]] {
        unlock();
        return false;
      }
      note_use<kWhat>(entry, word);
      *frame = static_cast<std::uint32_t>(word);
      return true;
    }

    /// Locks as many of the `most` pages from `first` on as may be had at once: up to kMostPages, each in a state that allows it, their frames
    /// one behind the other. Returns how many; 0: the first does not allow it. *frame, the first's, is set only on success.
    template <LockFor kWhat>
    std::uint64_t try_lock_run(PageId first, std::uint64_t most, std::uint64_t* frame) {
      std::atomic<std::uint64_t>* const entries = entries_ + first.value;
      if (!ShadowEntry::allows<kWhat>(entries[0].load(std::memory_order_relaxed))) [[unlikely]]  // relaxed: a hint, as in try_lock()
        return 0;
      most = std::min(most, kMostPages);
      announce(first, most);
      std::uint64_t found = 0;
      const std::uint64_t locked = look<kWhat>(entries, most, &found);
      if (locked == 0) [[unlikely]] {
        unlock();
        return 0;
      }
      *frame = found;
      return locked;
    }

    /// What was locked last.
    [[gnu::always_inline]] void unlock() {
      slot_->store(announced_ & kSequenceMask, std::memory_order_release);  // release: partner is await_unlocked()'s acquire
      if (index_ == ThreadSlot::kShared) [[unlikely]]
        leave_shared();
    }

   private:
    Locker(const AnnouncedPageLock& scheme, std::uint8_t index)
        : entries_(scheme.entries_), slot_(&(*scheme.area_)[index].word), index_(index), fence_(scheme.fence_), scheme_(&scheme) {}

    /// Once announced: how many of the entries, from the first on, allow it and have frames one behind the other; 0: the first does not. Notes their
    /// use and sets *frame, the first's.
    template <LockFor kWhat>
    [[gnu::always_inline]] static std::uint64_t look(std::atomic<std::uint64_t>* entries, std::uint64_t most, std::uint64_t* frame) {
      const std::uint64_t first = entries[0].load(kLook);
      if (!ShadowEntry::allows<kWhat>(first)) [[unlikely]]
        return 0;
      const auto first_frame = static_cast<std::uint32_t>(first);
      *frame = first_frame;
      // The common case, used before and all alike but for the frames, without a branch a page.
      std::uint64_t unlike = ~first & ShadowEntry::use_bits<kWhat>();
      for (std::uint64_t i = 1; i < most; ++i) unlike |= ((entries[i].load(kLook) - i) ^ first) & ShadowEntry::run_bits<kWhat>();
      if (unlike == 0) [[likely]]
        return most;
      for (std::uint64_t i = 0; i < most; ++i) {
        const std::uint64_t word = entries[i].load(kLook);
        if (!ShadowEntry::allows<kWhat>(word) || static_cast<std::uint32_t>(word) != first_frame + i) return i;
        note_use<kWhat>(entries[i], word);
      }
      return most;
    }

    template <LockFor kWhat>
    static void note_use(std::atomic<std::uint64_t>& entry, std::uint64_t word) {
      if ((word & ShadowEntry::use_bits<kWhat>()) != ShadowEntry::use_bits<kWhat>()) [[unlikely]]
        entry.fetch_or(ShadowEntry::use_bits<kWhat>(), std::memory_order_relaxed);  // relaxed: the lock's end releases it
    }

    [[gnu::always_inline]] void announce(PageId first, std::uint64_t pages) {
      if (index_ == ThreadSlot::kShared) [[unlikely]]
        enter_shared();
      std::uint64_t idle = slot_->load(std::memory_order_relaxed);  // relaxed: only this thread writes it
      if (idle - 1 >= kSequenceMask - 1) [[unlikely]]               // never used, or at the sequence's end
        idle = first_use(*scheme_, index_, idle);
      announced_ = ((first.value + 1) << kFirstShift) + ((pages - 1) << kSequenceBits) + idle + 1;
      if (fence_ == Fence::light) [[likely]]
        return put(slot_, announced_);
      slot_->exchange(announced_);
    }
    static std::uint64_t first_use(const AnnouncedPageLock& scheme, std::uint8_t index, std::uint64_t word);
    static void enter_shared();
    static void leave_shared();

    std::atomic<std::uint64_t>* entries_;
    std::atomic<std::uint64_t>* slot_;
    std::uint64_t announced_ = 0;
    std::uint8_t index_;
    Fence fence_;
    const AnnouncedPageLock* scheme_;
  };

  /// The lock of one page, or of a run, where nothing is unusual: the fence is light, the thread has a slot of its own that was used before, and each page
  /// is there, was used before and lies in the frame of its number. A dozen instructions and four a page, all inlined, none of which waits for an
  /// entry to know where the frame is. What it refuses is a Locker's to decide.
  class Usual {
   public:
    template <LockFor kWhat>
    [[gnu::always_inline]] bool try_lock(const View& scheme, PageId page) {
      if (!try_announce(scheme, page, 1)) [[unlikely]]
        return false;
      if (ShadowEntry::is_usual<kWhat>(scheme.entries[page.value].load(kLook), page.value)) [[likely]]
        return true;
      unlock();
      return false;
    }
    /// All of the pages (at most kMostPages), or none.
    template <LockFor kWhat>
    [[gnu::always_inline]] bool try_lock_run(const View& scheme, PageId first, std::uint64_t pages) {
      if (!try_announce(scheme, first, pages)) [[unlikely]]
        return false;
      const std::atomic<std::uint64_t>* const entries = scheme.entries + first.value;
      const std::uint64_t usual = ShadowEntry::usual<kWhat>(first.value);
      std::uint64_t unlike = 0;
#pragma GCC unroll 4
      for (std::uint64_t i = 0; i < pages; ++i) unlike |= entries[i].load(kLook) ^ (usual + i);
      if (ShadowEntry::is_nothing_unusual<kWhat>(unlike)) [[likely]]
        return true;
      unlock();
      return false;
    }
    [[gnu::always_inline]] void unlock() {
      slot_->store(idle_, std::memory_order_release);  // release: partner is await_unlocked()'s acquire
    }

   private:
    [[gnu::always_inline]] bool try_announce(const View& scheme, PageId first, std::uint64_t pages) {
      const std::uint8_t index = ThreadSlot::if_own();
      if (index >= scheme.slots) [[unlikely]]
        return false;
      slot_ = &(*scheme.area)[index].word;
      const std::uint64_t idle = slot_->load(std::memory_order_relaxed);  // relaxed: only this thread writes it
      if (idle - 1 >= kSequenceMask - 1) [[unlikely]]                     // as in Locker::announce()
        return false;
      idle_ = idle + 1;
      put(slot_, ((first.value + 1) << kFirstShift) + ((pages - 1) << kSequenceBits) + idle_);
      return true;
    }

    std::atomic<std::uint64_t>* slot_ = nullptr;
    std::uint64_t idle_ = 0;
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

#if NETVM_TSAN
  static constexpr std::memory_order kLook = std::memory_order_seq_cst;  // no fences for ThreadSanitizer
#else
  static constexpr std::memory_order kLook = std::memory_order_acquire;  // acquire: the filled frame; partner is map()'s exchange
#endif
  /// Announces with a light fence.
  [[gnu::always_inline]] static void put(std::atomic<std::uint64_t>* slot, std::uint64_t word) {
#if NETVM_TSAN
    slot->exchange(word);
#else
    slot->store(word, std::memory_order_relaxed);  // relaxed: the fence orders it; partner is await_unlocked()'s heavy()
    AsymmetricFence::light();
#endif
  }

  static constexpr unsigned kSequenceBits = 27;
  static constexpr std::uint64_t kSequenceMask = (std::uint64_t{1} << kSequenceBits) - 1;
  static constexpr unsigned kFirstShift = kSequenceBits + 4;  // of a slot's first page + 1; the pages' number lies below it
  static_assert(kMostPages <= 16);
  static constexpr bool is_idle(std::uint64_t word) { return word >> kFirstShift == 0; }
  static constexpr std::uint64_t first_of(std::uint64_t word) { return (word >> kFirstShift) - 1; }
  static constexpr std::uint64_t pages_of(std::uint64_t word) { return ((word >> kSequenceBits) & 0xf) + 1; }

  std::atomic<std::uint64_t>* entries_;
  AnnouncementArea* area_;  // the initiator's
  Fence fence_;
  Memory memory_;
  NodeId initiator_;
};

}  // namespace netvm::nic
