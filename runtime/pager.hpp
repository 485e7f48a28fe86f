// Pager: keeps a node's frames within a memory budget. It takes pages away that were not used for a while (to the backing store, if they changed) and
// brings them back when somebody needs them. Replacement is the segmented FIFO of VMS and Mach: pages on the inactive queue have lost
// their page table entry but not yet their frame, so a use shows as a cheap fault, and saves the page (a second chance).
//
//      absent ──bring_in──▶ [busy] ──▶ active ──cool──▶ inactive ──evict──▶ [busy] ──▶ absent
//                                        ▲────── fault, pin ──────┘
//
// Invariants
//  1. A busy page belongs to one thread, the one that brings it in, takes it away or discards it. I/O is done with pages busy and no lock held; whoever
//     needs a busy page waits until it is not.
//  2. On eviction, in this order: not resident, the owner has been asked, no right in effect (AccessTable: all withheld, users drained, page table entry gone), the listener's
//     on_unmap, saved if it changed, frame given back. On the way in the reverse. So at no time can anybody reach a frame without its contents.
//  3. An application's right is in effect only while the page is resident; writing only while it counts as dirty.
//  4. A page that is not dirty equals its saved copy, or zeros if it has none. A dirty page is given up only after a write to the store that succeeded,
//     or because its owner said that it can be dropped.
//  5. Pinned pages stay. Where nothing but pinned pages is left, the budget is exceeded rather than that anybody waits for an unpin: pins are few, and
//     waiting for them would be a deadlock. Wired pages stay for ever, and the budget does not count them.
//  6. lock_ guards queues, pins and counts for a few instructions; never held over a system call or a fiber switch. A page's rights (AccessTable::hold) are
//     changed without lock_. May run in a signal handler: no allocation but in prefetch().
// Ong 2003, chapter 3: the host pager that tells the NIC before it takes a page away.
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdint>
#include <span>

#include "runtime/access_table.hpp"
#include "runtime/backing_store.hpp"
#include "runtime/env.hpp"
#include "runtime/host_vm.hpp"
#include "runtime/ids.hpp"
#include "runtime/page_queue.hpp"
#include "runtime/residency.hpp"
#include "runtime/sparse_memory.hpp"
#include "runtime/stats.hpp"
#include "runtime/status.hpp"
#include "runtime/task_group.hpp"
#include "runtime/trap.hpp"

namespace netvm {

/// What a pager works on; all of it outlives the pager.
struct PagerParts {
  Env& env;
  AccessTable& table;
  Residency& frames;
  TrapMechanism& trap;
  BackingStore& store;
  Stats* stats;  ///< may be null
  std::byte* frame_base;
  std::uint64_t pages;
  std::uint64_t budget;  ///< pages; at least kLeastBudget
};

class Pager {
 public:
  /// One instruction may need four pages at once (an unaligned copy from two to two).
  static constexpr std::uint64_t kLeastBudget = 8;

  explicit Pager(const PagerParts& parts);
  [[nodiscard]] bool valid() const { return pages_.valid(); }

  /// Everything as in HostVm.
  Status make_resident(PageRange pages) { return bring_in(pages, Keep::no, false); }
  Status pin(PageRange pages, bool write);
  [[nodiscard]] bool try_pin(PageRange pages, bool write);
  void unpin(PageRange pages);
  void prefetch(PageRange pages);
  void set_access(PageRange pages, Access from, Access to);
  void discard(PageRange pages);
  void wire(PageRange pages);
  std::uint64_t evict(std::uint64_t pages);
  void close() { background_.close(); }
  void set_owner(PageOwner* owner) { owner_.store(owner); }
  void charge(std::int64_t pages);

  /// The application has the right but it is not in effect: brings the page in and puts the right into effect.
  Status resolve(PageId page, bool write);

  [[nodiscard]] bool resident(PageId page) const {
    return (pages_[page.value].flags.load(std::memory_order_acquire) & kResident) != 0;  // acquire: the frame; partner is finish_coming()
  }
  [[nodiscard]] std::uint64_t resident_pages();
  /// How many pages one pin may cover.
  [[nodiscard]] std::uint64_t most_pins() const { return budget_ / 4; }
  /// Of the last transfer that failed.
  [[nodiscard]] HostVm::Failure failure();

 private:
  static constexpr std::uint32_t kResident = 1;  // may be used
  static constexpr std::uint32_t kBusy = 2;      // coming or going; never together with kResident
  static constexpr std::uint32_t kDirty = 4;     // invariant 4; may be set without lock_, by who holds the page's rights
  static constexpr std::uint32_t kSaved = 8;     // the store has a copy, which is current unless kDirty
  static constexpr std::uint32_t kInactive = 16;

  static constexpr std::size_t kBatch = 32;    // pages taken away at once
  static constexpr std::size_t kCluster = 64;  // pages brought in at once, or whose rights change at once
  static constexpr std::uint32_t kMostPrefetches = 4;

  enum class Keep : std::uint8_t { no, pinned };
  template <std::size_t kSize>
  struct PageBatch {
    std::array<PageId, kSize> at;
    std::size_t count = 0;
    void add(PageId page) { at[count++] = page; }
    [[nodiscard]] bool full() const { return count == kSize; }
    [[nodiscard]] std::span<PageId> all() { return std::span(at).first(count); }
  };
  using Victims = PageBatch<kBatch>;
  using Cooled = PageBatch<2 * kBatch>;
  enum class Pass : std::uint8_t {
    second_chance,
    any,
    clean,      // the store takes nothing: what needs no saving
    droppable,  // and then what the owner lets go of unsaved
  };
  /// What became of pages that were chosen.
  struct Taken {
    std::uint64_t gone = 0;
    std::uint64_t unsaved = 0;  // stay because the store did not take them, or (Pass::droppable) would have to
    std::uint64_t kept = 0;     // stay because their owner wants it
  };

