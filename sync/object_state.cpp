// Wire: nothing at all of a fresh object; else ObjectHeader, then an entry for each waiter, followed by its request, and for each answer, user and waiter that is
// being woken.
#include "sync/object_state.hpp"

#include <algorithm>

#include "runtime/wire_codec.hpp"

namespace netvm::sync {

namespace {

struct ObjectHeader {
  std::uint8_t kind = 0;
  std::uint8_t broken = 0;
  std::uint16_t answers = 0;
  std::uint32_t waiters = 0;
  std::uint64_t count = 0;
  std::uint64_t limit = 0;
  std::uint64_t phase = 0;
  std::uint32_t users = 0;
  std::uint16_t waking = 0;
  std::uint8_t reserved[2] = {};
};
static_assert(sizeof(ObjectHeader) == 40);

// Of all lists. What a list has no use for is 0.
struct EntryHeader {
  std::uint64_t id = 0;     // waiter, waking: its number; answer: the ride's
  std::uint64_t value = 0;  // answer
  std::uint32_t node = 0;
  std::uint32_t amount = 0;  // waiter: bytes of its request; user: shares; waking: the waker
  std::uint8_t what = 0;     // waiter, waking: the role; answer: refused
  std::uint8_t reserved[7] = {};
};
static_assert(sizeof(EntryHeader) == 32);

bool is_role(std::uint8_t role) { return role <= static_cast<std::uint8_t>(QueuedWaiter::Role::writer); }

template <class Header>
bool take(WireReader& reader, Header* header) {
  return reader.raw(header) && std::ranges::all_of(header->reserved, [](std::uint8_t byte) { return byte == 0; });
}

}  // namespace

const char* to_string(ObjectKind kind) {
  switch (kind) {
    case ObjectKind::none:
      return "object without a kind";
    case ObjectKind::semaphore:
      return "semaphore";
    case ObjectKind::rwlock:
      return "reader-writer lock";
    case ObjectKind::wait_queue:
      return "wait queue or condition variable";
    case ObjectKind::barrier:
      return "barrier";
    case ObjectKind::latch:
      return "latch";
    case ObjectKind::flag:
      return "flag";
    case ObjectKind::once:
      return "once flag";
  }
  return "unknown";
}

bool ObjectState::remove(NodeId node, std::uint64_t id) {
  bool found = false;
  queue.remove_if([&](const QueuedWaiter& waiter) {
    const bool is_it = waiter.node == node && waiter.id == id;
    found = found || is_it;
    return is_it;
  });
  return found;
}

ObjectUser& ObjectState::user(NodeId node) {
  std::vector<ObjectUser>& users = more().users;
  const auto at = std::ranges::find_if(users, [node](const ObjectUser& user) { return user.node == node; });
  return at != users.end() ? *at : users.emplace_back(ObjectUser{node, 0});
}

std::optional<RideAnswer> ObjectState::take_answer(NodeId node, std::uint64_t number) {
  if (lists == nullptr) return std::nullopt;
  std::vector<RideAnswer>& answers = lists->answers;
  const auto at = std::ranges::find_if(answers, [&](const RideAnswer& answer) { return answer.node == node && answer.number == number; });
  if (at == answers.end()) return std::nullopt;
  const RideAnswer answer = *at;
  answers.erase(at);
  return answer;
}

void ObjectState::begin_anew() {
  ObjectState fresh;
  fresh.deaths = deaths;
  if (has_answers() || has_waking()) {
    fresh.lists = std::move(lists);
    fresh.lists->users.clear();
  }
  *this = std::move(fresh);
}

void encode_object(const ObjectState& state, Bytes& out) {
  if (state.kind == ObjectKind::none && !state.has_answers() && !state.has_waking()) return;
  static const ObjectLists kNone;
  const ObjectLists& lists = state.lists != nullptr ? *state.lists : kNone;
  ObjectHeader header;
  header.kind = static_cast<std::uint8_t>(state.kind);
  header.broken = state.broken ? 1 : 0;
  header.waking = static_cast<std::uint16_t>(lists.waking.size());
  header.users = static_cast<std::uint32_t>(lists.users.size());
  header.answers = static_cast<std::uint16_t>(lists.answers.size());
  header.waiters = static_cast<std::uint32_t>(state.queue.size());
  header.count = state.count;
  header.limit = state.limit;
  header.phase = state.phase;
  put_raw(out, header);
  for (const QueuedWaiter& waiter : state.queue) {
    const auto bytes = static_cast<std::uint32_t>(waiter.request.size());
    put_raw(out, EntryHeader{waiter.id, 0, waiter.node.value, bytes, static_cast<std::uint8_t>(waiter.role)});
    out.insert(out.end(), waiter.request.begin(), waiter.request.end());
  }
  for (const RideAnswer& answer : lists.answers)
    put_raw(out, EntryHeader{answer.number, answer.value, answer.node.value, 0, static_cast<std::uint8_t>(answer.refused ? 1 : 0)});
  for (const ObjectUser& user : lists.users) put_raw(out, EntryHeader{0, 0, user.node.value, user.shares, 0});
  for (const Waking& one : lists.waking)
    put_raw(out, EntryHeader{one.id, 0, one.node.value, one.waker.value, static_cast<std::uint8_t>(one.role)});
}

std::optional<ObjectState> decode_object(std::span<const std::byte> bytes, std::uint32_t nodes) {
  ObjectState state;
  if (bytes.empty()) return state;
  WireReader reader(bytes);
  ObjectHeader header;
  if (!take(reader, &header)) return std::nullopt;
  if (header.kind > static_cast<std::uint8_t>(ObjectKind::once) || (header.kind == 0 && header.answers == 0 && header.waking == 0))
    return std::nullopt;
  if (header.broken > 1 || header.users > nodes) return std::nullopt;
  state.broken = header.broken != 0;
  state.kind = static_cast<ObjectKind>(header.kind);
  state.count = header.count;
  state.limit = header.limit;
  state.phase = header.phase;
  EntryHeader entry;
  const auto take_entry = [&] { return take(reader, &entry) && entry.node < nodes; };
  for (std::uint32_t i = 0; i < header.waiters; ++i) {
    if (!take_entry() || entry.value != 0 || !is_role(entry.what)) return std::nullopt;
    const auto request = reader.bytes(entry.amount);
    if (!reader.ok()) return std::nullopt;
    state.queue.push_back(
        {entry.id, NodeId{entry.node}, static_cast<QueuedWaiter::Role>(entry.what), Bytes(request.begin(), request.end())});
  }
  for (std::uint32_t i = 0; i < header.answers; ++i) {
    if (!take_entry() || entry.amount != 0 || entry.what > 1) return std::nullopt;
    state.more().answers.push_back({NodeId{entry.node}, entry.what != 0, entry.id, entry.value});
  }
  for (std::uint32_t i = 0; i < header.users; ++i) {
    if (!take_entry() || entry.id != 0 || entry.value != 0 || entry.what != 0) return std::nullopt;
    state.more().users.push_back({NodeId{entry.node}, entry.amount});
  }
  for (std::uint32_t i = 0; i < header.waking; ++i) {
    if (!take_entry() || entry.amount >= nodes || entry.value != 0 || !is_role(entry.what)) return std::nullopt;
    state.more().waking.push_back({entry.id, NodeId{entry.node}, NodeId{entry.amount}, static_cast<QueuedWaiter::Role>(entry.what)});
  }
  if (!reader.at_end()) return std::nullopt;
  return state;
}

}  // namespace netvm::sync
