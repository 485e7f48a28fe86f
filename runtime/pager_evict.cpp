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
    if (counted_ < room()) return Status::ok;
    want = std::min<std::uint64_t>(want + (counted_ - room()), kBatch);
  }
  if (wait_for_others(want)) return Status::ok;
  Pass pass = Pass::second_chance;
  std::uint64_t refused = 0;  // chosen in this pass, and there still
  bool kept = false;
  for (;;) {
    // Owners keep a page for a moment; to ask for all of a large memory would take longer than that. Before giving up it is worth it.
    const std::uint64_t most = pass == Pass::droppable ? resident_pages() : 8 * kBatch;
    Taken taken;
    if (refused <= most && take_some(want, pass, &taken)) {
      if (taken.gone > 0) return Status::ok;
      kept = kept || taken.kept > 0;
      refused += taken.kept + taken.unsaved;
      if (taken.unsaved > 0 && pass < Pass::clean) {
        pass = Pass::clean;
        refused = 0;
      }
      continue;
    }
    refused = 0;
    if (pass == Pass::second_chance) {
      pass = Pass::any;
    } else if (wait_for_others(0)) {
      return Status::ok;
    } else if (pass == Pass::clean && owner_.load() != nullptr) {
      pass = Pass::droppable;
    } else if (pass != Pass::any && !kept) {
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
  std::uint64_t refused = 0;
  Pass pass = Pass::second_chance;
  while (gone < pages) {
    Taken taken;
    if (refused <= resident_pages() && take_some(std::min<std::uint64_t>(pages - gone, kBatch), pass, &taken)) {
      if (taken.gone == 0 && taken.unsaved > 0) break;
      gone += taken.gone;
      refused += taken.kept;
    } else if (pass == Pass::any) {
      break;
    } else {
      pass = Pass::any;
      refused = 0;
    }
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

bool Pager::take_some(std::uint64_t want, Pass pass, Taken* taken) {
  Victims victims;
  Cooled cooled;
  select(want, pass, victims, cooled);
  cool(cooled.all());
  if (victims.count == 0) return false;
  *taken = take_away(victims, pass);
  return true;
}

std::uint32_t Pager::ask_owner(Victims& victims, Pass pass, Taken* taken) {
  PageOwner* owner = owner_.load();
  if (owner == nullptr) return 0;
  std::uint32_t dropped = 0;
  Victims staying;
  std::size_t going = 0;
  for (const PageId page : victims.all()) {
    const Departure departure = owner->on_evict(page);
    const bool unsaved = departure == Departure::save && pass == Pass::droppable && (flags(page) & kDirty) != 0;
    if (departure == Departure::keep || unsaved) {
      ++(unsaved ? taken->unsaved : taken->kept);
      staying.add(page);
      continue;
    }
    if (departure == Departure::drop) {
      NETVM_CHECK(table_.access(page) == Access::none, "page %llu is dropped while the application may use it",
                  static_cast<unsigned long long>(page.value));
      dropped |= std::uint32_t{1} << going;
    }
    victims.at[going++] = page;
  }
  victims.count = going;
  if (staying.count > 0) finish_going(staying.all(), 0);
  return dropped;
}

Pager::Taken Pager::take_away(Victims& chosen, Pass pass) {
  static_assert(kBatch <= 32, "the pages of a batch are bits of a word");
  Taken taken;
  std::sort(chosen.all().begin(), chosen.all().end());
  const std::uint32_t dropped = ask_owner(chosen, pass, &taken);
  const std::span<PageId> victims = chosen.all();
  if (victims.empty()) return taken;
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
  drop(victims, dropped);
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
  taken.gone = static_cast<std::uint64_t>(std::popcount(gone));
  taken.unsaved += victims.size() - taken.gone;
  return taken;
}

// They end as pages that were never written: zeros, without a copy.
void Pager::drop(std::span<const PageId> sorted, std::uint32_t which) {
  if (which == 0) return;
  for_each_run(
      sorted, [&](std::size_t i) { return has(which, i) && (flags(sorted[i]) & kSaved) != 0; },
      [&](std::size_t first, std::size_t n) {
        store_.forget({sorted[first], n});
      });
  for (std::size_t i = 0; i < sorted.size(); ++i) {
    if (has(which, i)) clear(sorted[i], kDirty | kSaved);
  }
  count(Stat::dropped_pages, static_cast<std::uint64_t>(std::popcount(which)));
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
      note_failure(true, {PageId{page.value + written}, n - written}, result);
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
