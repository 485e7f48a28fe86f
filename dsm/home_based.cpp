#include "dsm/home_based.hpp"

#include <algorithm>
#include <mutex>
#include <utility>

#include "dsm/flush.hpp"
#include "dsm/sharing_map.hpp"

namespace netvm::dsm {

namespace {

// PageEntry::state, under the page's long lock.
constexpr std::uint64_t kDirty = 1;
constexpr std::uint64_t kExclusive = 2;  // at home: writable, nobody else reads it
constexpr std::uint64_t kAnnounced = 4;  // elsewhere: the home was told that this node reads it

// How many pages are locked at once while flushing or invalidating: bounds how long a fault on one of them waits.
constexpr std::size_t kChunk = 256;

std::uint64_t state_of(const PageEntry& entry) {
  return entry.state.load(std::memory_order_relaxed);  // relaxed: under the page's lock
}
void set_state(PageEntry& entry, std::uint64_t flag) {
  entry.state.fetch_or(flag, std::memory_order_relaxed);  // relaxed: under the page's lock
}
void clear_state(PageEntry& entry, std::uint64_t flag) {
  entry.state.fetch_and(~flag, std::memory_order_relaxed);  // relaxed: under the page's lock
}
bool is_dirty(const PageEntry& entry) { return (state_of(entry) & kDirty) != 0; }

}  // namespace

// ---- faults: the page's lock is held -------------------------------------------------------------------------------------------

void HomeBased::fetch(PageId page, PageEntry& entry) {
  const NodeId home = entry.home();
  env_.count(page, Stat::remote_faults);
  if ((state_of(entry) & kAnnounced) != 0 || !announces_reads()) return env_.fetch_page(page, home);
  // One channel, so the read takes effect after the announcement: one round trip in all.
  nic::Completion done[SharingMap::kSteps + 1];
  env_.sharing().post_announce(page, home, done);
  env_.post_fetch({page, 1}, home, &done[SharingMap::kSteps]);
  for (nic::Completion& completion : done) env_.wait(completion, "reading a page from its home", home);
  set_state(entry, kAnnounced);
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
    set_state(entry, kExclusive);
  }
  env_.set_access(page, Access::write);
}

void HomeBased::mark_dirty(PageId page, PageEntry& entry) {
  set_state(entry, kDirty);
  const std::scoped_lock guard(dirty_lock_);
  dirty_.push_back(page);
}

// ---- flush ---------------------------------------------------------------------------------------------------------------------

std::vector<PageId> HomeBased::flush() {
  std::vector<PageId> pages;
  {
    const std::scoped_lock guard(dirty_lock_);
    pages.swap(dirty_);
  }
  end_exclusive(pages);
  if (pages.empty() && owed_.empty()) return {};
  std::sort(pages.begin(), pages.end());
  pages.erase(std::unique(pages.begin(), pages.end()), pages.end());
  // Whoever was dirty when its chunk was locked moves on to owed_: together they are what was written.
  for (std::size_t i = 0; i < pages.size(); i += kChunk) flush_chunk(std::span(pages).subspan(i, std::min(kChunk, pages.size() - i)));
  std::sort(owed_.begin(), owed_.end());
  owed_.erase(std::unique(owed_.begin(), owed_.end()), owed_.end());
  return std::exchange(owed_, {});
}

void HomeBased::end_exclusive(std::vector<PageId>& dirty) {
  if (!env_.sharing().changed()) return;
  std::vector<PageId> announced;
  env_.sharing().collect(announced);
  for (const PageId page : announced) {
    PageEntry& entry = env_.entry(page);
    const PageGuard guard(env_.env(), entry);
    if ((state_of(entry) & kExclusive) == 0) continue;
    clear_state(entry, kExclusive);
    set_state(entry, kDirty);
    dirty.push_back(page);
  }
}

void HomeBased::flush_chunk(std::span<const PageId> pages) {
  for (const PageId page : pages) env_.entry(page).lock.lock(env_.env());
  // Write access goes first, in ranges; only then may a page be compared with its twin.
  for (std::size_t i = 0; i < pages.size();) {
    std::size_t j = i;
    while (j < pages.size() && is_dirty(env_.entry(pages[j])) && pages[j].value == pages[i].value + (j - i)) ++j;
    if (j > i) env_.set_access(PageRange{pages[i], j - i}, Access::read);
    i = std::max(j, i + 1);
  }
  DiffFlush flush(env_);
  for (const PageId page : pages) {
    PageEntry& entry = env_.entry(page);
    if (!is_dirty(entry)) continue;
    clear_state(entry, kDirty);
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
  for (const PageRange& range : ranges) {
    for (std::uint64_t p = range.first.value; p != range.end(); ++p) pages.push_back(PageId{p});
  }
  std::sort(pages.begin(), pages.end());
  pages.erase(std::unique(pages.begin(), pages.end()), pages.end());
  for (std::size_t i = 0; i < pages.size(); i += kChunk) invalidate_chunk(std::span(pages).subspan(i, std::min(kChunk, pages.size() - i)));
}

bool HomeBased::is_stale(PageId page) {
  const PageEntry& entry = env_.entry(page);
  // A notice may outlive its page: the memory was freed, and perhaps belongs to another protocol now.
  const bool ours = entry.attached() && entry.protocol() == env_.protocol();
  return ours && entry.access() != Access::none && entry.home() != env_.node();
}

void HomeBased::invalidate_chunk(std::span<const PageId> pages) {
  // Every lock is taken, also of pages without access: a fetch that another thread has begun may carry the old content.
  for (const PageId page : pages) env_.entry(page).lock.lock(env_.env());
  std::vector<PageRange> runs;
  for (const PageId page : pages) {
    if (!is_stale(page)) continue;
    if (!runs.empty() && runs.back().end() == page.value) {
      ++runs.back().count;
    } else {
      runs.push_back({page, 1});
    }
    env_.count(page, Stat::invalidations);
  }
  for (const PageRange& run : runs) env_.set_access(run, Access::none);
  DiffFlush flush(env_);
  for (const PageRange& run : runs) {
    for (std::uint64_t p = run.first.value; p != run.end(); ++p) {
      PageEntry& entry = env_.entry(PageId{p});
      if (!is_dirty(entry)) continue;
      flush.add(PageId{p}, entry.home());
      clear_state(entry, kDirty);
      if (owes_early_flush()) owed_.push_back(PageId{p});
    }
  }
  flush.finish();
  for (const PageId page : pages) env_.entry(page).lock.unlock(env_.env());
}

// ---- pages that go -----------------------------------------------------------------------------------------------------------------

void HomeBased::on_detach(PageRange pages) {
  // The pages' locks are held. What dirty_ still says of them is passed over at the next release: kDirty is gone.
  for (std::uint64_t p = pages.first.value; p != pages.end(); ++p) {
    clear_state(env_.entry(PageId{p}), kDirty | kExclusive | kAnnounced);
    env_.drop_twin(PageId{p});
  }
}

}  // namespace netvm::dsm
