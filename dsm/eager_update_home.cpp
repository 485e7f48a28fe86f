// EagerUpdate: what a page's home does: it takes nodes in, patches its own copy, and passes changes on.
#include <algorithm>
#include <cstring>
#include <mutex>

#include "dsm/eager_update_wire.hpp"
#include "runtime/check.hpp"
#include "runtime/wire_codec.hpp"

namespace netvm::dsm {

namespace {
// After how many updates a member is asked whether it uses its copy: at first, and at most.
constexpr std::uint32_t kFirstLimit = 4;
constexpr std::uint32_t kLastLimit = 1U << 20;

}  // namespace

void EagerUpdate::Push::ended(nic::Completion& self, void* context) {
  const std::unique_ptr<Push> me(static_cast<Push*>(context));
  if (self.status() == Status::cancelled || self.status() == Status::peer_dead) return;  // the job ends (Traits::outlives_nodes)
  NETVM_CHECK(ok(self.status()), "writing changes into the copies at node %u failed: %s", me->to.value, to_string(self.status()).data());
  if (me->protocol.waits_for_members()) me->protocol.delivered(me->delivery);
}

void EagerUpdate::Fill::ended(nic::Completion& self, void* context) {
  const std::unique_ptr<Fill> me(static_cast<Fill*>(context));
  if (self.status() == Status::cancelled || self.status() == Status::peer_dead) return;  // the job ends (Traits::outlives_nodes)
  NETVM_CHECK(ok(self.status()), "writing a copy of page %llu to node %u failed: %s", number(me->page), me->to.value,
              to_string(self.status()).data());
  me->filled->store(true);
}

// ---- members come and go -----------------------------------------------------------------------------------------------------------

void EagerUpdate::handle_join(NodeId from, const Header& message) {
  const PageId page{message.page};
  const PageRange all = env_.table().range();
  NETVM_CHECK(message.pages > 0 && message.pages <= std::min(all.end() - page.value, kMaxGranularity / kPageSize),
              "%s: node %u sent a malformed join", traits().name.data(), from.value);
  env_.learn_home(page, env_.node());
  if (const FramePins pins = env_.try_pin({page, message.pages}, false); pins.holds()) return join(from, message);
  // It was evicted: bringing it in would block this handler.
  (void)env_.spawn([this, from, message] {
    const FramePins pins = env_.pin({PageId{message.page}, message.pages}, false);
    join(from, message);
  });
}

void EagerUpdate::join(NodeId from, const Header& message) {
  const PageId page{message.page};
  const bool writer = (message.flags & Header::kWriter) != 0;
  PageEntry& entry = env_.entry(page);
  const std::scoped_lock latch(entry.latch);
  Record& record = record_of(entry);
  Header answer;
  answer.kind = Header::kGrant;
  answer.flags = writer ? Header::kWriter : std::uint8_t{0};
  answer.page = page.value;
  const auto is_sender = [from](const Member& m) { return m.node == from; };
  if ((message.flags & Header::kAgain) != 0) std::erase_if(record.members, is_sender);
  const auto known = std::find_if(record.members.begin(), record.members.end(), is_sender);
  if (known != record.members.end()) {
    known->writer |= writer;
    answer.flags |= Header::kUpgrade;
    return send(from, answer);
  }
  if (entry.access() == Access::write && entry.twin == nullptr && ends_exclusive()) {
    env_.set_access(page, Access::read);
    mark_dirty(page, entry);
  }
  const auto filled = std::make_shared<std::atomic<bool>>(false);
  record.members.push_back({from, writer, false, 0, kFirstLimit, 0, filled});
  fill(from, page, message.pages, entry.twin != nullptr ? entry.twin : env_.frame(page), filled);
  send(from, answer);
}

// What is not released yet is not part of the copy: the twin serves.
void EagerUpdate::fill(NodeId to, PageId page, std::uint32_t pages, const std::byte* bytes,
                       const std::shared_ptr<std::atomic<bool>>& filled) {
  auto* operation = new Fill(to, page, filled);
  const nic::Segment whole{env_.offset_of(page), bytes, static_cast<std::uint32_t>(pages * kPageSize)};
  env_.post_segments(to, {&whole, 1}, whole.bytes, &operation->completion);
  env_.count(page, Stat::data_bytes, whole.bytes);
}

void EagerUpdate::handle_used(NodeId from, const Header& message) {
  PageEntry& entry = env_.entry(PageId{message.page});
  const std::scoped_lock latch(entry.latch);
  Record* record = find_record(entry);
  if (record == nullptr) return;
  for (Member& member : record->members) {
    if (member.node != from) continue;
    member.watches = false;
    member.updates = 0;
    member.limit = std::min(member.limit * 2, kLastLimit);
  }
}

void EagerUpdate::handle_ack(NodeId from, const Header& message, std::span<const std::byte> body) {
  WireReader reader(body);
  while (!reader.at_end()) {
    const PageId page{reader.varint()};
    NETVM_CHECK(reader.ok() && env_.is_shared(page), "%s: node %u sent a malformed acknowledgement", traits().name.data(), from.value);
    PageEntry& entry = env_.entry(page);
    const std::scoped_lock latch(entry.latch);
    if (Record* record = find_record(entry)) std::erase_if(record->members, [from](const Member& m) { return m.node == from; });
  }
  if (!waits_for_members()) return;
  std::shared_ptr<Delivery> delivery;
  {
    const std::scoped_lock guard(delivery_lock_);
    const auto found = deliveries_.find(message.number);
    NETVM_CHECK(found != deliveries_.end(), "%s: node %u acknowledges changes that it was not sent", traits().name.data(), from.value);
    delivery = found->second;
  }
  delivered(delivery);
}

// ---- changes ---------------------------------------------------------------------------------------------------------------------------

void EagerUpdate::handle_flush(NodeId from, const Header& message, std::span<const std::byte> body) {
  const std::vector<Change> changes = decode(from, body);
  const auto delivery = std::make_shared<Delivery>();
  delivery->from = from;
  delivery->flush = message.number;
  std::vector<FramePins> pins;
  for (const Change& change : changes) {
    pins.push_back(env_.try_pin({change.page, change.pages}, true));
    if (pins.back().holds()) continue;
    // One was evicted: bringing it in would block this handler. Pages one by one, so that the pins are few.
    auto kept = std::make_shared<Bytes>(body.begin(), body.end());
    (void)env_.spawn([this, from, kept, delivery] {
      for (const Change& one : decode(from, *kept)) {
        const FramePins pin = env_.pin({one.page, one.pages}, true);
        at_home(from, {&one, 1}, delivery);
      }
      delivered(delivery);
    });
    return;
  }
  at_home(from, changes, delivery);
  delivered(delivery);
}

// Frames pinned. The latches are held until the updates are on their way: who joins afterwards finds the changes in the copy, who joined before gets them in order.
void EagerUpdate::at_home(NodeId from, std::span<const Change> changes, const std::shared_ptr<Delivery>& delivery) {
  Outbox outbox;
  const PageTable::Latched latches(env_.table(), changes, &Change::page);
  for (const Change& change : changes) {
    PageEntry& entry = env_.entry(change.page);
    Record* record = find_record(entry);
    if (record == nullptr) continue;  // freed meanwhile: who writes a page is a member
    if (from != env_.node()) patch(change, entry, *record, from);
    route(*delivery, change, *record, outbox);
  }
  post(outbox, delivery);
}

void EagerUpdate::route(const Delivery& delivery, const Change& change, Record& record, Outbox& outbox) {
  for (Member& member : record.members) {
    if (member.node == delivery.from) {
      member.updates = 0;
      member.taken = delivery.flush;
      continue;
    }
    ++member.updates;
    if (member.updates == member.limit) {
      member.watches = true;
      outbox.watches.emplace_back(member.node, change.page);
    }
    const bool may_leave = member.watches && member.updates >= 2 * member.limit;
    if (pushes_to_readers() && !member.writer && !may_leave && member.filled->load()) {
      std::vector<nic::Segment>& pieces = outbox.pieces[member.node];
      env_.count(change.page, Stat::data_bytes, append_masked_segments(change.diff, change.pages, env_.offset_of(change.page), pieces));
    } else {
      append_change({change.page, change.pages, may_leave, member.taken, change.diff}, outbox.changes[member.node]);
      env_.count_carried(change.page, change.diff.size());
    }
  }
}

void EagerUpdate::post(Outbox& outbox, const std::shared_ptr<Delivery>& delivery) {
  if (waits_for_members()) delivery->awaited.fetch_add(outbox.changes.size() + outbox.pieces.size());
  if (!outbox.changes.empty()) {
    const std::scoped_lock guard(delivery_lock_);
    if (delivery->number == 0) delivery->number = ++last_delivery_;
    deliveries_.emplace(delivery->number, delivery);
  }
  for (const auto& [node, body] : outbox.changes) {
    Header message;
    message.kind = Header::kUpdate;
    message.number = delivery->number;
    send(node, message, body);
  }
  for (const auto& [node, pieces] : outbox.pieces) {
    auto* push = new Push(*this, node, delivery);
    std::uint64_t bytes = 0;
    for (const nic::Segment& piece : pieces) bytes += piece.bytes;
    env_.post_segments(node, pieces, bytes, &push->completion);
  }
  for (const auto& [node, page] : outbox.watches) {
    Header message;
    message.kind = Header::kWatch;
    message.page = page.value;
    send(node, message);
  }
}

// One push or acknowledgement less to wait for, or all are known.
void EagerUpdate::delivered(const std::shared_ptr<Delivery>& delivery) {
  if (delivery->awaited.fetch_sub(1) != 1) return;
  if (delivery->number != 0) {
    const std::scoped_lock guard(delivery_lock_);
    deliveries_.erase(delivery->number);
  }
  if (delivery->from == env_.node()) {
    awaited_.fetch_sub(1);
    return over_.announce(env_.env());
  }
  Header message;
  message.kind = Header::kOver;
  send(delivery->from, message);
}

}  // namespace netvm::dsm
