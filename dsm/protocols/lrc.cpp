#include "dsm/protocols/lrc.hpp"

#include <algorithm>
#include <cstring>
#include <deque>
#include <iterator>
#include <mutex>

#include "dsm/protocols/lrc_messages.hpp"
#include "runtime/check.hpp"
#include "runtime/wire_codec.hpp"

namespace netvm::dsm {

// PageEntry::kDirty is under the page's latch.

// ---- records ---------------------------------------------------------------------------------------------------------------

Lrc::Lrc(ProtocolEnv& env)
    : env_(env),
      intervals_(env.env()),
      dirty_(env),
      log_(env.node(), env.nodes()),
      first_page_(env.table().range().first),
      records_(env.table().range().count) {
  NETVM_CHECK(records_.valid(), "no address space for the records of lrc: lower NETVM_ADDRESS_SPACE");
}

Lrc::Record& Lrc::record_of(PageId page) {
  Record*& record = find_record(page);
  if (record == nullptr) {
    Record fresh;
    fresh.page = page;
    record = &pool_.take(std::move(fresh));
  }
  return *record;
}

void Lrc::drop_record(PageId page) {
  Record*& record = find_record(page);
  if (record == nullptr) return;
  hold_memory(record->changes.bytes(), 0);
  pool_.give(*std::exchange(record, nullptr));
}

Lrc::Writer& Lrc::writer_of(Record& record, NodeId node) {
  const auto at = std::lower_bound(record.writers.begin(), record.writers.end(), node,
                                   [](const Writer& writer, NodeId wanted) { return writer.node < wanted; });
  if (at != record.writers.end() && at->node == node) return *at;
  return *record.writers.insert(at, Writer{node, 0, 0, 0});
}

void Lrc::on_detach(PageRange pages) {
  for (std::uint64_t p = pages.first.value; p != pages.end(); ++p) {
    const PageId page{p};
    PageEntry& entry = env_.entry(page);
    const std::scoped_lock latch(entry.latch);
    env_.set_access(page, Access::none);
    entry.clear_flag(PageEntry::kDirty);
    if (entry.twin != nullptr) hold_memory(env_.unit_bytes(page), 0);
    env_.drop_twin(page);
    drop_record(page);
  }
}

void Lrc::on_retire(PageRange pages) {
  for (std::uint64_t p = pages.first.value; p != pages.end(); ++p) {
    const std::scoped_lock latch(env_.entry(PageId{p}).latch);
    drop_record(PageId{p});
  }
}

// A copy can be had from who wrote the page last. Who ever wrote it keeps his, since he may be asked for it.
Departure Lrc::on_evict(PageId page) {
  PageEntry& entry = env_.entry(page);
  if (!entry.latch.try_lock()) return Departure::save;
  Record* record = find_record(page);
  const bool spare = record != nullptr && !record->written && entry.twin == nullptr && record->source != kNobody;
  if (spare) {
    env_.set_access(page, Access::none);
    if (record->copy == Copy::held) record->copy = Copy::unseen;
  }
  entry.latch.unlock();
  return spare ? Departure::drop : Departure::save;
}

std::uint64_t Lrc::memory_bytes() {
  std::uint64_t bytes = held_bytes_.load(std::memory_order_relaxed);  // relaxed: a statistic
  {
    const std::scoped_lock guard(log_lock_);
    bytes += log_.bytes() + log_.size() * sizeof(std::vector<std::byte>);
  }
  return bytes + pool_.in_use() * (sizeof(Record) + sizeof(Writer));
}

// ---- faults: the page's long lock is held --------------------------------------------------------------------------------------

void Lrc::on_read_fault(PageId page) {
  PageEntry& entry = env_.entry(page);
  const bool remote = complete(page, entry, [&](Record&) { env_.set_access(page, Access::read); });
  if (remote) env_.count(page, Stat::remote_faults);
}

void Lrc::on_write_fault(PageId page) {
  PageEntry& entry = env_.entry(page);
  const bool remote = complete(page, entry, [&](Record& record) {
    if (entry.twin == nullptr) {
      env_.make_twin(page);
      hold_memory(0, env_.unit_bytes(page));
      record.pending = ChangeTime{order_now(), 0, 0, false};
    }
    record.pending.open = true;
    record.written = true;
    dirty_.add(page, entry);
    env_.set_access(page, Access::write);
  });
  if (remote) env_.count(page, Stat::remote_faults);
}

// Fetches until the page is complete, then calls finish(record) under its latch. Returns whether other nodes were asked.
template <class Finish>
bool Lrc::complete(PageId page, PageEntry& entry, Finish&& finish) {
  FramePins pins;
  std::vector<Ask> asks;
  Fetch fetch{page};
  bool asked = false;
  for (;;) {
    {
      const std::scoped_lock latch(entry.latch);
      Record& record = record_of(page);
      if (!fetch.replies.empty()) install(page, entry, record, fetch.replies);
      asks.clear();
      const bool lacks = plan(record, asks);
      if (!lacks) {
        std::vector<ChangeView> none;
        if (record.own_behind) apply(page, entry, record, none);
        finish(record);
        return asked;
      }
    }
    if (!asked) pins = env_.pin({page, 1}, true);
    asked = true;
    fetch.replies.clear();
    Outbox questions;
    begin(fetch, asks, questions);
    leave(questions);
    await(fetch);
  }
}

// Asks for all of them at once what it can know now; mostly they are complete then, without more questions. A node that is asked answers whatever it
// waits for itself.
void Lrc::on_read_ahead(std::span<const PageId> units) {
  std::deque<Fetch> fetches;
  Outbox questions;
  std::vector<Ask> asks;
  for (const PageId page : units) {
    PageEntry& entry = env_.entry(page);
    {
      const std::scoped_lock latch(entry.latch);
      asks.clear();
      if (!plan(record_of(page), asks)) continue;
    }
    begin(fetches.emplace_back(Fetch{page}), asks, questions);
  }
  leave(questions);
  for (Fetch& fetch : fetches) {
    await(fetch);
    const FramePins pins = env_.pin({fetch.page, 1}, true);  // they are there; this says that they change
    PageEntry& entry = env_.entry(fetch.page);
    const std::scoped_lock latch(entry.latch);
    install(fetch.page, entry, record_of(fetch.page), fetch.replies);
  }
  for (std::size_t i = 0; i < units.size(); i += kMostLatches) let_read(units.subspan(i, std::min(kMostLatches, units.size() - i)));
}

// Those that are complete together; what has been noticed meanwhile of the others, one after the other.
void Lrc::let_read(std::span<const PageId> units) {
  std::vector<PageId> ready;
  std::vector<PageId> lacking;
  std::vector<Ask> asks;
  {
    const PageTable::Latched latches(env_.table(), units);
    for (const PageId page : units) {
      Record& record = record_of(page);
      asks.clear();
      (plan(record, asks) || record.own_behind ? lacking : ready).push_back(page);
    }
    env_.set_access(ready, Access::read);
  }
  for (const PageId page : lacking) {
    (void)complete(page, env_.entry(page), [&](Record&) { env_.set_access(page, Access::read); });
  }
}

// What must be asked of whom for the page to be complete. False: nothing.
bool Lrc::plan(Record& record, std::vector<Ask>& asks) {
  if (record.copy != Copy::held && record.source != kNobody) {
    asks.push_back({record.source, true, 0, writer_of(record, record.source).noticed});
    return true;
  }
  NETVM_CHECK(record.copy != Copy::dropped, "lrc: page %llu was dropped, and nobody keeps it", number(record.page));
  record.copy = Copy::held;
  for (const Writer& writer : record.writers) {
    if (writer.noticed > writer.settled) asks.push_back({writer.node, false, writer.ordinal, writer.noticed});
  }
  return !asks.empty();
}

// ---- changes of this node ----------------------------------------------------------------------------------------------------------

// The number of intervals known here, counting none of this node's that may still grow: larger for whoever has seen more.
std::uint64_t Lrc::order_now() {
  const std::scoped_lock guard(log_lock_);
  const VectorClock& clock = log_.clock();
  std::uint64_t sum = acting_upon_ + log_.next_own() - 1;
  for (std::uint32_t node = 0; node < env_.nodes(); ++node) {
    if (NodeId{node} != env_.node()) sum += clock[node];
  }
  return sum;
}

void Lrc::find_changes(PageId page, std::vector<DiffRun>& runs) { env_.diff(page, &runs); }

void Lrc::make_change(PageId page, PageEntry& entry, Record& record) {
  const Access right = entry.access();
  if (right == Access::write) env_.set_access(page, Access::read);
  std::vector<DiffRun> runs;
  find_changes(page, runs);
  const std::uint64_t before = record.changes.bytes();
  record.changes.add(record.pending, runs, env_.frame(page));
  env_.drop_twin(page);
  hold_memory(before + env_.unit_bytes(page), record.changes.bytes());
  if (right == Access::write && right_after_change() == Access::write) env_.set_access(page, Access::write);
}

// ---- release ---------------------------------------------------------------------------------------------------------------------------

void Lrc::on_release(SyncId) {
  const std::scoped_lock guard(intervals_);
  close_interval();
}

void Lrc::close_interval() {
  const std::vector<PageId> pages = dirty_.take();
  if (pages.empty()) return;
  // A grant may end the growing interval before the pages are in it; then they come into the next one, and what was written now is taken to be a little older
  // than it is. That is harmless: whoever knows this interval has seen all that was known here when the twins were made.
  std::uint64_t index = 0;
  {
    const std::scoped_lock guard(log_lock_);
    index = log_.next_own();
  }
  std::vector<PageId> written;
  for (std::size_t i = 0; i < pages.size(); i += kMostLatches) {
    close_chunk(std::span(pages).subspan(i, std::min(kMostLatches, pages.size() - i)), index, written);
  }
  const std::scoped_lock guard(log_lock_);
  log_.close(written);
}

// The next write of each page is noticed again; its twin stays.
void Lrc::close_chunk(std::span<const PageId> pages, std::uint64_t index, std::vector<PageId>& written) {
  const PageTable::Latched latches(env_.table(), pages);
  std::vector<PageId> dirty;
  std::copy_if(pages.begin(), pages.end(), std::back_inserter(dirty), [this](PageId page) { return dirty_.has(env_.entry(page)); });
  std::vector<PageId> writable;
  std::copy_if(dirty.begin(), dirty.end(), std::back_inserter(writable),
               [this](PageId page) { return env_.entry(page).access() == Access::write; });
  env_.set_access(writable, Access::read);
  for (const PageId page : dirty) {
    PageEntry& entry = env_.entry(page);
    Record& record = *find_record(page);
    record.changes.close_open(index);
    if (entry.twin != nullptr && record.pending.open) record.pending.close(index);
    entry.clear_flag(PageEntry::kDirty);
    written.push_back(page);
  }
}

// ---- acquire ---------------------------------------------------------------------------------------------------------------------------

void Lrc::append_acquire_request(SyncId, Bytes& out) {
  const std::scoped_lock guard(log_lock_);
  log_.encode_clock(out);
}

bool Lrc::tells_nothing(std::span<const std::byte> request) {
  const std::scoped_lock guard(log_lock_);
  return log_.is_known_by(request);
}

void Lrc::append_grant(SyncId, NodeId acquirer, std::span<const std::byte> request, Bytes& out) {
  VectorClock theirs;
  const std::scoped_lock guard(log_lock_);
  NETVM_CHECK(log_.decode_clock(request, &theirs), "lrc: node %u asks for a lock with a malformed vector clock", acquirer.value);
  env_.count(Stat::notices_sent, log_.encode_grant(theirs, env_.barriers_left(), out));
}

void Lrc::decode(std::span<const std::byte> wire, const char* from, std::vector<IntervalView>& out) const {
  NETVM_CHECK(decode_intervals(wire, env_.nodes(), env_.parts().table.range(), out), "lrc: malformed write notices came with a %s", from);
}

void Lrc::on_acquire(SyncId, NodeId granter, std::span<const std::byte> payload) {
  if (payload.empty()) return;
  const bool ahead = IntervalLog::take_grant_mark(payload);
  std::vector<IntervalView> intervals;
  decode(payload, "lock", intervals);
  const std::scoped_lock guard(intervals_);
  act_upon(intervals, granter, ahead);
}

void Lrc::act_upon(std::span<const IntervalView> intervals, NodeId granter, bool pass_on) {
  std::vector<Notice> notices;
  std::vector<PageRange> ranges;
  std::uint64_t fresh = 0;
  {
    const std::scoped_lock guard(log_lock_);
    for (const IntervalView& interval : log_.unknown(intervals, &fresh)) {
      if (!believes(granter, interval.node)) continue;
      ranges.clear();
      NETVM_CHECK(decode_pages(interval.pages, env_.table().range(), ranges), "write notices changed under decoding");
      for (const PageRange& range : ranges) {
        for (std::uint64_t p = range.first.value; p != range.end(); ++p) notices.push_back({PageId{p}, interval.node, interval.index});
      }
    }
    acting_upon_ = fresh;  // twins made from now on come after these intervals
  }
  if (fresh == 0) return;
  env_.count(Stat::notices_received, fresh);
  const auto by_page = [](const Notice& a, const Notice& b) { return a.page < b.page; };
  if (!std::is_sorted(notices.begin(), notices.end(), by_page)) std::stable_sort(notices.begin(), notices.end(), by_page);
  give_up(notices);
  const std::scoped_lock guard(log_lock_);
  NETVM_CHECK(log_.add(intervals, pass_on), "lrc: write notices leave a gap: an interval was lost");
  acting_upon_ = 0;
}

// Notices ascend by page. Pages without a twin go in chunks; who has one makes its change first, which may have to wait for the frame.
void Lrc::give_up(std::span<const Notice> notices) {
  std::vector<Notice> chunk;
  std::size_t pages = 0;
  const auto flush = [&] {
    if (!give_up_chunk(chunk)) {
      // A twin was made meanwhile somewhere in the chunk: one by one.
      for (std::size_t i = 0; i < chunk.size();) {
        std::size_t j = i;
        while (j < chunk.size() && chunk[j].page == chunk[i].page) ++j;
        give_up_twin(chunk[i].page, env_.entry(chunk[i].page), std::span(chunk).subspan(i, j - i));
        i = j;
      }
    }
    chunk.clear();
    pages = 0;
  };
  for (std::size_t i = 0; i < notices.size();) {
    std::size_t j = i;
    while (j < notices.size() && notices[j].page == notices[i].page) ++j;
    PageEntry& entry = env_.entry(notices[i].page);
    // A notice may outlive its page: the memory was freed, and belongs to another protocol now.
    if (is_anothers(entry)) {
      i = j;
      continue;
    }
    entry.latch.lock();
    const bool twin = has_twin(entry);
    entry.latch.unlock();
    if (twin) {
      give_up_twin(notices[i].page, entry, notices.subspan(i, j - i));
    } else {
      chunk.insert(chunk.end(), notices.begin() + static_cast<std::ptrdiff_t>(i), notices.begin() + static_cast<std::ptrdiff_t>(j));
      if (++pages == kMostLatches) flush();
    }
    i = j;
  }
  flush();
}

void Lrc::give_up_twin(PageId page, PageEntry& entry, std::span<const Notice> notices) {
  const FramePins pins = env_.pin({page, 1}, false);
  const std::scoped_lock latch(entry.latch);
  Record& record = record_of(page);
  if (has_twin(entry)) {
    make_change(page, entry, record);
    if (!owes_early_change()) entry.clear_flag(PageEntry::kDirty);
  }
  if (has_right(entry)) {
    env_.count(page, Stat::invalidations);
    env_.set_access(page, Access::none);
  }
  note(record, notices);
}

bool Lrc::give_up_chunk(std::span<const Notice> notices) {
  std::vector<PageId> pages;
  for (const Notice& notice : notices) {
    if (pages.empty() || pages.back() != notice.page) pages.push_back(notice.page);
  }
  const PageTable::Latched latches(env_.table(), pages);
  const bool clean = std::none_of(pages.begin(), pages.end(), [&](PageId page) { return has_twin(env_.entry(page)); });
  if (clean) {
    std::vector<PageId> held;
    held.reserve(pages.size());
    std::copy_if(pages.begin(), pages.end(), std::back_inserter(held), [this](PageId page) { return has_right(env_.entry(page)); });
    // The records lie anywhere, and were not looked at for long: they come while the system call is under way.
    for (const PageId page : pages) __builtin_prefetch(find_record(page), 1);
    env_.set_access(held, Access::none);
    env_.count(held, Stat::invalidations);
    for (const Notice& notice : notices) note(record_of(notice.page), {&notice, 1});
  }
  return clean;
}

void Lrc::note(Record& record, std::span<const Notice> notices) {
  for (const Notice& notice : notices) {
    Writer& writer = writer_of(record, notice.writer);
    writer.noticed = std::max(writer.noticed, notice.index);
    record.source = notice.writer;
  }
}

// ---- barriers ----------------------------------------------------------------------------------------------------------------------------

// A barrier's payload: one byte (1: somebody's memory is full), then a set of intervals.
void Lrc::on_barrier_arrive(Bytes& out) {
  const std::scoped_lock guard(intervals_);
  close_interval();
  const bool full = !collecting_ && held_bytes_.load(std::memory_order_relaxed) > garbage_bound();  // relaxed: a statistic
  Bytes own;
  {
    const std::scoped_lock log_guard(log_lock_);
    env_.count(Stat::notices_sent, log_.arrive(env_.barriers_left(), own));
    arrived_at_ = log_.next_own() - 1;
  }
  if (!full && own.empty()) return;
  out.push_back(static_cast<std::byte>(full ? 1 : 0));
  out.insert(out.end(), own.begin(), own.end());
}

void Lrc::on_barrier_merge(Bytes& sum, std::span<const std::byte> other) {
  NETVM_CHECK(!sum.empty() && !other.empty(), "lrc: a barrier message without a body");
  const std::byte full = sum[0] | other[0];
  Bytes intervals(sum.begin() + 1, sum.end());
  merge_interval_sets(intervals, other.subspan(1));
  sum.assign(1, full);
  sum.insert(sum.end(), intervals.begin(), intervals.end());
}

void Lrc::on_barrier_leave(std::span<const std::byte> sum) {
  NETVM_CHECK(!sum.empty(), "lrc: a barrier message without a body");
  std::vector<IntervalView> intervals;
  decode(sum.subspan(1), "barrier", intervals);
  const std::scoped_lock guard(intervals_);
  act_upon(intervals, env_.node(), false);
  name_keepers(intervals);
  {
    const std::scoped_lock log_guard(log_lock_);
    log_.pass_barrier(intervals);
  }
  if (collecting_) drop_collected();
  if (sum[0] != std::byte{0}) collect();
}

// ---- garbage -------------------------------------------------------------------------------------------------------------------------------

// Every node is handed the same intervals in the same order, so all name the same.
void Lrc::name_keepers(std::span<const IntervalView> announced) {
  std::vector<PageRange> ranges;
  for (const IntervalView& interval : announced) {
    ranges.clear();
    NETVM_CHECK(decode_pages(interval.pages, env_.table().range(), ranges), "write notices changed under decoding");
    for (const PageRange& range : ranges) {
      for (std::uint64_t p = range.first.value; p != range.end(); ++p) {
        const std::scoped_lock latch(env_.entry(PageId{p}).latch);
        if (Record* record = find_record(PageId{p})) record->keeper = interval.node;
      }
    }
  }
}

std::vector<PageId> Lrc::recorded_pages() {
  std::vector<PageId> pages;
  pool_.for_each([&](const Record& record) {
    if (record.page != PageId{}) pages.push_back(record.page);
  });
  std::sort(pages.begin(), pages.end());
  return pages;
}

void Lrc::collect() {
  collecting_ = true;
  collect_until_ = arrived_at_;
  for (const PageId page : recorded_pages()) collect_page(page);
  if (!waits_for_keepers()) drop_collected();
}

void Lrc::collect_page(PageId page) {
  PageEntry& entry = env_.entry(page);
  const PageGuard guard(env_.env(), entry);
  {
    const std::scoped_lock latch(entry.latch);
    Record* record = find_record(page);
    if (record == nullptr) return;
    // Others may drop theirs now. That holds for a page that this node has only heard of, too.
    if (record->keeper != kNobody && record->keeper != env_.node()) record->source = record->keeper;
    if (!env_.owns(entry)) return;
    const bool behind = std::any_of(record->writers.begin(), record->writers.end(), [](const Writer& w) { return w.noticed > w.settled; });
    if (behind && record->keeper != kNobody && record->keeper != env_.node()) {
      record->copy = Copy::dropped;
      return;
    }
    if (!behind && entry.twin == nullptr) return;
  }
  const FramePins pins = env_.pin({page, 1}, false);
  (void)complete(page, entry, [&](Record& record) {
    // What was written up to here is a change of its own, so that it can be dropped apart from what comes.
    if (entry.twin != nullptr) make_change(page, entry, record);
  });
}

void Lrc::drop_collected() {
  collecting_ = false;
  for (const PageId page : recorded_pages()) {
    PageEntry& entry = env_.entry(page);
    const std::scoped_lock latch(entry.latch);
    Record* record = find_record(page);
    if (record == nullptr) continue;
    const std::uint64_t before = record->changes.bytes();
    record->changes.drop_through(collect_until_);
    hold_memory(before, record->changes.bytes());
  }
}

}  // namespace netvm::dsm
