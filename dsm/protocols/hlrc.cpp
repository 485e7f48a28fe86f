#include "dsm/protocols/hlrc.hpp"

#include <algorithm>
#include <mutex>

#include "dsm/flush.hpp"
#include "dsm/sharing_map.hpp"
#include "runtime/check.hpp"

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

void Hlrc::fetch(PageId page, PageEntry& entry) {
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

void Hlrc::on_read_fault(PageId page) {
  if (!at_home(page)) fetch(page, env_.entry(page));
  env_.set_access(page, Access::read);
}

void Hlrc::on_write_fault(PageId page) {
  PageEntry& entry = env_.entry(page);
  if (!at_home(page)) {
    if (entry.access() == Access::none) fetch(page, entry);
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

void Hlrc::mark_dirty(PageId page, PageEntry& entry) {
  set_state(entry, kDirty);
  const std::scoped_lock guard(dirty_lock_);
  dirty_.push_back(page);
}

// ---- release -------------------------------------------------------------------------------------------------------------------

void Hlrc::on_release(SyncId) {
  const std::scoped_lock guard(intervals_);
  close_interval();
}

void Hlrc::end_exclusive(std::vector<PageId>& dirty) {
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

void Hlrc::close_interval() {
  std::vector<PageId> pages;
  {
    const std::scoped_lock guard(dirty_lock_);
    pages.swap(dirty_);
  }
  end_exclusive(pages);
  if (pages.empty() && owed_.empty()) return;
  std::sort(pages.begin(), pages.end());
  pages.erase(std::unique(pages.begin(), pages.end()), pages.end());
  // Whoever was dirty when its chunk was locked moves on to owed_; together they are the interval.
  for (std::size_t i = 0; i < pages.size(); i += kChunk) flush_chunk(std::span(pages).subspan(i, std::min(kChunk, pages.size() - i)));
  std::sort(owed_.begin(), owed_.end());
  owed_.erase(std::unique(owed_.begin(), owed_.end()), owed_.end());
  {
    const std::scoped_lock guard(log_lock_);
    log_.close(owed_);
  }
  owed_.clear();
}

void Hlrc::flush_chunk(std::span<const PageId> pages) {
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
    if (entry.twin != nullptr) flush.add(page, entry.home());
    clear_state(entry, kDirty);
    owed_.push_back(page);
  }
  flush.finish();
  for (const PageId page : pages) env_.entry(page).lock.unlock(env_.env());
}

// ---- acquire -------------------------------------------------------------------------------------------------------------------

void Hlrc::append_acquire_request(SyncId, Bytes& out) {
  const std::scoped_lock guard(log_lock_);
  log_.encode_clock(out);
}

void Hlrc::append_grant(SyncId, NodeId acquirer, std::span<const std::byte> request, Bytes& out) {
  VectorClock theirs;
  const std::scoped_lock guard(log_lock_);
  NETVM_CHECK(log_.decode_clock(request, &theirs), "node %u asks for a lock with a malformed vector clock", acquirer.value);
  env_.count(Stat::notices_sent, log_.encode_lacking(theirs, out));
}

void Hlrc::decode(std::span<const std::byte> wire, const char* from, std::vector<IntervalView>& out) {
  NETVM_CHECK(decode_intervals(wire, env_.nodes(), env_.table().range(), out), "malformed write notices came with a %s", from);
}

void Hlrc::on_acquire(SyncId, NodeId, std::span<const std::byte> payload) {
  if (payload.empty()) return;
  std::vector<IntervalView> intervals;
  decode(payload, "lock", intervals);
  const std::scoped_lock guard(intervals_);
  act_upon(intervals);
}

void Hlrc::act_upon(std::span<const IntervalView> intervals) {
  std::vector<PageRange> ranges;
  std::uint64_t fresh = 0;
  {
    const std::scoped_lock guard(log_lock_);
    for (const IntervalView& interval : intervals) {
      if (log_.covers(interval.node, interval.index)) continue;
      ++fresh;
      NETVM_CHECK(decode_pages(interval.pages, env_.table().range(), ranges), "write notices changed under decoding");
    }
  }
  if (fresh == 0) return;
  env_.count(Stat::notices_received, fresh);
  std::vector<PageId> pages;
  for (const PageRange& range : ranges) {
    for (std::uint64_t p = range.first.value; p != range.end(); ++p) pages.push_back(PageId{p});
  }
  std::sort(pages.begin(), pages.end());
  pages.erase(std::unique(pages.begin(), pages.end()), pages.end());
  for (std::size_t i = 0; i < pages.size(); i += kChunk) invalidate_chunk(std::span(pages).subspan(i, std::min(kChunk, pages.size() - i)));
  const std::scoped_lock guard(log_lock_);
  NETVM_CHECK(log_.add(intervals), "write notices leave a gap: an interval was lost");
}

bool Hlrc::is_stale(PageId page) {
  const PageEntry& entry = env_.entry(page);
  return entry.access() != Access::none && entry.home() != env_.node();
}

void Hlrc::invalidate_chunk(std::span<const PageId> pages) {
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

// ---- barriers --------------------------------------------------------------------------------------------------------------------

void Hlrc::on_barrier_arrive(Bytes& out) {
  const std::scoped_lock guard(intervals_);
  close_interval();
  const std::scoped_lock log_guard(log_lock_);
  env_.count(Stat::notices_sent, log_.encode_own_since_barrier(out));
}

void Hlrc::on_barrier_merge(Bytes& sum, std::span<const std::byte> other) { merge_interval_sets(sum, other); }

void Hlrc::on_barrier_leave(std::span<const std::byte> sum) {
  std::vector<IntervalView> intervals;
  decode(sum, "barrier", intervals);
  const std::scoped_lock guard(intervals_);
  act_upon(intervals);
  const std::scoped_lock log_guard(log_lock_);
  log_.pass_barrier(intervals);
}

// ---- pages that go -----------------------------------------------------------------------------------------------------------------

void Hlrc::on_detach(PageRange pages) {
  // The pages' locks are held. What dirty_ still says of them is passed over at the next release: kDirty is gone.
  for (std::uint64_t p = pages.first.value; p != pages.end(); ++p) {
    clear_state(env_.entry(PageId{p}), kDirty | kExclusive | kAnnounced);
    env_.drop_twin(PageId{p});
  }
}

}  // namespace netvm::dsm
