// Pager: what the application may do with pages that come and go, and pages that are thrown away.
#include <algorithm>
#include <cstring>
#include <mutex>

#include "runtime/check.hpp"
#include "runtime/pager.hpp"

namespace netvm {

// ---- rights -------------------------------------------------------------------------------------------------------------------------------

void Pager::set_access(PageRange pages, Access from, Access to) {
  for (std::uint64_t p = pages.first.value; p < pages.end(); p += kCluster) {
    set_access_cluster({PageId{p}, std::min<std::uint64_t>(kCluster, pages.end() - p)}, from, to);
  }
}

// Of a page that is not resident only the right changes. Whoever uses it then faults and brings the page in.
void Pager::set_access_cluster(PageRange pages, Access from, Access to) {
  std::array<PageId, kCluster> ids;
  std::array<Access, kCluster> before;
  std::array<Access, kCluster> after;
  std::array<Withheld, kCluster> next;
  for (std::size_t i = 0; i < pages.count; ++i) {
    ids[i] = PageId{pages.first.value + i};
    table_.hold(ids[i], env_);
  }
  for (std::size_t i = 0; i < pages.count; ++i) {
    const PageId page = ids[i];
    NETVM_CHECK(table_.access(page) == from, "access of page %llu goes from %u to %u, but the page has %u",
                static_cast<unsigned long long>(page.value), static_cast<unsigned>(from), static_cast<unsigned>(to),
                static_cast<unsigned>(table_.access(page)));
    const Withheld withheld = table_.withheld(page);
    next[i] = withheld;
    if (to < from) {
      table_.drain(page, env_);
    } else if ((flags(page) & kResident) == 0) {
      next[i] = Withheld::all;
    } else {
      next[i] = Withheld::nothing;
      if (to == Access::write) set(page, kDirty);
    }
    before[i] = effective(from, withheld);
    after[i] = effective(to, next[i]);
  }
  const std::span<const PageId> sorted = std::span(ids).first(pages.count);
  apply(sorted, before, after);
  for (std::size_t i = 0; i < pages.count; ++i) table_.settle(ids[i], to, next[i]);
}

// One system call for neighbours with the same change.
void Pager::apply(std::span<const PageId> sorted, std::span<const Access> before, std::span<const Access> after) {
  for (std::size_t i = 0; i < sorted.size();) {
    std::size_t j = i + 1;
    while (j < sorted.size() && sorted[j].value == sorted[i].value + (j - i) && before[j] == before[i] && after[j] == after[i]) ++j;
    if (before[i] != after[i]) trap_.apply({sorted[i], j - i}, before[i], after[i]);
    i = j;
  }
}

void Pager::withhold(std::span<const PageId> sorted, std::uint32_t only_with) {
  std::array<Access, 2 * kBatch> before;
  std::array<Access, 2 * kBatch> after;
  std::array<Withheld, 2 * kBatch> next;
  for (const PageId page : sorted) table_.hold(page, env_);
  for (std::size_t i = 0; i < sorted.size(); ++i) {
    const PageId page = sorted[i];
    const Access access = table_.access(page);
    next[i] = table_.withheld(page);
    before[i] = effective(access, next[i]);
    if ((flags(page) & only_with) == only_with) {
      table_.drain(page, env_);
      next[i] = Withheld::all;
    }
    after[i] = effective(access, next[i]);
  }
  apply(sorted, before, after);
  for (std::size_t i = 0; i < sorted.size(); ++i) table_.settle(sorted[i], table_.access(sorted[i]), next[i]);
}

// ---- throwing away ------------------------------------------------------------------------------------------------------------------------

void Pager::discard(PageRange pages) {
  for (std::uint64_t p = pages.first.value; p < pages.end();) {
    const std::uint64_t chunk_end = std::min((p / kTouchedChunk + 1) * kTouchedChunk, pages.end());
    // relaxed: a page that comes at the same moment comes before or after this
    if (touched_[p / kTouchedChunk].load(std::memory_order_relaxed) != 0) {  // relaxed: see above
      for (PageId next{p}; next.value < chunk_end;) discard_run(&next, chunk_end);
    }
    p = chunk_end;
  }
}

void Pager::discard_run(PageId* next, std::uint64_t end) {
  const Discarding run = begin_discard(next, end);
  if (run.pages.count == 0) {
    if (next->value < end) wait_while_busy(*next);
    return;
  }
  if (run.pinned) {
    // Somebody of the NIC's has it: it stays, without its contents.
    std::memset(frame(run.pages.first), 0, kPageSize);
    unpin(run.pages);
    return;
  }
  if (run.resident) {
    if (ResidencyListener* listener = frames_.listener()) listener->on_unmap(run.pages);
    frames_.give_back(run.pages);
  }
  if (run.saved) store_.forget(run.pages);
  {
    const std::lock_guard guard(lock_);
    for (std::uint64_t p = run.pages.first.value; p < run.pages.end(); ++p) clear(PageId{p}, kBusy | kDirty | kSaved);
    going_ -= run.pages.count;
    if (run.resident && !is_wired(run.pages.first)) counted_ -= run.pages.count;
  }
  changed_.announce(env_);
}

// A run of pages of one kind, made busy (a pinned page: pinned once more). Empty: *next is busy, or the end was reached.
Pager::Discarding Pager::begin_discard(PageId* next, std::uint64_t end) {
  const std::lock_guard guard(lock_);
  const auto nothing_here = [this](PageId page) { return (flags(page) & (kResident | kBusy | kSaved)) == 0; };
  while (next->value < end && nothing_here(*next)) ++next->value;
  Discarding run{{*next, 0}, false, false, false};
  if (next->value == end || (flags(*next) & kBusy) != 0) return run;
  run.resident = (flags(*next) & kResident) != 0;
  if (pages_[next->value].pins != 0) {
    run.pinned = true;
    ++pages_[next->value].pins;
    set(*next, kDirty);
    run.pages.count = 1;
    ++next->value;
    return run;
  }
  for (; next->value < end && !nothing_here(*next); ++next->value) {
    const std::uint32_t f = flags(*next);
    const bool resident = (f & kResident) != 0;
    if ((f & kBusy) != 0 || resident != run.resident || pages_[next->value].pins != 0 || is_wired(*next) != is_wired(run.pages.first))
      break;
    NETVM_CHECK(table_.access(*next) == Access::none, "page %llu is discarded while the application may use it",
                static_cast<unsigned long long>(next->value));
    run.saved = run.saved || (f & kSaved) != 0;
    if (resident && !is_wired(*next)) ((f & kInactive) != 0 ? inactive_ : active_).remove(*next);
    clear(*next, kResident | kInactive);
    set(*next, kBusy);
    ++run.pages.count;
  }
  going_ += run.pages.count;
  return run;
}

}  // namespace netvm
