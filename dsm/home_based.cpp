#include "dsm/home_based.hpp"

#include <algorithm>
#include <iterator>
#include <mutex>
#include <utility>

#include "dsm/flush.hpp"
#include "dsm/sharing_map.hpp"
#include "runtime/check.hpp"

namespace netvm::dsm {

namespace {

// PageEntry::state, under the page's long lock.
constexpr std::uint64_t kDirty = PageEntry::kDirty;
constexpr std::uint64_t kExclusive = 2;  // at home: writable, nobody else reads it
constexpr std::uint64_t kAnnounced = 4;  // elsewhere: the home was told that this node reads it

constexpr std::uint64_t kHeld = 8;  // elsewhere: this node is about to become the home (home_moves.hpp), and keeps its copy

// How many pages are locked at once while flushing or invalidating: bounds how long a fault on one of them waits.
constexpr std::size_t kChunk = 256;

}  // namespace

// ---- faults: the page's lock is held -------------------------------------------------------------------------------------------

void HomeBased::fetch(PageId page, PageEntry& entry) {
  const NodeId home = entry.home();
  env_.count(page, Stat::remote_faults);
  if (entry.has_flag(kAnnounced) || !announces_reads()) return env_.fetch_page(page, home);
  // One channel, so the read takes effect after the announcement: one round trip in all.
  nic::Completion done[SharingMap::kSteps + 1];
  env_.post_announce({page, 1}, home, done);
  env_.post_fetch({page, 1}, home, &done[SharingMap::kSteps]);
  for (nic::Completion& completion : done) env_.wait(completion, "reading a page from its home", home);
  entry.set_flag(kAnnounced);
}

void HomeBased::on_read_fault(PageId page) {
  if (!at_home(page)) fetch(page, env_.entry(page));
  env_.set_access(page, Access::read);
}

void HomeBased::on_write_fault(PageId page) {
  PageEntry& entry = env_.entry(page);
  if (!at_home(page)) {
    if (entry.access() == Access::none) fetch(page, entry);
    env_.make_twin(page);
    mark_dirty(page, entry);
  } else if (twins_home_pages()) {
    env_.make_twin(page);
    mark_dirty(page, entry);
  } else if (env_.sharing().is_shared(page)) {
    mark_dirty(page, entry);
  } else {
    // Somebody who announces the page from now on is found by the next release, which waits for this page's lock.
    entry.set_flag(kExclusive);
  }
  env_.set_access(page, Access::write);
}

// Neighbours of one home: one announcement, one transfer.
void HomeBased::fetch_run(std::span<const PageId> run, NodeId home) {
  const PageRange last = env_.unit(run.back());
  const PageRange pages{run.front(), last.end() - run.front().value};
  const bool announced = std::all_of(run.begin(), run.end(), [this](PageId page) { return env_.entry(page).has_flag(kAnnounced); });
  nic::Completion done[SharingMap::kMostSteps + 1];
  std::size_t steps = 0;
  if (!announced && announces_reads()) steps = env_.post_announce(pages, home, done);
  env_.post_fetch(pages, home, &done[steps]);
  for (std::size_t i = 0; i <= steps; ++i) env_.wait(done[i], "reading pages from their home", home);
  for (const PageId page : run) env_.entry(page).set_flag(kAnnounced);
}

void HomeBased::on_read_ahead(std::span<const PageId> units) {
  for (std::size_t i = 0; i < units.size();) {
    const NodeId home = env_.entry(units[i]).home();
    std::size_t j = i + 1;
    while (j < units.size() && units[j] == PageId{env_.unit(units[j - 1]).end()} && env_.entry(units[j]).home() == home) ++j;
    if (home != env_.node()) fetch_run(units.subspan(i, j - i), home);
    i = j;
  }
  env_.set_access(units, Access::read);
}

// ---- flush ---------------------------------------------------------------------------------------------------------------------

std::vector<PageId> HomeBased::flush() {
  std::vector<PageId> pages = dirty_.take();
  end_exclusive(pages);
  if (pages.empty() && owed_.empty()) return {};
  // Whoever was dirty when its chunk was locked moves on to owed_: together they are what was written.
  for (std::size_t i = 0; i < pages.size(); i += kChunk) flush_chunk(std::span(pages).subspan(i, std::min(kChunk, pages.size() - i)));
  put_in_order(owed_);
  return std::exchange(owed_, {});
}

void HomeBased::end_exclusive(std::vector<PageId>& dirty) {
  if (!announces_reads() || !env_.sharing().changed(env_.protocol())) return;
  std::vector<PageId> announced;
  env_.sharing().collect(env_.protocol(), announced);
  for (const PageId page : announced) {
    PageEntry& entry = env_.entry(page);
    const PageGuard guard(env_.env(), entry);
    if (!env_.owns(entry) || !entry.has_flag(kExclusive)) continue;
    entry.clear_flag(kExclusive);
    entry.set_flag(kDirty);
    dirty.push_back(page);
  }
  put_in_order(dirty);
}

void HomeBased::flush_chunk(std::span<const PageId> pages) {
  for (const PageId page : pages) env_.entry(page).lock.lock(env_.env());
  std::vector<PageId> dirty;
  std::copy_if(pages.begin(), pages.end(), std::back_inserter(dirty), [this](PageId page) { return dirty_.has(env_.entry(page)); });
  // Write access goes first; only then may a page be compared with its twin.
  env_.set_access(dirty, Access::read);
  before_flushed(dirty);
  DiffFlush flush(env_);
  for (const PageId page : dirty) {
    PageEntry& entry = env_.entry(page);
    entry.clear_flag(kDirty);
    if (entry.home() == env_.node()) {
      env_.drop_twin(page);
    } else {
      flush.add(page, entry.home());
    }
    owed_.push_back(page);
  }
  flush.finish();
  for (const PageId page : pages) env_.entry(page).lock.unlock(env_.env());
}

// ---- invalidate ----------------------------------------------------------------------------------------------------------------

void HomeBased::invalidate(std::span<const PageRange> ranges) {
  std::vector<PageId> pages;
  std::uint64_t named = 0;
  for (const PageRange& range : ranges) named += range.count;
  pages.reserve(named);
  for (const PageRange& range : ranges) {
    for (std::uint64_t p = range.first.value; p != range.end(); ++p) pages.push_back(PageId{p});
  }
  put_in_order(pages);
  for (std::size_t i = 0; i < pages.size(); i += kChunk) invalidate_chunk(std::span(pages).subspan(i, std::min(kChunk, pages.size() - i)));
}

bool HomeBased::is_stale(PageId page) {
  const PageEntry& entry = env_.entry(page);
  // A notice may outlive its page: the memory was freed, and perhaps belongs to another protocol now.
  return env_.owns(entry) && entry.access() != Access::none && entry.home() != env_.node();
}

void HomeBased::invalidate_chunk(std::span<const PageId> pages) {
  // Every lock is taken, also of pages without access: a fetch that another thread has begun may carry the old content.
  const auto each_lock = [&](auto&& use) {
    if (!waits_for_fetches()) return;
    for (const PageId page : pages) use(env_.entry(page).lock);
  };
  each_lock([this](PageLock& lock) { lock.lock(env_.env()); });
  std::vector<PageId> stale;
  stale.reserve(pages.size());
  std::copy_if(pages.begin(), pages.end(), std::back_inserter(stale), [this](PageId page) { return is_stale(page); });
  env_.set_access(stale, Access::none);
  std::vector<PageId> dirty;
  std::copy_if(stale.begin(), stale.end(), std::back_inserter(dirty), [this](PageId page) { return env_.entry(page).is_dirty(); });
  before_flushed(dirty);
  DiffFlush flush(env_);
  env_.count(stale, Stat::invalidations);
  for (const PageId page : dirty) {
    PageEntry& entry = env_.entry(page);
    flush.add(page, entry.home());
    entry.clear_flag(kDirty);
    if (owes_early_flush()) owed_.push_back(page);
  }
  flush.finish();
  each_lock([this](PageLock& lock) { lock.unlock(env_.env()); });
}

// The home has what a clean copy holds, and what it holds may be newer.
Departure HomeBased::on_evict(PageId page) {
  const PageEntry& entry = env_.entry(page);
  if (entry.has_flag(kDirty | kHeld) || !entry.home_known() || entry.home() == env_.node()) return Departure::save;
  env_.set_access(page, Access::none);
  return Departure::drop;
}

// ---- homes that move -----------------------------------------------------------------------------------------------------------------

bool HomeBased::hold(PageId page) {
  PageEntry& entry = env_.entry(page);
  const PageGuard guard(env_.env(), entry);
  const bool clean_copy = env_.owns(entry) && entry.home() != env_.node() && entry.access() == Access::read && !entry.is_dirty();
  if (!clean_copy || entry.has_flag(kHeld)) return false;
  entry.set_flag(kHeld);
  return true;
}

void HomeBased::let_go(PageId page, bool at_home) {
  PageEntry& entry = env_.entry(page);
  const PageGuard guard(env_.env(), entry);
  if (!env_.owns(entry) || !entry.has_flag(kHeld)) return;  // freed
  entry.clear_flag(kHeld);
  if (!at_home) return;
  NETVM_CHECK(entry.twin == nullptr, "page %llu comes home while its changes are not flushed", static_cast<unsigned long long>(page.value));
  entry.clear_flag(kAnnounced);
  env_.sharing().inherit(page);
  env_.count(page, Stat::home_moves);
}

// ---- pages that go -----------------------------------------------------------------------------------------------------------------

void HomeBased::on_detach(PageRange pages) {
  // The pages' locks are held. Lists may name them still (dirty_, owed_, notices under way): whoever follows a name asks whose the page is.
  for (std::uint64_t p = pages.first.value; p != pages.end(); ++p) {
    env_.entry(PageId{p}).clear_flag(kDirty | kExclusive | kAnnounced | kHeld);
    env_.drop_twin(PageId{p});
  }
}

}  // namespace netvm::dsm
