// Pager: pages come: pins, faults, prefetch. See pager_evict.cpp for how they go, pager_rights.cpp for what the application may do meanwhile.
#include "runtime/pager.hpp"

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <mutex>

#include "runtime/check.hpp"

namespace netvm {

Pager::Pager(const PagerParts& parts)
    : env_(parts.env),
      table_(parts.table),
      frames_(parts.frames),
      trap_(parts.trap),
      store_(parts.store),
      stats_(parts.stats),
      frame_base_(parts.frame_base),
      budget_(parts.budget),
      batch_(std::clamp<std::uint64_t>(parts.budget / 8, 1, kBatch)),
      most_charged_(parts.budget - std::min(parts.budget, std::max(parts.budget / 2, kLeastBudget))),
      pages_(parts.pages),
      touched_(parts.pages / kTouchedChunk + 1),
      active_(pages_),
      inactive_(pages_),
      background_(parts.env) {
  NETVM_CHECK(budget_ >= kLeastBudget, "a memory budget of %llu pages", static_cast<unsigned long long>(budget_));
}

// ---- what callers see ---------------------------------------------------------------------------------------------------------------

Status Pager::pin(PageRange pages, bool write) {
  if (!is_wired(pages.first) && pages.count > most_pins()) return Status::exhausted;
  return bring_in(pages, Keep::pinned, write);
}

bool Pager::try_pin(PageRange pages, bool write) {
  {
    const std::lock_guard guard(lock_);
    std::uint64_t absent = 0;
    for (std::uint64_t p = pages.first.value; p < pages.end(); ++p) {
      const std::uint32_t f = flags(PageId{p});
      if ((f & kResident) != 0) continue;
      if ((f & kBusy) != 0 || ((f & kSaved) != 0 && !store_.reads_at_once())) return false;
      if (!is_wired(PageId{p})) ++absent;
    }
    if (absent > 0 && counted_ + absent > room()) return false;
  }
  // What was seen may have changed since; then it is the answer that changes.
  PageId next = pages.first;
  for (;;) {
    const PageRange run = begin_coming(&next, pages.end(), Keep::pinned, write, false);
    if (next.value == pages.end()) return true;
    const Status status = run.count == 0 ? Status::exhausted : fill(run, true);
    finish_coming(run, status, Keep::pinned, write);
    if (!ok(status)) {
      unpin({pages.first, next.value - pages.first.value});
      return false;
    }
    next.value += run.count;
  }
}

void Pager::unpin(PageRange pages) {
  const std::lock_guard guard(lock_);
  for (std::uint64_t p = pages.first.value; p < pages.end(); ++p) {
    NETVM_CHECK(pages_[p].pins != 0, "page %llu is unpinned more often than it was pinned", static_cast<unsigned long long>(p));
    --pages_[p].pins;
  }
}

void Pager::prefetch(PageRange pages) {
  pages.count = std::min(pages.count, budget_ / 2);  // more would push its own beginning out
  const auto away = [this](std::uint64_t p) { return (flags(PageId{p}) & (kResident | kBusy)) == 0; };
  while (pages.count > 0 && !away(pages.first.value)) pages = {PageId{pages.first.value + 1}, pages.count - 1};
  if (pages.count == 0) return;
  if (prefetches_.fetch_add(1) >= kMostPrefetches) {
    prefetches_.fetch_sub(1);
    return;
  }
  const bool spawned = background_.spawn([this, pages] {
    (void)make_resident(pages);  // a hint: who needs the page meets the error
    prefetches_.fetch_sub(1);
  });
  if (!spawned) prefetches_.fetch_sub(1);
}

Status Pager::resolve(PageId page, bool write) {
  if (const Status status = bring_in({page, 1}, Keep::pinned, false); !ok(status)) return status;
  give_right(page, write);
  unpin({page, 1});
  return Status::ok;
}

void Pager::wire(PageRange pages) {
  NETVM_CHECK(wired_.count == 0 || wired_ == pages, "another range of pages is wired already");
  wired_ = pages;
}

std::uint64_t Pager::resident_pages() {
  const std::lock_guard guard(lock_);
  return counted_ - coming_;
}

void Pager::charge(std::int64_t pages) {
  const std::lock_guard guard(lock_);
  charged_ += static_cast<std::uint64_t>(pages);
}

HostVm::Failure Pager::failure() {
  const std::lock_guard guard(lock_);
  return failure_;
}

// `pages`: those of the transfer that were not transferred.
void Pager::note_failure(bool writing, PageRange pages, const BackingResult& result) {
  HostVm::Failure failure;
  const unsigned long long bytes = pages.count * kPageSize;
  (void)std::snprintf(failure.text, sizeof failure.text,
                      "%s page %llu %s %s at offset %llu: %s (it holds %llu bytes; this would be %llu %s)", writing ? "writing" : "reading",
                      static_cast<unsigned long long>(pages.first.value), writing ? "to" : "from", store_.name(),
                      static_cast<unsigned long long>(result.offset), strerrordesc_np(result.error),
                      static_cast<unsigned long long>(store_.bytes_in_use()), bytes, writing ? "more" : "of them");
  const std::lock_guard guard(lock_);
  failure_ = failure;
}

// ---- coming in ------------------------------------------------------------------------------------------------------------------------

Status Pager::bring_in(PageRange pages, Keep keep, bool write) {
  PageId next = pages.first;
  bool over_budget = false;
  for (;;) {
    const PageRange run = begin_coming(&next, pages.end(), keep, write, over_budget);
    if (next.value == pages.end()) return Status::ok;
    Status status = Status::ok;
    if (run.count > 0) {
      over_budget = false;
      status = fill(run, false);
      finish_coming(run, status, keep, write);
      if (ok(status)) next.value += run.count;
    } else if ((flags(next) & kBusy) != 0) {
      wait_while_busy(next);
    } else {
      status = make_room(std::min(pages.end() - next.value, batch_), &over_budget);
    }
    if (ok(status)) continue;
    if (keep == Keep::pinned) unpin({pages.first, next.value - pages.first.value});
    return status;
  }
}

PageRange Pager::begin_coming(PageId* next, std::uint64_t end, Keep keep, bool write, bool over_budget) {
  const std::lock_guard guard(lock_);
  for (; next->value < end && (flags(*next) & kResident) != 0; ++next->value) touch(*next, keep, write);
  PageRange run{*next, 0};
  if (next->value == end) return run;
  const bool wired = is_wired(*next);
  std::uint64_t most = kCluster;
  if (!wired) most = std::min<std::uint64_t>(most, counted_ < room() ? room() - counted_ : std::uint64_t{over_budget});
  while (run.count < most && run.end() < end) {
    const PageId page{run.end()};
    if (is_wired(page) != wired || (flags(page) & (kResident | kBusy)) != 0) break;
    set(page, kBusy);
    touched_[page.value / kTouchedChunk].store(1, std::memory_order_relaxed);  // relaxed: discard() looks under lock_
    ++run.count;
  }
  coming_ += run.count;
  counted_ += run.count;
  return run;
}

void Pager::touch(PageId page, Keep keep, bool write) {
  Page& entry = pages_[page.value];
  if (keep == Keep::pinned) {
    ++entry.pins;
    if (write) set(page, kDirty);
  }
  if ((flags(page) & kInactive) == 0) return;
  inactive_.remove(page);
  clear(page, kInactive);
  active_.push(page);
  count(Stat::second_chances, 1);
}

Status Pager::fill(PageRange pages, bool at_once) {
  if (const Status status = frames_.populate(pages); !ok(status)) {
    HostVm::Failure failure;
    (void)std::snprintf(failure.text, sizeof failure.text, "the machine has no memory for the frame of page %llu",
                        static_cast<unsigned long long>(pages.first.value));
    const std::lock_guard guard(lock_);
    failure_ = failure;
    return status;
  }
  std::uint64_t read = 0;
  for (std::uint64_t p = pages.first.value; p < pages.end();) {
    PageRange saved{PageId{p}, 0};
    while (saved.end() < pages.end() && (flags(PageId{saved.end()}) & kSaved) != 0) ++saved.count;
    if (saved.count > 0) {
      const BackingResult result = at_once ? store_.read_at_once(saved, frame(saved.first)) : store_.read(saved, frame(saved.first));
      if (at_once && !result.ok()) return Status::exhausted;
      if (!result.ok()) {
        note_failure(false, saved, result);
        return Status::fault_failed;
      }
    }
    read += saved.count;
    p += std::max<std::uint64_t>(saved.count, 1);
  }
  count(Stat::page_ins, read);
  if (ResidencyListener* listener = frames_.listener()) listener->on_map(pages);
  return Status::ok;
}

void Pager::finish_coming(PageRange pages, Status status, Keep keep, bool write) {
  if (pages.count == 0) return;
  if (!ok(status)) frames_.give_back(pages);
  {
    const std::lock_guard guard(lock_);
    for (std::uint64_t p = pages.first.value; p < pages.end(); ++p) {
      const PageId page{p};
      if (!ok(status)) {
        clear(page, kBusy);
        continue;
      }
      if (keep == Keep::pinned) {
        pages_[p].pins = 1;
        if (write) set(page, kDirty);
      }
      pages_[p].flags.fetch_xor(kBusy | kResident, std::memory_order_acq_rel);  // acq_rel: the frame is filled; partner is flags()
      if (!is_wired(page)) active_.push(page);
    }
    coming_ -= pages.count;
    if (!ok(status) || is_wired(pages.first)) counted_ -= pages.count;
  }
  changed_.announce(env_);
}

void Pager::wait_while_busy(PageId page) {
  const ParkOn word = changed_.on(changed_.prepare());
  if ((flags(page) & kBusy) != 0) env_.park({&word, 1}, kForever);
  changed_.finish();
}

void Pager::give_right(PageId page, bool write) {
  table_.hold(page, env_);
  const Access access = table_.access(page);
  const Withheld withheld = table_.withheld(page);
  const bool dirty = (flags(page) & kDirty) != 0;
  Withheld next = Withheld::nothing;
  if (access == Access::write && !dirty) {
    if (write) {
      set(page, kDirty);
    } else {
      next = Withheld::write;  // so that the first write is noticed
    }
  }
  const Access before = effective(access, withheld);
  const Access after = effective(access, next);
  if (after > before) {
    trap_.apply({page, 1}, before, after);
  } else {
    next = withheld;
  }
  table_.settle(page, access, next);
}

}  // namespace netvm