  // ---- pager.cpp: pages come
  Status bring_in(PageRange pages, Keep keep, bool write);
  /// From `next` on: passes over resident pages (pinning them), then makes a run of absent ones busy, as many as there is room for (and one more if
  /// `over_budget`). An empty run: pages.end() was reached, or next is busy, or there is no room.
  PageRange begin_coming(PageId* next, std::uint64_t end, Keep keep, bool write, bool over_budget);
  /// Status::exhausted: with `at_once`, it would take waiting.
  Status fill(PageRange pages, bool at_once);
  void finish_coming(PageRange pages, Status status, Keep keep, bool write);
  void touch(PageId page, Keep keep, bool write);  // lock_ held
  void wait_while_busy(PageId page);
  void give_right(PageId page, bool write);

  // ---- pager_rights.cpp: rights, and pages that are thrown away
  void set_access_cluster(PageRange pages, Access from, Access to);
  struct Discarding {
    PageRange pages;
    bool resident, saved, pinned;
  };
  void discard_run(PageId* next, std::uint64_t end);
  Discarding begin_discard(PageId* next, std::uint64_t end);
  void apply(std::span<const PageId> sorted, std::span<const Access> before, std::span<const Access> after);
  /// Takes the rights of those pages out of effect that have all these flags.
  void withhold(std::span<const PageId> sorted, std::uint32_t only_with);

  // ---- pager_evict.cpp: pages go
  Status make_room(std::uint64_t want, bool* over_budget);
  void select(std::uint64_t want, Pass pass, Victims& victims, Cooled& cooled);
  void refill_inactive(std::uint64_t want, Pass pass, Cooled& cooled);  // lock_ held
  bool may_go(PageId page, Pass pass);                                  // lock_ held
  bool used_by_nic(PageId page);
  void cool(std::span<PageId> pages);
  /// Chooses up to `want` pages and takes them away. False if there was none to choose.
  bool take_some(std::uint64_t want, Pass pass, Taken* taken);
  Taken take_away(Victims& victims, Pass pass);
  /// Lets those stay that their owner keeps, or that are no use to this pass. Returns which of the others are to be dropped, as bits.
  std::uint32_t ask_owner(Victims& victims, Pass pass, Taken* taken);
  void drop(std::span<const PageId> sorted, std::uint32_t which);
  /// Returns the pages that could be saved or need not be, as bits.
  std::uint32_t save(std::span<const PageId> sorted);
  void finish_going(std::span<const PageId> pages, std::uint32_t gone);
  bool wait_for_others(std::uint64_t want);

  struct Page : PageLinks {
    std::atomic<std::uint32_t> flags;
    std::uint32_t pins;  // lock_
  };
  [[nodiscard]] std::uint32_t flags(PageId page) const {
    return pages_[page.value].flags.load(std::memory_order_acquire);  // acquire: partners are set() and clear()
  }
  void set(PageId page, std::uint32_t bits) {
    pages_[page.value].flags.fetch_or(bits, std::memory_order_acq_rel);  // acq_rel: what was done to the page; partner is flags()
  }
  void clear(PageId page, std::uint32_t bits) {
    pages_[page.value].flags.fetch_and(~bits, std::memory_order_acq_rel);  // acq_rel: what was done to the page; partner is flags()
  }
  [[nodiscard]] std::byte* frame(PageId page) const { return frame_base_ + page.value * kPageSize; }
  [[nodiscard]] bool is_wired(PageId page) const { return wired_.contains(page); }
  void note_failure(bool writing, PageRange pages, const BackingResult& result);
  /// What the frames have of the budget; lock_ held.
  [[nodiscard]] std::uint64_t room() const { return budget_ - std::min(charged_, most_charged_); }
  void count(Stat stat, std::uint64_t by) {
    if (stats_ != nullptr && by != 0) stats_->add(stat, by);
  }

  Env& env_;
  AccessTable& table_;
  Residency& frames_;
  TrapMechanism& trap_;
  BackingStore& store_;
  Stats* stats_;
  std::byte* frame_base_;
  std::atomic<PageOwner*> owner_{nullptr};
  const std::uint64_t budget_;
  const std::uint64_t batch_;         // pages taken away at once, of this budget
  const std::uint64_t most_charged_;  // what else than frames may take of the budget
  PageRange wired_{};
  SparseArray<Page> pages_;
  SparseArray<std::atomic<std::uint8_t>> touched_;  // by kTouchedChunk pages: whether any was ever brought in
  static constexpr std::uint64_t kTouchedChunk = 512;

  SpinLock lock_;
  PageQueue<Page> active_;
  PageQueue<Page> inactive_;
  std::uint64_t counted_ = 0;  // frames that the budget counts: resident and busy
  std::uint64_t charged_ = 0;  // pages of other memory that it counts
  std::uint64_t coming_ = 0;   // busy pages that come
  std::uint64_t going_ = 0;    // busy pages that go
  HostVm::Failure failure_{};
  WaitWord changed_;  // a page is busy no more

  TaskGroup background_;
  std::atomic<std::uint32_t> prefetches_{0};
};

}  // namespace netvm
