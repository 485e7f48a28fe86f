// Shadow page table: the NIC's own view of which pages of its node are resident, where, with which rights; and the brief lock under
// which the NIC touches a page (Ong 2003, chapter 3: what replaces pinning).
//
// Invariants
//  1. A frame is touched by the NIC only while its page is locked, or inside the host itself.
//  2. A lock is taken only in a state that allows it (LockFor); it is held for one copy of a run of at most 16 pages and never across a wait.
//  3. Unmapping: state EVICTING first (no new lock), wait until the locks are gone, then INVALID with the next generation.
//     The host takes the frame away after that only.
//  4. Mapping goes INVALID -> RO | RW after the frame is filled. EVICTING, FAULTING and REDIRECTING refuse locks like INVALID.
//  5. Redirect: INVALID -> FAULTING (begin_fault) -> REDIRECTING (on_map) -> RW (end_redirect). In REDIRECTING only a drain locks. A page
//     that is EVICTING when its fault begins, or REDIRECTING when it is evicted, is FAULTING as soon as it has gone: FAULTING and REDIRECTING end
//     by end_redirect() and abandon_fault() alone. Mapped read-only meanwhile, a page is REDIRECTING (RO): not even a drain locks it, and it ends as RO.
//  6. `referenced` and `written` are set under the lock and are final once on_unmap() has returned; on_map() of a page that was not
//     mapped clears them.
//  7. A lock that was taken before a change elsewhere (a region's key) is waited for by drain() after that change: so a revocation drains.
// Threads: lockers: any, of any process that maps the device. The listener's functions: the host VM's, serialised per page. The
// functions of a redirect: any of the node that owns the pages.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "nic/page_lock_announced.hpp"
#include "nic/page_lock_cas.hpp"
#include "nic/shadow_entry.hpp"
#include "runtime/host_vm.hpp"
#include "runtime/ids.hpp"

namespace netvm::nic {

/// What a fault that wants to begin meets.
enum class FaultStart : std::uint8_t {
  begun,     ///< the page is FAULTING by this call (or will be as soon as it is evicted): the caller has it brought in
  underway,  ///< it was FAULTING or REDIRECTING: its data waits with the others
  resident,  ///< it is there: try again
};

template <class PageLock>
class BasicShadowPageTable final : public ResidencyListener {
 public:
  /// Over `pages` words at `entries` (zeroed: all INVALID).
  BasicShadowPageTable(std::atomic<std::uint64_t>* entries, std::uint64_t pages, const PageLock& lock);

  static constexpr std::uint64_t bytes_needed(std::uint64_t pages) { return pages * sizeof(std::uint64_t); }
  [[nodiscard]] std::uint64_t pages() const { return pages_; }
  [[nodiscard]] ShadowEntry entry(PageId page) const { return ShadowEntry::decode(entries_[page.value].load()); }

  /// The calling thread's way to lock pages, one run at a time; for as long as it does not block.
  using Locker = typename PageLock::Locker;
  [[nodiscard]] Locker locker() const { return Locker(lock_); }
  [[nodiscard]] const PageLock& page_lock() const { return lock_; }

  /// Waits until no lock that existed at the call is left on any of the pages. New ones may come. For revocation, by the host that maps.
  void drain(PageRange pages);

  // ---- the host's side of invariants 3 and 4
  void on_map(PageRange pages) noexcept override { map(pages, true); }
  void on_unmap(PageRange pages) noexcept override { on_unmap_all(std::span(&pages, 1)); }
  void on_unmap_all(std::span<const PageRange> ranges) noexcept override;
  /// Clears `referenced`, and `written` once the page is not mapped: an access under way may have found it set, and sets it no more.
  PageUse take_use(PageId page) noexcept override;
  void describe(PageId page, std::span<char> text) const noexcept override;
  /// Changes the rights of pages that are mapped already, too; lowering them is complete on return.
  void map(PageRange pages, bool writable) noexcept;

  // ---- redirect: invariant 5
  FaultStart begin_fault(PageId page);
  /// Nobody brings the page in after all. False if it was not FAULTING any more.
  bool abandon_fault(PageId page);
  /// All data that waited for the page is in it. False if it was not REDIRECTING: evicted meanwhile (and so FAULTING), for example.
  bool end_redirect(PageId page);

 private:
  static constexpr std::uint64_t kChunk = kPageSize / sizeof(std::uint64_t);  // entries on one page of the table

  void check(PageRange pages) const;
  /// Calls visit(range) for the pages of the range whose entries may be anything but INVALID.
  template <class Visit>
  void each_touched(PageRange pages, Visit&& visit) const;
  void await_unlocked(std::span<const PageRange> ranges) const;
  void begin_unmap(PageRange pages, bool* any);  // EVICTING, wanted or not; *any: a page was mapped
  void end_unmap(PageRange pages);
  /// from -> to, keeping the rest. False, changing nothing, if the state is another.
  bool change_state(PageId page, PageState from, PageState to);

  std::atomic<std::uint64_t>* entries_;
  std::uint64_t pages_;
  PageLock lock_;
  // Of the host's side: which pages of the table were ever written. The others are all INVALID, and looking would give them memory.
  std::unique_ptr<std::atomic<bool>[]> touched_;
};

extern template class BasicShadowPageTable<AnnouncedPageLock>;
extern template class BasicShadowPageTable<CasPageLock>;

/// The product's; why: docs/decisions/0008-page-locks.md.
using ShadowPageTable = BasicShadowPageTable<AnnouncedPageLock>;

}  // namespace netvm::nic
