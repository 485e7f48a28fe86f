// EagerUpdate: faults and releases; what a member does.
#include "dsm/eager_update.hpp"

#include <algorithm>
#include <cstring>
#include <mutex>
#include <utility>

#include "dsm/eager_update_wire.hpp"
#include "dsm/regions.hpp"
#include "runtime/check.hpp"
#include "runtime/wire_codec.hpp"

namespace netvm::dsm {

// PageEntry::kDirty is under the page's latch.

// ---- records ---------------------------------------------------------------------------------------------------------------

EagerUpdate::Record& EagerUpdate::record_of(PageEntry& entry) {
  if (entry.data == 0) entry.data = reinterpret_cast<std::uintptr_t>(&records_.take());
  return *find_record(entry);
}

// A release under way is waited for, so that no changes of the pages are on their way when they are handed out again; and it need not ask twice whether
// a page is still this protocol's.
void EagerUpdate::on_detach(PageRange pages) {
  const std::scoped_lock releases(releases_);
  for (std::uint64_t p = pages.first.value; p != pages.end(); ++p) {
    const PageId page{p};
    PageEntry& entry = env_.entry(page);
    const std::scoped_lock latch(entry.latch);
    env_.set_access(page, Access::none);
    entry.clear_flag(PageEntry::kDirty);
    env_.drop_twin(page);
    Record* record = find_record(entry);
    if (record == nullptr) continue;
    entry.data = 0;
    records_.give(*record);
  }
}

std::uint64_t EagerUpdate::memory_bytes() {
  std::uint64_t bytes = 0;
  {
    const std::scoped_lock guard(delivery_lock_);
    bytes += deliveries_.size() * sizeof(Delivery);
  }
  return bytes + records_.in_use() * (sizeof(Record) + sizeof(Member));
}

// ---- faults: the page's long lock is held --------------------------------------------------------------------------------------

void EagerUpdate::fault(PageId page, bool write) {
  PageEntry& entry = env_.entry(page);
  const NodeId home = env_.home_of(page);
  FramePins pins;
  while (!give(page, entry, write, home == env_.node())) {
    // The home writes the bytes into the frame, which must be there for it.
    if (!pins.holds()) pins = env_.pin({page, 1}, true);
    ask(page, entry, write);
    await_grant(page, entry);
  }
}

void EagerUpdate::ask(PageId page, PageEntry& entry, bool write) {
  env_.count(page, Stat::remote_faults);
  Header message;
  message.kind = Header::kJoin;
  message.flags = write ? Header::kWriter : std::uint8_t{0};
  message.pages = pages_of(page);
  message.page = page.value;
  const std::scoped_lock latch(entry.latch);
  // From here on the home takes this node for one that has a copy, or will have: what comes meanwhile must not make it leave.
  if (std::exchange(record_of(entry).dropped, false)) message.flags |= Header::kAgain;
  send(entry.home(), message);
}

void EagerUpdate::await_grant(PageId page, PageEntry& entry) {
  env_.wait_until(
      word_of(page),
      [&] {
        const std::scoped_lock latch(entry.latch);
        return record_of(entry).granted;
      },
      "a copy of a page");
}

// Asks for all of them at once. A home answers at once, whatever others wait for.
void EagerUpdate::on_read_ahead(std::span<const PageId> units) {
  std::vector<PageId> asked;
  for (const PageId page : units) {
    PageEntry& entry = env_.entry(page);
    if (give(page, entry, false, entry.home() == env_.node())) continue;
    ask(page, entry, false);
    asked.push_back(page);
  }
  for (const PageId page : asked) {
    PageEntry& entry = env_.entry(page);
    await_grant(page, entry);
    (void)give(page, entry, false, false);  // or it has gone again already: nobody waits for it
  }
}

// Gives the right if this node's copy is current. Else the home must be asked: false.
bool EagerUpdate::give(PageId page, PageEntry& entry, bool write, bool at_home) {
  const std::scoped_lock latch(entry.latch);
  Record& record = record_of(entry);
  if (!at_home) {
    const bool may_write = record.writer || !pushes_to_readers();
    if (!record.held || (write && !may_write)) {
      record.granted = false;
      return false;
    }
    if (record.watched) {
      record.watched = false;
      Header message;
      message.kind = Header::kUsed;
      message.page = page.value;
      send(entry.home(), message);
    }
  }
  if (write && (!at_home || !record.members.empty())) mark_dirty(page, entry);
  env_.set_access(page, write ? Access::write : Access::read);
  return true;
}

void EagerUpdate::mark_dirty(PageId page, PageEntry& entry) {
  if (entry.twin == nullptr) env_.make_twin(page);
  dirty_.add(page, entry);
}

// ---- release ---------------------------------------------------------------------------------------------------------------------

void EagerUpdate::on_release(SyncId) { flush(); }
void EagerUpdate::on_barrier_arrive(Bytes&) { flush(); }

void EagerUpdate::flush() {
  const std::scoped_lock guard(releases_);
  std::vector<PageId> pages = dirty_.take();
  std::erase_if(pages, [this](PageId page) { return !dirty_.has(env_.entry(page)); });
  if (pages.empty()) return;
  const std::uint64_t most = std::max<std::uint64_t>(env_.most_pins() / 2, 1);
  for (std::size_t i = 0; i < pages.size();) {
    std::size_t j = i + 1;
    for (std::uint64_t pins = pages_of(pages[i]); j < pages.size() && j - i < kMostLatches && pins + pages_of(pages[j]) <= most; ++j)
      pins += pages_of(pages[j]);
    flush_chunk(std::span(pages).subspan(i, j - i));
    i = j;
  }
  env_.wait_until(
      over_, [this] { return awaited_.load() == 0; }, "the acknowledgement of changes");
  for (const PageId page : pages) {
    PageEntry& entry = env_.entry(page);
    const std::scoped_lock latch(entry.latch);
    if (Record* record = find_record(entry)) record->on_their_way.clear();
  }
}

void EagerUpdate::flush_chunk(std::span<const PageId> dirty) {
  std::vector<FramePins> pins;
  for (const PageId page : dirty) pins.push_back(env_.pin({page, 1}, false));
  std::vector<Change> own;
  std::deque<Bytes> diffs;
  Flushes flushes;
  {
    const PageTable::Latched latches(env_.table(), dirty);
    take_changes(dirty, own, diffs, flushes);
  }
  for (const auto& [home, message] : flushes.to) {
    if (!message.body.empty()) send_flush(home, flushes);
  }
  if (own.empty()) return;
  awaited_.fetch_add(1);
  const auto delivery = std::make_shared<Delivery>();
  delivery->from = env_.node();
  at_home(env_.node(), own, delivery);
  delivered(delivery);
}

void EagerUpdate::send_flush(NodeId home, Flushes& flushes) {
  Flushes::Message& flush = flushes.to[home];
  awaited_.fetch_add(1);
  Header message;
  message.kind = Header::kFlush;
  message.number = flush.number;
  send(home, message, flush.body);
  flush.body.clear();
}

// Latches held: compares the pages with their twins, after write access is gone. Changes of pages at home here go to `own`, others to their homes' messages.
void EagerUpdate::take_changes(std::span<const PageId> dirty, std::vector<Change>& own, std::deque<Bytes>& diffs, Flushes& flushes) {
  env_.set_access(dirty, Access::read);
  for (const PageId page : dirty) {
    PageEntry& entry = env_.entry(page);
    const bool changed = find_changes(page, masks_);
    env_.drop_twin(page);
    entry.clear_flag(PageEntry::kDirty);
    if (right_after_diff() == Access::write) env_.set_access(page, Access::write);
    // Freed meanwhile: nobody waits for the changes, and the memory may soon be somebody else's.
    if (!changed || !env_.parts().regions.find(page)) continue;
    if (entry.home() == env_.node()) {
      Bytes& diff = diffs.emplace_back();
      env_.count(page, Stat::diff_bytes, encode_masked(masks_, env_.frame(page), diff));
      own.push_back({page, pages_of(page), false, 0, diff});
      continue;
    }
    Flushes::Message& flush = flushes.to[entry.home()];
    if (flush.body.empty()) flush.number = ++last_flush_;
    const std::size_t before = flush.body.size();
    const std::size_t bytes = append_change({page, pages_of(page), false, 0, {}}, flush.body,
                                            [&](Bytes& out) { return encode_masked(masks_, env_.frame(page), out); });
    env_.count(page, Stat::diff_bytes, bytes);
    env_.count_carried(page, flush.body.size() - before);
    Record& record = record_of(entry);
    record.flush = flush.number;
    record.on_their_way = masks_;
    if (flush.body.size() >= Flushes::kLongEnough) send_flush(entry.home(), flushes);
  }
}

// ---- messages ----------------------------------------------------------------------------------------------------------------------

void EagerUpdate::send(NodeId to, const Header& header, std::span<const std::byte> body) {
  env_.send(to, std::as_bytes(std::span(&header, 1)), body);
}

bool decode_eager_changes(std::span<const std::byte> wire, PageRange shared, std::vector<EagerChange>& out) {
  WireReader reader(wire);
  for (std::uint64_t next = shared.first.value; !reader.at_end();) {
    EagerChange change;
    change.page = PageId{reader.varint()};
    change.pages = reader.varint();
    change.may_leave = reader.varint() != 0;
    change.flushes = reader.varint();
    std::uint32_t length = 0;
    (void)reader.raw(&length);
    change.diff = reader.bytes(length);
    // They ascend, and are units of a size that there is.
    const bool ascends = change.page.value >= next && shared.contains(change.page);
    if (!reader.ok() || !ascends || change.pages == 0 ||
        change.pages > std::min(shared.end() - change.page.value, kMaxGranularity / kPageSize))
      return false;
    next = change.page.value + change.pages;
    out.push_back(change);
  }
  return true;
}

std::vector<EagerChange> EagerUpdate::decode(NodeId from, std::span<const std::byte> body) const {
  std::vector<EagerChange> changes;
  NETVM_CHECK(decode_eager_changes(body, env_.parts().table.range(), changes), "%s: node %u sent malformed changes", traits().name.data(),
              from.value);
  return changes;
}

void EagerUpdate::on_message(NodeId from, std::span<const std::byte> body) {
  Header message;
  NETVM_CHECK(body.size() >= sizeof message, "%s: node %u sent a message of %zu bytes", traits().name.data(), from.value, body.size());
  std::memcpy(&message, body.data(), sizeof message);
  body = body.subspan(sizeof message);
  const bool about_page =
      message.kind == Header::kJoin || message.kind == Header::kGrant || message.kind == Header::kWatch || message.kind == Header::kUsed;
  NETVM_CHECK(!about_page || env_.is_shared(PageId{message.page}), "%s: node %u speaks of page %llu, which is not shared",
              traits().name.data(), from.value, static_cast<unsigned long long>(message.page));
  switch (message.kind) {
    case Header::kJoin:
      return handle_join(from, message);
    case Header::kGrant:
      return handle_grant(message);
    case Header::kFlush:
      return handle_flush(from, message, body);
    case Header::kOver:
      NETVM_CHECK(awaited_.fetch_sub(1) > 0, "%s: node %u acknowledges changes that this node did not send", traits().name.data(),
                  from.value);
      return over_.announce(env_.env());
    case Header::kUpdate:
      return handle_update(from, message, body);
    case Header::kAck:
      return handle_ack(from, message, body);
    case Header::kWatch:
      return handle_watch(from, message);
    case Header::kUsed:
      return handle_used(from, message);
    default:
      NETVM_CHECK(false, "%s: node %u sent message kind %u", traits().name.data(), from.value, unsigned{message.kind});
  }
}

// ---- a member ------------------------------------------------------------------------------------------------------------------------

// The bytes are in the frame already: they were written before the message, on the same channel.
void EagerUpdate::handle_grant(const Header& message) {
  const PageId page{message.page};
  PageEntry& entry = env_.entry(page);
  {
    const std::scoped_lock latch(entry.latch);
    Record& record = record_of(entry);
    const bool upgrade = (message.flags & Header::kUpgrade) != 0;
    if (!upgrade) {
      record.held = true;
      record.watched = false;
      env_.count(page, Stat::pages_fetched);
    }
    record.writer = record.held && (message.flags & Header::kWriter) != 0;
    record.granted = true;
  }
  word_of(page).announce(env_.env());
}

void EagerUpdate::handle_update(NodeId from, const Header& message, std::span<const std::byte> body) {
  Bytes left;
  std::vector<Change> late;
  for (const Change& change : decode(from, body)) {
    PageEntry& entry = env_.entry(change.page);
    const FramePins pins = env_.try_pin({change.page, change.pages}, true);
    const std::scoped_lock latch(entry.latch);
    Record* record = find_record(entry);
    if (record == nullptr) continue;
    if (std::exchange(record->dropped, false)) {
      put_varint(left, change.page.value);
      continue;
    }
    if (!record->held) continue;
    if (leaves(change, pins.holds())) {
      put_varint(left, change.page.value);
    } else if (pins.holds()) {
      patch(change, entry, *record, from);
    } else {
      late.push_back(change);
    }
  }
  Header answer = message;
  answer.kind = Header::kAck;
  if (late.empty()) return send(from, answer, left);
  // Pages with a twin that were evicted: bringing them in would block this handler. The release waits for them.
  auto kept = std::make_shared<Bytes>();
  for (const Change& change : late) append_change({change.page, change.pages, false, change.flushes, change.diff}, *kept);
  (void)env_.spawn([this, from, answer, left, kept] {
    for (const Change& change : decode(from, *kept)) {
      PageEntry& entry = env_.entry(change.page);
      const FramePins pins = env_.pin({change.page, change.pages}, true);
      const std::scoped_lock latch(entry.latch);
      Record* record = find_record(entry);
      if (record != nullptr && record->held) patch(change, entry, *record, from);
    }
    send(from, answer, left);
  });
}

// Whether this node's copy goes instead of being patched: nobody uses it, or it is not even in memory. Latch held.
bool EagerUpdate::leaves(const Change& change, bool resident) {
  PageEntry& entry = env_.entry(change.page);
  Record& record = *find_record(entry);
  if (entry.twin != nullptr || !record.on_their_way.empty() || (resident && !(change.may_leave && record.watched))) return false;
  record.held = record.writer = record.watched = false;
  env_.set_access(change.page, Access::none);
  env_.count(change.page, Stat::invalidations);
  return true;
}

void EagerUpdate::patch(const Change& change, PageEntry& entry, Record& record, NodeId from) {
  if (change.flushes >= record.flush) record.on_their_way.clear();
  std::byte* frame = env_.frame(change.page);
  std::byte* twin = patches_twin() ? entry.twin : nullptr;
  // Invariant 3: this node's own bytes stay.
  const std::size_t bytes = change.pages * kPageSize;
  NETVM_CHECK(record.on_their_way.empty() || record.on_their_way.size() * kLineBytes == bytes,
              "%s: node %u takes page %llu for one of %llu", traits().name.data(), from.value, number(change.page),
              static_cast<unsigned long long>(change.pages));
  const std::size_t taken = apply_masked(change.diff, frame, twin, bytes, record.on_their_way);
  NETVM_CHECK(taken == change.diff.size(), "%s: node %u sent a malformed diff of page %llu", traits().name.data(), from.value,
              number(change.page));
}

// The home has what a copy holds that is not being written.
Departure EagerUpdate::on_evict(PageId page) {
  PageEntry& entry = env_.entry(page);
  if (!entry.home_known() || entry.home() == env_.node() || !entry.latch.try_lock()) return Departure::save;
  Record* record = find_record(entry);
  const bool clean = record != nullptr && entry.twin == nullptr && record->on_their_way.empty();
  if (clean) {
    env_.set_access(page, Access::none);
    record->dropped |= record->held;
    record->held = record->writer = record->watched = false;
  }
  entry.latch.unlock();
  return clean ? Departure::drop : Departure::save;
}

// Takes the right away, to see whether the copy is used. A page that this node writes is.
void EagerUpdate::handle_watch(NodeId from, const Header& message) {
  const PageId page{message.page};
  PageEntry& entry = env_.entry(page);
  const std::scoped_lock latch(entry.latch);
  Record* record = find_record(entry);
  if (record == nullptr || !record->held) return;
  if (entry.twin == nullptr) {
    record->watched = true;
    env_.set_access(page, Access::none);
    return;
  }
  Header answer = message;
  answer.kind = Header::kUsed;
  send(from, answer);
}

}  // namespace netvm::dsm
