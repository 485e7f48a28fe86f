// Wire: nothing at all of a fresh object; else ObjectHeader, then for each waiter a WaiterHeader and its request.
#include "sync/object_state.hpp"

#include <algorithm>

#include "runtime/wire_codec.hpp"

namespace netvm::sync {

namespace {

struct ObjectHeader {
  std::uint8_t kind = 0;
  std::uint8_t reserved[3] = {};
  std::uint32_t waiters = 0;
  std::uint64_t count = 0;
  std::uint64_t limit = 0;
  std::uint64_t phase = 0;
};
static_assert(sizeof(ObjectHeader) == 32);

struct WaiterHeader {
  std::uint64_t id = 0;
  std::uint32_t node = 0;
  std::uint32_t request_bytes = 0;
  std::uint8_t role = 0;
  std::uint8_t reserved[7] = {};
};
static_assert(sizeof(WaiterHeader) == 24);

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

void encode_object(const ObjectState& state, Bytes& out) {
  if (state.kind == ObjectKind::none) return;
  ObjectHeader header;
  header.kind = static_cast<std::uint8_t>(state.kind);
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
}

std::optional<ObjectState> decode_object(std::span<const std::byte> bytes, std::uint32_t nodes) {
  ObjectState state;
  if (bytes.empty()) return state;
  WireReader reader(bytes);
  ObjectHeader header;
  if (!take(reader, &header)) return std::nullopt;
  if (header.kind == 0 || header.kind > static_cast<std::uint8_t>(ObjectKind::once)) return std::nullopt;
  state.kind = static_cast<ObjectKind>(header.kind);
  state.count = header.count;
  state.limit = header.limit;
  state.phase = header.phase;
  for (std::uint32_t i = 0; i < header.waiters; ++i) {
    WaiterHeader entry;
    if (!take(reader, &entry) || entry.node >= nodes || entry.role > static_cast<std::uint8_t>(QueuedWaiter::Role::writer))
      return std::nullopt;
    const auto request = reader.bytes(entry.request_bytes);
    if (!reader.ok()) return std::nullopt;
    state.queue.push_back(
        {entry.id, NodeId{entry.node}, static_cast<QueuedWaiter::Role>(entry.role), Bytes(request.begin(), request.end())});
  }
  if (!reader.at_end()) return std::nullopt;
  return state;
}

}  // namespace netvm::sync
