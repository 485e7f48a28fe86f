// Wire: with a lock or barrier comes a time, a varint.
// PageEntry::state, beyond what is home_based's: flags, log2 of the lease's length, version of the copy. PageEntry::data: where its lease ends.
#include "dsm/protocols/lease.hpp"

#include <algorithm>
#include <deque>
#include <mutex>

#include "dsm/protocols/lock_payloads.hpp"
#include "dsm/sharing_map.hpp"
#include "runtime/check.hpp"
#include "runtime/wire_codec.hpp"

namespace netvm::dsm {

namespace {

enum Word : unsigned { kTime, kVersion };

// A lease's length, as a power of 2: each renewal that found the page unchanged doubles it, one that found a change begins anew. The longest is a compromise
// between renewals of what is never written, and the jump in time when it is written after all.
constexpr std::uint8_t kShortest = 3;
constexpr std::uint8_t kLongest = 20;
constexpr std::uint64_t kLongestStep = std::uint64_t{1} << kLongest;
// What a writer takes for itself.
constexpr std::uint64_t kOwnLease = 4;
// How many pages are locked at once while their writes get their times.
constexpr std::size_t kChunk = 256;

std::uint64_t decode_time(std::span<const std::byte> wire, const char* from) {
  std::uint64_t time = 0;
  NETVM_CHECK(decode_lease_time(wire, &time), "lease: malformed time came with a %s", from);
  return time;
}

}  // namespace

// PageEntry::state, unpacked. Under the page's lock.
struct Lease::Copy {
  bool announced = false;  // the home was told that this node reads the page
  bool present = false;    // the frame has the bytes of `version`, or newer ones, whatever the rights
  bool changes = false;    // the last renewal found a change: the next probably will
  std::uint8_t length = kShortest;
  std::uint64_t version = 0;

  static constexpr std::uint64_t kAnnounced = kFirstOwnFlag;
  static constexpr std::uint64_t kPresent = kFirstOwnFlag << 1;
  static constexpr std::uint64_t kChanges = kFirstOwnFlag << 2;
  static constexpr unsigned kLengthShift = 11;  // 5 bits
  static constexpr unsigned kVersionShift = 16;
  static constexpr std::uint64_t kVersionMask = UINT64_MAX >> kVersionShift;
  static constexpr std::uint64_t kAll = ~(kFirstOwnFlag - 1);

