// The directory word (HomeWords, word 0): bits 0..31 who accesses, bits 32..63 who writes, by groups. With at most kGroups nodes a group is one node.
// Wire: with a lock or barrier comes one byte, kSynchronised: "give up what others write".
#include "dsm/protocols/self.hpp"

#include <algorithm>
#include <deque>
#include <mutex>

#include "runtime/check.hpp"

namespace netvm::dsm {

namespace {

constexpr unsigned kGroups = 32;
constexpr std::size_t kChunk = 256;  // how many pages are locked at once: bounds how long a fault on one of them waits
constexpr unsigned kClass = 0;       // the word
constexpr std::byte kSynchronised{1};

constexpr std::uint64_t accessors(std::uint64_t word) { return word & UINT32_MAX; }
constexpr std::uint64_t writers(std::uint64_t word) { return word >> 32; }
constexpr std::uint64_t as_accessor(std::uint64_t bit) { return bit; }
constexpr std::uint64_t as_writer(std::uint64_t bit) { return bit << 32 | bit; }

void check_wire(std::span<const std::byte> payload) {
  NETVM_CHECK(payload.size() == 1 && payload[0] == kSynchronised, "self: malformed payload of %zu bytes", payload.size());
}

}  // namespace

// PageEntry::state, under the page's long lock; PageEntry::data: number of the release before the last write fault.
static constexpr std::uint64_t kFirst = 1 << 8;
static constexpr std::uint64_t kRegistered = kFirst;        // elsewhere: the word has this node's bit, and the home was told
static constexpr std::uint64_t kWriter = kFirst << 1;       // the word has this node's writer bit
static constexpr std::uint64_t kOthersWrite = kFirst << 2;  // elsewhere: to be given up at an acquire
static constexpr std::uint64_t kSuspect = kFirst << 3;      // it is in suspects_, or whoever took it from there is going to look at it
static constexpr std::uint64_t kWatched = kFirst << 4;      // it is in watched_

bool Self::exact() const { return env().nodes() <= kGroups; }

std::uint64_t Self::my_bit() const { return std::uint64_t{1} << env().node().value % kGroups; }

void Self::signal(PageId page, NodeId to, nic::Completion* completions) {
  signals_.post(page, to, completions);
  env().count_one_sided(to, PageSignals::kSteps * sizeof(std::uint64_t), PageSignals::kSteps);
}

// ---- registration: the page's lock is held ---------------------------------------------------------------------------------------

std::uint64_t Self::register_and_fetch(std::span<const PageId> run, NodeId home, bool writes) {
  struct Registration {
    nic::Completion word;
    nic::Completion signal[PageSignals::kSteps];
  };
  std::vector<Registration> registrations(run.size());
  for (std::size_t i = 0; i < run.size(); ++i) {
    PageEntry& entry = env().entry(run[i]);
    suspect(run[i], entry);  // first: invariant 3
    words_.post_or(run[i], kClass, home, writes ? as_writer(my_bit()) : as_accessor(my_bit()), &registrations[i].word);
    // A home that writes a page which nobody else has does not look whether it still does: from now on it must.
    if (!entry.has_flag(kRegistered)) signal(run[i], home, registrations[i].signal);
  }
  const PageRange last = env().unit(run.back());
  nic::Completion bytes;
  env().post_fetch({run.front(), last.end() - run.front().value}, home, &bytes);  // one channel: after the registrations
  const char* what = "registering for a page at its home and reading it";
  for (std::size_t i = 0; i < run.size(); ++i) {
    PageEntry& entry = env().entry(run[i]);
    env().wait(registrations[i].word, what, home);
    for (nic::Completion& step : registrations[i].signal) {
      if (!entry.has_flag(kRegistered)) env().wait(step, what, home);
    }
    entry.set_flag(kRegistered);
    if (others_write(entry, registrations[i].word.old_value())) {
      entry.set_flag(kOthersWrite);
    } else if (exact()) {
      entry.clear_flag(kOthersWrite);  // else the group of this node may have another writer, whom the word does not show
    }
  }
  env().wait(bytes, what, home);
  return registrations[0].word.old_value();
}

void Self::fetch(PageId page, PageEntry& entry) {
  env().count(page, Stat::remote_faults);
  (void)register_and_fetch({&page, 1}, entry.home(), false);
}

std::uint64_t Self::register_writer(PageId page, PageEntry& entry) {
  const NodeId home = entry.home();
  if (home == env().node()) return words_.local(page, kClass).fetch_or(as_writer(my_bit()));
  nic::Completion done;
  words_.post_or(page, kClass, home, as_writer(my_bit()), &done);
  env().wait(done, "registering as a writer of a page at its home", home);
  // Others may write no more, and the copy may still be older than what they wrote: only a fetch ends kOthersWrite.
  if (others_write(entry, done.old_value())) {
    entry.set_flag(kOthersWrite);
    suspect(page, entry);
  }
  return done.old_value();
}

bool Self::others_write(const PageEntry& entry, std::uint64_t word) const {
  const bool mine_is_mine = exact() || entry.has_flag(kWriter);
  return (writers(word) & ~(mine_is_mine ? my_bit() : 0)) != 0;
}

void Self::tell_others(PageId page, NodeId home, std::uint64_t word) {
  struct Posted {
    nic::Completion steps[PageSignals::kSteps];
    NodeId to{};
  };
  std::deque<Posted> posted;
  const std::uint64_t groups = accessors(word) & ~(exact() ? my_bit() : 0);
  for (std::uint32_t node = 0; groups != 0 && node < env().nodes(); ++node) {
    if ((groups >> node % kGroups & 1) == 0 || NodeId{node} == env().node() || NodeId{node} == home) continue;
    Posted& next = posted.emplace_back();
    next.to = NodeId{node};
    signal(page, next.to, next.steps);
  }
  for (Posted& signal : posted) {
    for (nic::Completion& step : signal.steps) env().wait(step, "telling a reader of a page that it is written", signal.to);
  }
  env().count(Stat::notices_sent, posted.size());
}

void Self::suspect(PageId page, PageEntry& entry) {
  if (entry.has_flag(kSuspect)) return;
  entry.set_flag(kSuspect);
  const std::scoped_lock guard(lists_lock_);
  suspects_.push_back(page);
}

void Self::watch(PageId page, PageEntry& entry) {
  if (entry.has_flag(kWatched) || !exact()) return;  // a group's bit may be somebody else's, too: it stays
  entry.set_flag(kWatched);
  const std::scoped_lock guard(lists_lock_);
  watched_.push_back({releases_.load(), page});
}

void Self::on_write_fault(PageId page) {
  const bool home = at_home(page);
  PageEntry& entry = env().entry(page);
  const bool begins = !entry.has_flag(kWriter);
  std::uint64_t word = 0;
  if (!home && entry.access() == Access::none) {
    env().count(page, Stat::remote_faults);
    word = register_and_fetch({&page, 1}, entry.home(), begins);
  } else if (begins) {
    word = register_writer(page, entry);
  }
  if (begins) {
    entry.set_flag(kWriter);
    if (tells_others()) tell_others(page, entry.home(), word);
  }
  entry.data = releases_.load();
  if (!home) {
    env().make_twin(page);
    mark_dirty(page, entry);
    watch(page, entry);
  } else if ((accessors(word) & ~my_bit()) != 0) {
    watch(page, entry);  // a page that nobody else has is not watched: the first one who reads it says so
  }
  env().set_access(page, Access::write);
}

// ---- release ---------------------------------------------------------------------------------------------------------------------

void Self::downgrade() {
  (void)flush();
  ++releases_;
  stop_idle_writers();
}

void Self::stop_idle_writers() {
  const std::uint64_t now = releases_.load();
  std::vector<PageId> due;
  {
    const std::scoped_lock guard(lists_lock_);
    for (; !watched_.empty() && watched_.front().since + kPatience <= now; watched_.pop_front()) due.push_back(watched_.front().page);
  }
  put_in_order(due);
  for (std::size_t i = 0; i < due.size(); i += kChunk) stop_if_idle(std::span(due).subspan(i, std::min(kChunk, due.size() - i)), now);
}

// The locks are kept until the words have changed: memory that is freed meanwhile waits, as its words may be another protocol's then.
void Self::stop_if_idle(std::span<const PageId> pages, std::uint64_t now) {
  struct Posted {
    nic::Completion done;
    NodeId home{};
  };
  std::deque<Posted> posted;
  for (const PageId page : pages) env().entry(page).lock.lock(env().env());
  for (const PageId page : pages) {
    PageEntry& entry = env().entry(page);
    if (!env().owns(entry) || !entry.has_flag(kWatched)) continue;
    entry.clear_flag(kWatched);
    if (!entry.has_flag(kWriter)) continue;
    const bool home = entry.home() == env().node();
    if (home && entry.access() == Access::write) {
      env().set_access(page, Access::read);  // whether it is written still, the next fault says
      watch(page, entry);
    } else if (entry.access() == Access::write || entry.data + kPatience > now) {
      watch(page, entry);
    } else {
      entry.clear_flag(kWriter);
      if (home) {
        words_.local(page, kClass).fetch_and(~(my_bit() << 32));
        continue;
      }
      Posted& next = posted.emplace_back();
      next.home = entry.home();
      words_.post_clear(page, kClass, next.home, my_bit() << 32, &next.done);
    }
  }
  for (Posted& clearing : posted) env().wait(clearing.done, "ceasing to be a writer of a page", clearing.home);
  for (const PageId page : pages) env().entry(page).lock.unlock(env().env());
}

void Self::on_release(SyncId) {
  const std::scoped_lock guard(interval_lock());
  downgrade();
}

// ---- acquire ---------------------------------------------------------------------------------------------------------------------

bool Self::is_stale(PageId page) {
  PageEntry& entry = env().entry(page);
  if (!env().owns(entry)) return false;
  entry.clear_flag(kSuspect);
  return HomeBased::is_stale(page) && entry.has_flag(kOthersWrite);
}

void Self::heed_signals(std::vector<PageId>& suspects) {
  if (!signals_.changed()) return;
  std::vector<PageId> signalled;
  signals_.collect(signalled);
  env().count(Stat::notices_received, signalled.size());
  for (const PageId page : signalled) {
    PageEntry& entry = env().entry(page);
    const PageGuard guard(env().env(), entry);
    if (!env().owns(entry)) continue;
    if (at_home(page)) {
      if (entry.has_flag(kWriter)) watch(page, entry);
    } else {
      entry.set_flag(kOthersWrite);
      suspects.push_back(page);
    }
  }
}

void Self::self_invalidate() {
  std::vector<PageId> suspects;
  {
    const std::scoped_lock guard(lists_lock_);
    suspects.swap(suspects_);
  }
  heed_signals(suspects);
  if (suspects.empty()) return;
  std::vector<PageRange> ranges;
  ranges.reserve(suspects.size());
  for (const PageId page : suspects) ranges.push_back({page, 1});
  invalidate(ranges);
}

void Self::append_grant(SyncId, NodeId, std::span<const std::byte>, Bytes& out) { out.push_back(kSynchronised); }

void Self::on_acquire(SyncId, NodeId, std::span<const std::byte> payload) {
  check_wire(payload);
  const std::scoped_lock guard(interval_lock());
  self_invalidate();
}

void Self::on_barrier_arrive(Bytes& out) {
  const std::scoped_lock guard(interval_lock());
  downgrade();
  out.push_back(kSynchronised);
}

void Self::on_barrier_merge(Bytes& sum, std::span<const std::byte> other) {
  check_wire(sum);
  check_wire(other);
}

void Self::on_barrier_leave(std::span<const std::byte> sum) {
  check_wire(sum);
  const std::scoped_lock guard(interval_lock());
  self_invalidate();
}

// ---- pages that go ---------------------------------------------------------------------------------------------------------------

void Self::on_detach(PageRange pages) {
  // The lists may name them still: they are passed over.
  for (std::uint64_t p = pages.first.value; p != pages.end(); ++p) {
    env().entry(PageId{p}).clear_flag(kRegistered | kWriter | kOthersWrite | kSuspect | kWatched);
  }
  HomeBased::on_detach(pages);
}

void Self::on_retire(PageRange pages) {
  words_.forget(pages);
  signals_.forget(pages);
}

std::uint64_t Self::memory_bytes() {
  const std::scoped_lock guard(lists_lock_);
  return suspects_.capacity() * sizeof(PageId) + watched_.size() * sizeof(Watched);
}

}  // namespace netvm::dsm
