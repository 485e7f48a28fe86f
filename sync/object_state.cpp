// Wire: nothing at all of a fresh object; else ObjectHeader, then for each waiter a WaiterHeader and its request, then an AnswerHeader for each answer a UserHeader for each user and a WakingHeader for
// each that is being woken.
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

struct UserHeader {
  std::uint32_t node = 0;
  std::uint32_t shares = 0;
};
static_assert(sizeof(UserHeader) == 8);

struct WaiterHeader {
  std::uint64_t id = 0;
  std::uint32_t node = 0;
  std::uint32_t request_bytes = 0;
  std::uint8_t role = 0;
  std::uint8_t reserved[7] = {};
};
static_assert(sizeof(WaiterHeader) == 24);

struct AnswerHeader {
  std::uint64_t number = 0;
  std::uint64_t value = 0;
  std::uint32_t node = 0;
  std::uint8_t refused = 0;
  std::uint8_t reserved[3] = {};
};
static_assert(sizeof(AnswerHeader) == 24);

struct WakingHeader {
  std::uint64_t id = 0;
  std::uint32_t node = 0;
  std::uint32_t waker = 0;
  std::uint8_t role = 0;
  std::uint8_t reserved[7] = {};
};
static_assert(sizeof(WakingHeader) == 24);

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
  const auto at = std::ranges::find_if(queue, [&](const QueuedWaiter& waiter) { return waiter.node == node && waiter.id == id; });
  if (at == queue.end()) return false;
  queue.erase(at);
  return true;
}

ObjectUser& ObjectState::user(NodeId node) {
  const auto at = std::ranges::find_if(users, [node](const ObjectUser& user) { return user.node == node; });
  return at != users.end() ? *at : users.emplace_back(ObjectUser{node, 0});
}

std::optional<RideAnswer> ObjectState::take_answer(NodeId node, std::uint64_t number) {
  const auto at = std::ranges::find_if(answers, [&](const RideAnswer& answer) { return answer.node == node && answer.number == number; });
  if (at == answers.end()) return std::nullopt;
  const RideAnswer answer = *at;
  answers.erase(at);
  return answer;
}

void ObjectState::begin_anew() {
  std::vector<RideAnswer> kept_answers = std::move(answers);
  std::vector<Waking> kept_waking = std::move(waking);
  *this = {};
  answers = std::move(kept_answers);
  waking = std::move(kept_waking);
}

void encode_object(const ObjectState& state, Bytes& out) {
  if (state.kind == ObjectKind::none && state.answers.empty() && state.waking.empty()) return;
  ObjectHeader header;
  header.kind = static_cast<std::uint8_t>(state.kind);
  header.broken = state.broken ? 1 : 0;
  header.waking = static_cast<std::uint16_t>(state.waking.size());
  header.users = static_cast<std::uint32_t>(state.users.size());
  header.answers = static_cast<std::uint16_t>(state.answers.size());
  header.waiters = static_cast<std::uint32_t>(state.queue.size());
  header.count = state.count;
  header.limit = state.limit;
  header.phase = state.phase;
  put_raw(out, header);
  for (const QueuedWaiter& waiter : state.queue) {
    WaiterHeader entry;
    entry.id = waiter.id;
    entry.node = waiter.node.value;
    entry.request_bytes = static_cast<std::uint32_t>(waiter.request.size());
    entry.role = static_cast<std::uint8_t>(waiter.role);
    put_raw(out, entry);
    out.insert(out.end(), waiter.request.begin(), waiter.request.end());
  }
  for (const RideAnswer& answer : state.answers) {
    AnswerHeader entry;
    entry.number = answer.number;
    entry.value = answer.value;
    entry.node = answer.node.value;
    entry.refused = answer.refused ? 1 : 0;
    put_raw(out, entry);
  }
  for (const ObjectUser& user : state.users) put_raw(out, UserHeader{user.node.value, user.shares});
  for (const Waking& one : state.waking) {
    WakingHeader entry;
    entry.id = one.id;
    entry.node = one.node.value;
    entry.waker = one.waker.value;
    entry.role = static_cast<std::uint8_t>(one.role);
    put_raw(out, entry);
  }
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
  for (std::uint32_t i = 0; i < header.waiters; ++i) {
    WaiterHeader entry;
    if (!take(reader, &entry) || entry.node >= nodes || !is_role(entry.role)) return std::nullopt;
    const auto request = reader.bytes(entry.request_bytes);
    if (!reader.ok()) return std::nullopt;
    state.queue.push_back(
        {entry.id, NodeId{entry.node}, static_cast<QueuedWaiter::Role>(entry.role), Bytes(request.begin(), request.end())});
  }
  for (std::uint32_t i = 0; i < header.answers; ++i) {
    AnswerHeader entry;
    if (!take(reader, &entry) || entry.node >= nodes || entry.refused > 1) return std::nullopt;
    state.answers.push_back({NodeId{entry.node}, entry.refused != 0, entry.number, entry.value});
  }
  for (std::uint32_t i = 0; i < header.users; ++i) {
    UserHeader entry;
    if (!reader.raw(&entry) || entry.node >= nodes) return std::nullopt;
    state.users.push_back({NodeId{entry.node}, entry.shares});
  }
  for (std::uint32_t i = 0; i < header.waking; ++i) {
    WakingHeader entry;
    if (!take(reader, &entry) || entry.node >= nodes || entry.waker >= nodes || !is_role(entry.role)) return std::nullopt;
    state.waking.push_back({entry.id, NodeId{entry.node}, NodeId{entry.waker}, static_cast<QueuedWaiter::Role>(entry.role)});
  }
  if (!reader.at_end()) return std::nullopt;
  return state;
}

}  // namespace netvm::sync