  static Copy of(const PageEntry& entry) {
    const std::uint64_t state = entry.state.load(std::memory_order_relaxed);  // relaxed: under the page's lock
    Copy copy;
    copy.announced = (state & kAnnounced) != 0;
    copy.present = (state & kPresent) != 0;
    copy.changes = (state & kChanges) != 0;
    if (copy.present) copy.length = static_cast<std::uint8_t>(state >> kLengthShift & 31);
    copy.version = state >> kVersionShift;
    return copy;
  }
  void store(PageEntry& entry) const {
    entry.clear_flag(kAll);
    entry.set_flag((announced ? kAnnounced : 0) | (present ? kPresent : 0) | (changes ? kChanges : 0) |
                   std::uint64_t{length} << kLengthShift | version << kVersionShift);
  }
};

Lease::Now Lease::now() {
  const std::scoped_lock guard(time_lock_);
  return {seen_, told_};
}

std::uint64_t Lease::lease_end(const PageEntry& entry) {
  const std::scoped_lock guard(time_lock_);
  return entry.data;
}

bool Lease::take_lease(PageId page, PageEntry& entry, std::uint64_t end) {
  const std::scoped_lock guard(time_lock_);
  leases_.erase({entry.data, page});
  entry.data = end;
  if (end < seen_) return false;
  leases_.insert({end, page});
  return true;
}

// ---- reading: the page's lock is held --------------------------------------------------------------------------------------------

struct Lease::Inquiry {
  std::uint64_t known = 0;  // what `time` may still be
  std::uint64_t want = 0;   // what it is to become then
  nic::Completion time;
  nic::Completion version;
};

// Whether a lease alone will probably not do.
bool Lease::expects_bytes(const PageEntry& entry, bool first) {
  const Copy copy = Copy::of(entry);
  return !copy.present || (first && copy.changes);
}

void Lease::ask(std::span<const PageId> run, NodeId home, bool first, std::vector<PageId>& again) {
  const PageRange pages{run.front(), env().unit(run.back()).end() - run.front().value};
  bool announced = true;
  bool with_data = false;
  for (const PageId page : run) {
    const PageEntry& entry = env().entry(page);
    announced = announced && Copy::of(entry).announced;
    with_data = with_data || expects_bytes(entry, first);
  }
  // One channel: in this order.
  nic::Completion announcement[SharingMap::kMostSteps];
  const std::size_t steps = announced ? 0 : env().post_announce(pages, home, announcement);
  std::vector<Inquiry> inquiries(run.size());
  for (std::size_t i = 0; i < run.size(); ++i) {
    PageEntry& entry = env().entry(run[i]);
    Inquiry& inquiry = inquiries[i];
    inquiry.known = lease_end(entry);
    inquiry.want = std::max(inquiry.known, now().told + (std::uint64_t{1} << Copy::of(entry).length));
    words_.post_swap_if(run[i], kTime, home, inquiry.known, inquiry.want, &inquiry.time);
    words_.post_add(run[i], kVersion, home, 0, &inquiry.version);
  }
  nic::Completion bytes;
  if (with_data) env().post_fetch(pages, home, &bytes);
  const char* what = "taking a lease of a page at its home";
  for (std::size_t i = 0; i < steps; ++i) env().wait(announcement[i], what, home);
  for (Inquiry& inquiry : inquiries) {
    env().wait(inquiry.time, what, home);
    env().wait(inquiry.version, what, home);
  }
  if (with_data) env().wait(bytes, what, home);
  for (std::size_t i = 0; i < run.size(); ++i) {
    if (!conclude(run[i], inquiries[i], with_data, first)) again.push_back(run[i]);
  }
}

bool Lease::conclude(PageId page, const Inquiry& inquiry, bool with_data, bool first) {
  PageEntry& entry = env().entry(page);
  Copy copy = Copy::of(entry);
  copy.announced = true;
  const std::uint64_t theirs = inquiry.version.old_value() & Copy::kVersionMask;
  const bool unchanged = copy.present && is_current(copy.version, theirs);
  if (copy.present && first) {
    copy.changes = !unchanged;
    copy.length = unchanged ? std::min<std::uint8_t>(copy.length + 1, kLongest) : kShortest;
  }
  copy.present = with_data || unchanged;
  if (with_data) copy.version = theirs;
  copy.store(entry);
  if (!copy.present) return false;
  // Somebody else's lease is as good, if it is long enough.
  return take_lease(page, entry, inquiry.time.old_value() == inquiry.known ? inquiry.want : inquiry.time.old_value());
}

void Lease::fetch(PageId page, PageEntry& entry) {
  env().count(page, Stat::remote_faults);
  std::vector<PageId> again{page};
  for (bool first = true; !again.empty(); first = false) {
    again.clear();
    ask({&page, 1}, entry.home(), first, again);
  }
}

void Lease::fetch_run(std::span<const PageId> run, NodeId home) {
  std::vector<PageId> left(run.begin(), run.end());
  std::vector<PageId> again;
  for (bool first = true; !left.empty(); first = false) {
    // What is likely to be renewed without its bytes goes apart from what is not.
    for (std::size_t i = 0; i < left.size();) {
      const bool bytes = expects_bytes(env().entry(left[i]), first);
      std::size_t j = i + 1;
      while (j < left.size() && left[j].value == env().unit(left[j - 1]).end() && expects_bytes(env().entry(left[j]), first) == bytes) ++j;
      ask(std::span(left).subspan(i, j - i), home, first, again);
      i = j;
    }
    left.clear();
    left.swap(again);
  }
}

// ---- release ---------------------------------------------------------------------------------------------------------------------

struct Lease::Stamp {
  nic::Completion version;
  nic::Completion time;
  nic::Completion check;
  NodeId home{};
  std::uint64_t added = 0;
};

void Lease::close_interval() {
  const std::vector<PageId> written = flush();
  for (std::size_t i = 0; i < written.size(); i += kChunk) stamp(std::span(written).subspan(i, std::min(kChunk, written.size() - i)));
}

void Lease::stamp(std::span<const PageId> pages) {
  for (const PageId page : pages) env().entry(page).lock.lock(env().env());
  std::deque<std::pair<PageId, Stamp>> stamps;
  for (const PageId page : pages) {
    PageEntry& entry = env().entry(page);
    if (!env().owns(entry) || !entry.home_known()) continue;  // flushed early, and freed
    Stamp& stamp = stamps.emplace_back(std::piecewise_construct, std::forward_as_tuple(page), std::forward_as_tuple()).second;
    stamp.home = entry.home();
    const std::uint64_t until = now().told + 1 + kOwnLease;
    const std::uint64_t known = lease_end(entry);
    const bool home = stamp.home == env().node();
    // Where others write the page too, its time at home is long after `known`, and so is this node's: a step of all that lies between would double it.
    stamp.added = home || until <= known ? 1 : std::min(until - known, kLongestStep);
    words_.post_add(page, kVersion, stamp.home, 1, &stamp.version);
    words_.post_add(page, kTime, stamp.home, stamp.added, &stamp.time);
    if (!home) words_.post_add(page, kVersion, stamp.home, 0, &stamp.check);
  }
  for (auto& [page, stamp] : stamps) settle(page, stamp);
  for (const PageId page : pages) env().entry(page).lock.unlock(env().env());
}

void Lease::settle(PageId page, Stamp& stamp) {
  const char* what = "giving a write its time at the page's home";
  env().wait(stamp.version, what, stamp.home);
  env().wait(stamp.time, what, stamp.home);
  {
    const std::scoped_lock guard(time_lock_);
    told_ = std::max(told_, time_of_write(stamp.time.old_value()));
  }
  if (stamp.home == env().node()) return;
  env().wait(stamp.check, what, stamp.home);
  PageEntry& entry = env().entry(page);
  Copy copy = Copy::of(entry);
  const std::uint64_t before = stamp.version.old_value() & Copy::kVersionMask;
  const std::uint64_t mine = (before + 1) & Copy::kVersionMask;
  // Nobody else has written since this copy was read, nor, up to now, after this write: any other write gets a time after what was added.
  if (!copy.present || copy.version != before || (stamp.check.old_value() & Copy::kVersionMask) != mine) return;
  copy.version = mine;
  copy.store(entry);
  if (entry.access() != Access::none) (void)take_lease(page, entry, stamp.time.old_value() + stamp.added);
}

void Lease::on_release(SyncId) {
  const std::scoped_lock guard(interval_lock());
  close_interval();
}

// ---- acquire ---------------------------------------------------------------------------------------------------------------------

bool Lease::is_stale(PageId page) {
  if (!HomeBased::is_stale(page)) return false;
  const PageEntry& entry = env().entry(page);
  const std::scoped_lock guard(time_lock_);
  return entry.data < seen_;
}

void Lease::advance(std::uint64_t time) {
  std::vector<PageRange> ended;
  {
    const std::scoped_lock guard(time_lock_);
    if (time <= seen_) return;
    seen_ = time;
    told_ = std::max(told_, time);
    const auto first_good = leases_.lower_bound({time, PageId{0}});
    for (auto at = leases_.begin(); at != first_good; ++at) ended.push_back({at->second, 1});
    leases_.erase(leases_.begin(), first_good);
  }
  invalidate(ended);
}

void Lease::encode_time(Bytes& out) { put_varint(out, now().told); }

void Lease::append_grant(SyncId, NodeId, std::span<const std::byte>, Bytes& out) { encode_time(out); }

void Lease::on_acquire(SyncId, NodeId, std::span<const std::byte> payload) {
  const std::uint64_t time = decode_time(payload, "lock");
  const std::scoped_lock guard(interval_lock());
  advance(time);
}

void Lease::on_barrier_arrive(Bytes& out) {
  const std::scoped_lock guard(interval_lock());
  close_interval();
  encode_time(out);
}

void Lease::on_barrier_merge(Bytes& sum, std::span<const std::byte> other) {
  const std::uint64_t latest = std::max(decode_time(sum, "barrier"), decode_time(other, "barrier"));
  sum.clear();
  put_varint(sum, latest);
}

void Lease::on_barrier_leave(std::span<const std::byte> sum) {
  const std::uint64_t time = decode_time(sum, "barrier");
  const std::scoped_lock guard(interval_lock());
  advance(time);
}

// ---- pages that go ---------------------------------------------------------------------------------------------------------------

void Lease::on_detach(PageRange pages) {
  for (std::uint64_t p = pages.first.value; p != pages.end(); ++p) {
    PageEntry& entry = env().entry(PageId{p});
    entry.clear_flag(Copy::kAll);
    const std::scoped_lock guard(time_lock_);
    leases_.erase({entry.data, PageId{p}});
    entry.data = 0;
  }
  HomeBased::on_detach(pages);
}

void Lease::on_retire(PageRange pages) { words_.forget(pages); }

// A copy without rights may be renewed without data: not if its bytes go.
Departure Lease::on_evict(PageId page) {
  const Departure departure = HomeBased::on_evict(page);
  if (departure == Departure::drop) env().entry(page).clear_flag(Copy::kPresent);
  return departure;
}

std::uint64_t Lease::memory_bytes() {
  constexpr std::uint64_t kNode = sizeof(std::pair<std::uint64_t, PageId>) + 4 * sizeof(void*);  // of the tree, about
  const std::scoped_lock guard(time_lock_);
  return leases_.size() * kNode;
}

}  // namespace netvm::dsm
