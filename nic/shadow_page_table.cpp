#include "nic/shadow_page_table.hpp"

#include <algorithm>
#include <cstdio>

#include "runtime/check.hpp"

namespace netvm::nic {

namespace {

bool is_mapped(PageState state) {
  return state == PageState::read_only || state == PageState::read_write || state == PageState::redirecting ||
         state == PageState::redirecting_read_only;
}

/// The state of a page after map(); from a state that forbids it, itself.
PageState mapped_state(PageState from, bool writable) {
  if (redirects_in(from)) return writable ? PageState::redirecting : PageState::redirecting_read_only;
  return writable ? PageState::read_write : PageState::read_only;
}

}  // namespace

template <class PageLock>
BasicShadowPageTable<PageLock>::BasicShadowPageTable(std::atomic<std::uint64_t>* entries, std::uint64_t pages, const PageLock& lock)
    : entries_(entries), pages_(pages), lock_(lock), touched_(new std::atomic<bool>[pages / kChunk + 1]()) {}

template <class PageLock>
void BasicShadowPageTable<PageLock>::check(PageRange pages) const {
  NETVM_CHECK(pages.end() <= pages_ && pages.end() >= pages.first.value, "pages %llu + %llu of a table of %llu",
              static_cast<unsigned long long>(pages.first.value), static_cast<unsigned long long>(pages.count),
              static_cast<unsigned long long>(pages_));
}

template <class PageLock>
template <class Visit>
void BasicShadowPageTable<PageLock>::each_touched(PageRange pages, Visit&& visit) const {
  for (std::uint64_t page = pages.first.value; page < pages.end();) {
    const std::uint64_t end = std::min(pages.end(), (page / kChunk + 1) * kChunk);
    // relaxed: set before a lock in the chunk was possible, and by this same host
    if (touched_[page / kChunk].load(std::memory_order_relaxed)) visit(PageRange{PageId{page}, end - page});
    page = end;
  }
}

template <class PageLock>
void BasicShadowPageTable<PageLock>::drain(PageRange pages) {
  check(pages);
  await_unlocked(std::span(&pages, 1));
}

template <class PageLock>
void BasicShadowPageTable<PageLock>::await_unlocked(std::span<const PageRange> ranges) const {
  if constexpr (PageLock::kCountsInEntries) {
    for (const PageRange& pages : ranges) each_touched(pages, [&](PageRange run) { lock_.await_unlocked(run); });
  } else {
    lock_.await_unlocked(ranges);
  }
}

template <class PageLock>
void BasicShadowPageTable<PageLock>::map(PageRange pages, bool writable) noexcept {
  check(pages);
  bool lowered = false;
  for (std::uint64_t page = pages.first.value; page < pages.end(); ++page) {
    touched_[page / kChunk].store(true, std::memory_order_relaxed);  // relaxed: published by the entry's release below
    std::uint64_t word = entries_[page].load();
    for (;;) {
      const PageState from = ShadowEntry::state_of(word);
      const PageState to = mapped_state(from, writable);
      NETVM_CHECK(from == PageState::invalid || from == PageState::faulting || is_mapped(from), "page %llu is mapped in state %u",
                  static_cast<unsigned long long>(page), static_cast<unsigned>(from));
      if (from == to) break;  // was there already
      std::uint64_t next = ShadowEntry::with_state(word, to);
      if (!is_mapped(from)) {
        next = (next & ~ShadowEntry::kUseMask & ~std::uint64_t{UINT32_MAX}) | page;  // the page's number is its frame's: host_vm.hpp
      }
      if (!entries_[page].compare_exchange_weak(word, next)) continue;  // seq_cst; publishes the filled frame to who locks the page
      lowered = lowered || (is_mapped(from) && !writable);
      break;
    }
  }
  if (lowered) await_unlocked(std::span(&pages, 1));  // writes that began before
}

template <class PageLock>
void BasicShadowPageTable<PageLock>::on_unmap_all(std::span<const PageRange> ranges) noexcept {
  // First all pages refuse new locks, then they drain: the waits overlap.
  bool any = false;
  for (const PageRange& pages : ranges) begin_unmap(pages, &any);
  if (!any) return;
  await_unlocked(ranges);
  for (const PageRange& pages : ranges) end_unmap(pages);
}

template <class PageLock>
void BasicShadowPageTable<PageLock>::begin_unmap(PageRange pages, bool* any) {
  check(pages);
  each_touched(pages, [&](PageRange run) {
    for (std::uint64_t page = run.first.value; page < run.end(); ++page) {
      std::uint64_t word = entries_[page].load();
      while (is_mapped(ShadowEntry::state_of(word))) {
        // What waits for a page still does when the page has gone: opened by whoever maps it next, it would let later data go first.
        const bool wanted = redirects_in(ShadowEntry::state_of(word));
        const PageState leaving = wanted ? PageState::evicting_wanted : PageState::evicting;
        if (!entries_[page].compare_exchange_weak(word, ShadowEntry::with_state(word, leaving))) continue;
        *any = true;
        break;
      }
    }
  });
}

template <class PageLock>
void BasicShadowPageTable<PageLock>::end_unmap(PageRange pages) {
  each_touched(pages, [&](PageRange run) {
    for (std::uint64_t page = run.first.value; page < run.end(); ++page) {
      std::uint64_t word = entries_[page].load();
      for (;;) {  // against begin_fault() and abandon_fault()
        const PageState state = ShadowEntry::state_of(word);
        if (state != PageState::evicting && state != PageState::evicting_wanted) break;
        const PageState gone = state == PageState::evicting ? PageState::invalid : PageState::faulting;
        if (entries_[page].compare_exchange_weak(word, ShadowEntry::with_state(word, gone) + ShadowEntry::kOneGeneration)) break;
      }
    }
  });
}

template <class PageLock>
PageUse BasicShadowPageTable<PageLock>::take_use(PageId page) noexcept {
  check({page, 1});
  std::uint64_t word = entries_[page.value].load();
  for (;;) {
    const PageUse use{(word & ShadowEntry::kReferenced) != 0, (word & ShadowEntry::kWritten) != 0};
    const bool gone = ShadowEntry::state_of(word) == PageState::invalid || ShadowEntry::state_of(word) == PageState::faulting;
    const std::uint64_t next = word & ~(gone ? ShadowEntry::kUseMask : ShadowEntry::kReferenced);
    if (next == word || entries_[page.value].compare_exchange_weak(word, next)) return use;
  }
}

template <class PageLock>
void BasicShadowPageTable<PageLock>::describe(PageId page, std::span<char> text) const noexcept {
  if (page.value >= pages_) return;
  const ShadowEntry now = entry(page);
  (void)std::snprintf(text.data(), text.size(), "its shadow entry is %s, generation %u", to_string(now.state), unsigned{now.generation});
}

template <class PageLock>
bool BasicShadowPageTable<PageLock>::change_state(PageId page, PageState from, PageState to) {
  std::uint64_t word = entries_[page.value].load();
  while (ShadowEntry::state_of(word) == from) {
    if (entries_[page.value].compare_exchange_weak(word, ShadowEntry::with_state(word, to))) return true;
  }
  return false;
}

template <class PageLock>
FaultStart BasicShadowPageTable<PageLock>::begin_fault(PageId page) {
  check({page, 1});
  touched_[page.value / kChunk].store(true, std::memory_order_relaxed);  // relaxed: published by the entry's exchange below
  for (;;) {
    switch (entry(page).state) {
      case PageState::read_only:
      case PageState::read_write:
        return FaultStart::resident;
      case PageState::faulting:
      case PageState::redirecting:
      case PageState::redirecting_read_only:
      case PageState::evicting_wanted:
        return FaultStart::underway;
      case PageState::invalid:
        if (change_state(page, PageState::invalid, PageState::faulting)) return FaultStart::begun;
        break;
      case PageState::evicting:
        if (change_state(page, PageState::evicting, PageState::evicting_wanted)) return FaultStart::begun;
        break;
    }
  }
}

template <class PageLock>
bool BasicShadowPageTable<PageLock>::abandon_fault(PageId page) {
  check({page, 1});
  for (;;) {
    const PageState state = entry(page).state;
    if (state != PageState::faulting && state != PageState::evicting_wanted) return false;
    if (change_state(page, state, state == PageState::faulting ? PageState::invalid : PageState::evicting)) return true;
  }
}

template <class PageLock>
bool BasicShadowPageTable<PageLock>::end_redirect(PageId page) {
  check({page, 1});
  return change_state(page, PageState::redirecting, PageState::read_write) ||
         change_state(page, PageState::redirecting_read_only, PageState::read_only);
}

template class BasicShadowPageTable<AnnouncedPageLock>;
template class BasicShadowPageTable<CasPageLock>;

}  // namespace netvm::nic
