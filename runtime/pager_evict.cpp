// Pager: which pages go, and how.
#include <algorithm>
#include <bit>
#include <mutex>

#include "runtime/check.hpp"
#include "runtime/pager.hpp"

namespace netvm {

// ---- room ---------------------------------------------------------------------------------------------------------------------------------

// Returns ok when it is worth looking again, perhaps with *over_budget: nothing can go, and nothing will by waiting.
Status Pager::make_room(std::uint64_t want, bool* over_budget) {
  want = std::clamp<std::uint64_t>(want, batch_, kBatch);
  {
    const std::lock_guard guard(lock_);
    if (counted_ < budget_) return Status::ok;
    want = std::min<std::uint64_t>(want + (counted_ - budget_), kBatch);
  }
  if (wait_for_others(want)) return Status::ok;
  Pass pass = Pass::second_chance;
  for (;;) {
    Victims victims;
    Cooled cooled;
    select(want, pass, victims, cooled);
    cool(cooled.all());
    if (victims.count > 0) {
      if (take_away(victims.all()) > 0) return Status::ok;
      pass = Pass::clean;  // the store takes nothing: only what needs no store can go
    } else if (pass == Pass::second_chance) {
      pass = Pass::any;
    } else if (wait_for_others(0)) {
      return Status::ok;
    } else if (pass == Pass::clean) {
      return Status::fault_failed;
    } else {
      *over_budget = true;
      return Status::ok;
    }
  }
}

// If other threads are about to free this many pages (0: or are at work at all), waits until one of them is done and returns true.
bool Pager::wait_for_others(std::uint64_t want) {
  const ParkOn word = changed_.on(changed_.prepare());
  bool wait = false;
  {
    const std::lock_guard guard(lock_);
    wait = want == 0 ? going_ + coming_ > 0 : going_ >= want;
  }
  if (wait) env_.park({&word, 1}, kForever);
  changed_.finish();
  return wait;
}

std::uint64_t Pager::evict(std::uint64_t pages) {
  std::uint64_t gone = 0;
  Pass pass = Pass::second_chance;
  while (gone < pages) {
    Victims victims;
    Cooled cooled;
    select(std::min<std::uint64_t>(pages - gone, kBatch), pass, victims, cooled);
    cool(cooled.all());
    if (victims.count == 0) {
      if (pass == Pass::any) break;
      pass = Pass::any;
      continue;
    }
    const std::uint64_t freed = take_away(victims.all());
    if (freed == 0) break;
    gone += freed;
  }
  return gone;
}

// ---- choosing -------------------------------------------------------------------------------------------------------------------------------

// What the NIC did with the page counts, too.
bool Pager::used_by_nic(PageId page) {
  ResidencyListener* listener = frames_.listener();
  if (listener == nullptr) return false;
  const PageUse use = listener->take_use(page);
  if (use.written) set(page, kDirty);
  return use.referenced;
}

bool Pager::may_go(PageId page, Pass pass) {
  if (pages_[page.value].pins != 0) return false;
  if (used_by_nic(page) && pass == Pass::second_chance) return false;
  return pass != Pass::clean || (flags(page) & kDirty) == 0;
}

void Pager::refill_inactive(std::uint64_t want, Pass pass, Cooled& cooled) {
  const std::uint64_t target = std::max(want, (active_.size() + inactive_.size()) / 3);
  for (std::uint64_t left = active_.size(); left > 0 && inactive_.size() < target && !cooled.full(); --left) {
    const PageId page = active_.pop();
    if (!may_go(page, pass == Pass::clean ? Pass::any : pass)) {
      active_.push(page);
      continue;
    }
    inactive_.push(page);
    set(page, kInactive);
    cooled.add(page);
  }
}

void Pager::select(std::uint64_t want, Pass pass, Victims& victims, Cooled& cooled) {
  const std::lock_guard guard(lock_);
  refill_inactive(want, pass, cooled);
  const auto choose_from = [&](PageQueue<Page>& queue) {
    for (std::uint64_t left = queue.size(); left > 0 && victims.count < want; --left) {
      const PageId page = queue.pop();
      clear(page, kInactive);
      if (may_go(page, pass)) {
        pages_[page.value].flags.fetch_xor(kResident | kBusy, std::memory_order_acq_rel);  // acq_rel: partner is flags()
        ++going_;
        victims.add(page);
      } else {
        active_.push(page);
      }
    }
  };
  choose_from(inactive_);
  if (pass == Pass::clean) choose_from(active_);
}

// They stay, but the next use of them faults, and so shows.
void Pager::cool(std::span<PageId> pages) {
  std::sort(pages.begin(), pages.end());
  withhold(pages, kInactive | kResident);  // not those that were used or chosen since
}

// ---- going ----------------------------------------------------------------------------------------------------------------------------------

namespace {

// Calls run(first index, count) for each run of neighbouring pages for which wanted(index) holds.
template <class Wanted, class Run>
void for_each_run(std::span<const PageId> sorted, Wanted wanted, Run run) {
  for (std::size_t i = 0; i < sorted.size();) {
    if (!wanted(i)) {
      ++i;
      continue;
    }
    std::size_t j = i + 1;
    while (j < sorted.size() && wanted(j) && sorted[j].value == sorted[i].value + (j - i)) ++j;
    run(i, j - i);
    i = j;
  }
}

bool has(std::uint32_t bits, std::size_t index) { return (bits >> index & 1) != 0; }

}  // namespace

std::uint64_t Pager::take_away(std::span<PageId> victims) {
  static_assert(kBatch <= 32, "the pages of a batch are bits of a word");
  std::sort(victims.begin(), victims.end());
  withhold(victims, 0);
  ResidencyListener* listener = frames_.listener();
  std::array<PageRange, kBatch> ranges;
  std::size_t count_of_ranges = 0;
  if (listener != nullptr) {
    for_each_run(
        victims, [](std::size_t) { return true; },
        [&](std::size_t first, std::size_t n) {
          ranges[count_of_ranges++] = {victims[first], n};
        });
    listener->on_unmap_all(std::span(ranges).first(count_of_ranges));
    for (const PageId page : victims) (void)used_by_nic(page);  // until the listener had heard it, the NIC could write
  }
  const std::uint32_t gone = save(victims);
  for_each_run(
      victims, [gone](std::size_t i) { return has(gone, i); },
      [&](std::size_t first, std::size_t n) {
        frames_.give_back({victims[first], n});
      });
  if (listener != nullptr) {
    for_each_run(
        victims, [gone](std::size_t i) { return !has(gone, i); },
        [&](std::size_t first, std::size_t n) {
          listener->on_map({victims[first], n});
        });
  }
  finish_going(victims, gone);
  return static_cast<std::uint64_t>(std::popcount(gone));
}

std::uint32_t Pager::save(std::span<const PageId> sorted) {
  std::uint32_t done = 0;
  const auto dirty = [&](std::size_t i) { return (flags(sorted[i]) & kDirty) != 0; };
  for (std::size_t i = 0; i < sorted.size(); ++i) done |= dirty(i) ? 0 : std::uint32_t{1} << i;
  for_each_run(sorted, dirty, [&](std::size_t first, std::size_t n) {
    const PageId page = sorted[first];
    const BackingResult result = store_.write({page, n}, frame(page));
    std::size_t written = n;
    if (!result.ok()) {
      written = std::min<std::size_t>(n, result.offset / kPageSize - page.value);
      note_failure(true, PageId{page.value + written}, result);
    }
    for (std::size_t i = first; i < first + written; ++i) {
      done |= std::uint32_t{1} << i;
      set(sorted[i], kSaved);
      clear(sorted[i], kDirty);
    }
    count(Stat::write_backs, written);
  });
  return done;
}

void Pager::finish_going(std::span<const PageId> pages, std::uint32_t gone) {
  {
    const std::lock_guard guard(lock_);
    for (std::size_t i = 0; i < pages.size(); ++i) {
      if (has(gone, i)) {
        clear(pages[i], kBusy);
        --counted_;
        continue;
      }
      pages_[pages[i].value].flags.fetch_xor(kBusy | kResident, std::memory_order_acq_rel);  // acq_rel: partner is flags()
      active_.push(pages[i]);
    }
    going_ -= pages.size();
  }
  count(Stat::evictions, static_cast<std::uint64_t>(std::popcount(gone)));
  changed_.announce(env_);
}

}  // namespace netvm
