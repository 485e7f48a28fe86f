// lrc: how changes and copies get from node to node: the question, the answer, and putting the answers together.
#include <algorithm>
#include <cstring>
#include <mutex>
#include <tuple>
#include <utility>

#include "dsm/protocols/lrc_messages.hpp"
#include "runtime/check.hpp"
#include "runtime/wire_codec.hpp"

namespace netvm::dsm {

// ---- the node that asks ----------------------------------------------------------------------------------------------------------

void Lrc::begin(Fetch& fetch, std::span<const Ask> asks, Outbox& outbox) {
  fetch.awaited = asks.size();
  {
    const std::scoped_lock guard(fetch_lock_);
    fetch.id = ++last_fetch_;
    fetches_.emplace(fetch.id, &fetch);
  }
  for (const Ask& ask : asks) {
    const Message message{Message::ask, ask.copy ? Message::kWithCopy : std::uint8_t{0}, {}, 0, fetch.page.value, fetch.id, ask.after,
                          ask.up_to};
    append_message(message, {}, outbox[ask.node]);
  }
}

// One message for each node asked.
void Lrc::leave(const Outbox& outbox) {
  for (const auto& [node, questions] : outbox) env_.send(node, questions);
}

void Lrc::await(Fetch& fetch) {
  env_.wait_until(
      words_[fetch.id % words_.size()],
      [&] {
        const std::scoped_lock guard(fetch_lock_);
        return fetch.awaited == 0;
      },
      "changes of a page");
  const std::scoped_lock guard(fetch_lock_);
  fetches_.erase(fetch.id);
}

void Lrc::take_reply(NodeId from, const Message& message, std::span<const std::byte> body) {
  {
    const std::scoped_lock guard(fetch_lock_);
    const auto found = fetches_.find(message.fetch);
    NETVM_CHECK(found != fetches_.end() && found->second->page.value == message.page && found->second->awaited > 0,
                "lrc: node %u answers a question about page %llu that this node did not ask", from.value,
                static_cast<unsigned long long>(message.page));
    Fetch& fetch = *found->second;
    fetch.replies.push_back(
        {from, (message.flags & Message::kWithCopy) != 0, message.after, message.up_to, Bytes(body.begin(), body.end())});
    --fetch.awaited;
  }
  words_[message.fetch % words_.size()].announce(env_.env());
}

void Lrc::install(PageId page, PageEntry& entry, Record& record, std::span<const Reply> replies) {
  std::vector<ChangeView> changes;
  bool copied = false;
  for (const Reply& reply : replies) {
    std::span<const std::byte> body = reply.body;
    if (reply.copy) {
      install_copy(page, record, reply.from, body);
      copied = true;
    } else if (record.copy != Copy::held) {
      // It has none to give: nobody wrote the page in this life of its memory, or the others that did are asked next.
      NETVM_CHECK(record.copy == Copy::unseen, "lrc: page %llu was dropped, and node %u does not have it", number(page), reply.from.value);
      for (Writer& writer : record.writers) writer.ordinal = writer.settled = 0;
      record.copy = Copy::held;
    }
    NETVM_CHECK(decode_changes(body, reply.from, changes) && body.empty(), "lrc: node %u sent malformed changes of page %llu",
                reply.from.value, number(page));
    Writer& writer = writer_of(record, reply.from);
    writer.ordinal = std::max(writer.ordinal, reply.newest);
    writer.settled = std::max(writer.settled, settles(reply.up_to, writer.noticed));
  }
  // A copy may lack what others wrote before this node's own changes: those wait until it is complete.
  if (!copied) apply(page, entry, record, changes);
}

// The front of the body: whose changes the copy has, then its bytes.
void Lrc::install_copy(PageId page, Record& record, NodeId from, std::span<const std::byte>& body) {
  for (Writer& writer : record.writers) writer.ordinal = writer.settled = 0;
  record.own_settled = 0;
  WireReader reader(body);
  const std::uint64_t count = reader.varint();
  for (std::uint64_t i = 0; i < count && reader.ok(); ++i) {
    const std::uint64_t node = reader.varint();
    const std::uint64_t ordinal = reader.varint();
    const std::uint64_t settled = reader.varint();
    NETVM_CHECK(reader.ok() && node < env_.nodes(), "lrc: node %u sent a malformed copy of page %llu", from.value, number(page));
    const NodeId writer{static_cast<std::uint32_t>(node)};
    if (writer == env_.node()) {
      record.own_settled = ordinal;
      continue;
    }
    writer_of(record, writer).ordinal = ordinal;
    writer_of(record, writer).settled = settled;
  }
  const std::span<const std::byte> bytes = reader.bytes(env_.unit_bytes(page));
  NETVM_CHECK(reader.ok(), "lrc: node %u sent a malformed copy of page %llu", from.value, number(page));
  std::memcpy(env_.frame(page), bytes.data(), bytes.size());
  env_.count(page, Stat::pages_fetched);
  record.copy = Copy::held;
  record.own_behind = record.own_settled < record.changes.newest();
  body = reader.rest();
}

// This node's own changes since the page was complete last are among them: where a program races, all nodes end with the same bytes.
void Lrc::apply(PageId page, PageEntry& entry, Record& record, std::vector<ChangeView>& changes) {
  NETVM_CHECK(entry.twin == nullptr, "lrc: page %llu is written while changes of others are missing", number(page));
  Bytes own;
  record.changes.encode_all(record.own_settled, own);
  std::span<const std::byte> rest = own;
  NETVM_CHECK(decode_changes(rest, env_.node(), changes), "lrc: changes of page %llu cannot be read back", number(page));
  std::sort(changes.begin(), changes.end(), [](const ChangeView& a, const ChangeView& b) {
    return std::tuple(a.order, a.node, a.ordinal) < std::tuple(b.order, b.node, b.ordinal);
  });
  if (!in_order()) std::reverse(changes.begin(), changes.end());
  for (const ChangeView& change : changes) {
    NETVM_CHECK(env_.apply_diff(page, change.diff) == change.diff.size(), "lrc: node %u sent a malformed diff of page %llu",
                change.node.value, number(page));
  }
  record.own_settled = record.changes.newest();
  record.own_behind = false;
}

// ---- the node that is asked ----------------------------------------------------------------------------------------------------------

void Lrc::on_message(NodeId from, std::span<const std::byte> body) {
  constexpr std::size_t kMostTogether =
      32 * 1024;  // of answers: long enough to be worth a message, and the first can be used while the next are made
  Bytes answers;
  while (!body.empty()) {
    Message message;
    NETVM_CHECK(body.size() >= sizeof message, "lrc: node %u sent a message of %zu bytes", from.value, body.size());
    std::memcpy(&message, body.data(), sizeof message);
    body = body.subspan(sizeof message);
    const std::size_t padded = (std::size_t{message.bytes} + 7) / 8 * 8;
    NETVM_CHECK(padded <= body.size(), "lrc: node %u sent a message of %u bytes, and %zu are there", from.value, message.bytes,
                body.size());
    NETVM_CHECK(env_.is_shared(PageId{message.page}), "lrc: node %u speaks of page %llu, which is not shared", from.value,
                static_cast<unsigned long long>(message.page));
    if (message.kind == Message::reply) {
      take_reply(from, message, body.first(message.bytes));
    } else {
      NETVM_CHECK(message.kind == Message::ask && message.bytes == 0, "lrc: node %u sent message kind %u", from.value,
                  unsigned{message.kind});
      answer(from, message, answers);
      if (answers.size() >= kMostTogether) env_.send(from, std::exchange(answers, {}));
    }
    body = body.subspan(padded);
  }
  if (!answers.empty()) env_.send(from, answers);
}

void Lrc::answer(NodeId from, const Message& request, Bytes& out) {
  if (serve(request, false, out)) return;
  const PageRange page{PageId{request.page}, 1};
  if (const FramePins pins = env_.try_pin(page, false); pins.holds()) {
    (void)serve(request, true, out);
    return;
  }
  // It was evicted: bringing it in would block this handler.
  (void)env_.spawn([this, from, request, page] {
    const FramePins pins = env_.pin(page, false);
    Bytes late;
    (void)serve(request, true, late);
    env_.send(from, late);
  });
}

// Appends the answer. False, and nothing has happened, if the frame is needed and not pinned.
bool Lrc::serve(const Message& request, bool pinned, Bytes& out) {
  const PageId page{request.page};
  PageEntry& entry = env_.entry(page);
  Bytes body;
  Message reply = request;
  reply.kind = Message::reply;
  reply.flags = 0;
  {
    const std::scoped_lock latch(entry.latch);
    Record* record = find_record(page);
    // Who never had the page is asked because of a notice from before its memory was freed.
    const bool copy = (request.flags & Message::kWithCopy) != 0 && record != nullptr && record->copy != Copy::unseen && env_.owns(entry);
    const bool asked_for =
        record != nullptr && entry.twin != nullptr && record->pending.first != 0 && record->pending.first <= request.up_to;
    if ((copy || asked_for) && !pinned) return false;
    if (asked_for) make_change(page, entry, *record);
    if (copy) {
      reply.flags = Message::kWithCopy;
      reply.after = record->changes.newest();
      append_copy(page, entry, *record, request.up_to, body);
      env_.count_carried(page, env_.unit_bytes(page));
      put_varint(body, 0);
    } else if (record != nullptr) {
      reply.after = record->changes.encode_told(request.after, request.up_to, body);
      env_.count_carried(page, body.size());
    } else {
      put_varint(body, 0);
    }
  }
  append_message(reply, body, out);
  return true;
}

// Whose changes it has, then its bytes.
void Lrc::append_copy(PageId page, const PageEntry& entry, const Record& record, std::uint64_t up_to, Bytes& body) {
  put_varint(body, record.writers.size() + 1);
  put_varint(body, env_.node().value);
  put_varint(body, record.changes.newest());
  put_varint(body, up_to);
  for (const Writer& writer : record.writers) {
    put_varint(body, writer.node.value);
    put_varint(body, writer.ordinal);
    put_varint(body, writer.settled);
  }
  // The running interval's writes are not part of the copy.
  const std::byte* bytes = entry.twin != nullptr ? entry.twin : env_.frame(page);
  body.insert(body.end(), bytes, bytes + env_.unit_bytes(page));
}

}  // namespace netvm::dsm
