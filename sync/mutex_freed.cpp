// Mutexes: memory that is freed. Who frees it asks all nodes whether somebody holds, or waits for, what lies in there; if nobody does, all forget what they
// know of the objects in it, so that they are zeroed objects when the memory is handed out again. Two rounds of messages, and only where something may be
// known: see Mutexes::free_memory().
#include <algorithm>
#include <cstring>
#include <mutex>

#include "sync/mutex.hpp"

namespace netvm::sync {

using Guard = std::unique_lock<SpinLock>;

// Every state of this node in the memory, of mutexes and of other objects.
template <class Act>
void Mutexes::each_in(MemoryRange memory, Act&& act) const {
  constexpr std::uint64_t kSpacing = 8;
  if (memory.bytes / kSpacing <= table_.size()) {
    for (std::uint64_t at = memory.offset; at < memory.offset + memory.bytes; at += kSpacing) {
      if (LockState* const mutex = table_.find(at)) act(*mutex);
      if (LockState* const object = table_.find(SyncId::of_object(at).offset)) act(*object);
    }
    return;
  }
  for (LockState* const state : table_.all()) {
    const std::uint64_t at = state->offset & ~SyncId::kObjectBit;
    if (at >= memory.offset && at - memory.offset < memory.bytes) act(*state);
  }
}

std::optional<SyncId> Mutexes::busy_in(std::uint64_t offset, std::uint64_t bytes) const {
  std::optional<SyncId> busy;
  each_in({offset, bytes}, [&](LockState& state) {
    const SyncId id{state.offset};
    bool in_use = id.is_object() && cargo_->in_use(id);
    {
      const Guard guard(state.guard);
      in_use = in_use || state.held_by_thread() || state.has_waiters() || state.has_successor;
    }
    if (in_use && !busy) busy = id;
  });
  return busy;
}

// A token that lies here takes its object's state with it; one that is elsewhere is forgotten there.
void Mutexes::forget_in(MemoryRange memory) {
  each_in(memory, [&](LockState& state) {
    if (!SyncId{state.offset}.is_object()) return;
    const Guard guard(state.guard);
    cargo_->forget(SyncId{state.offset}, state.idle());
  });
}

Result<std::optional<MemoryUse>> Mutexes::free_memory(std::uint64_t offset, std::uint64_t bytes) {
  constexpr std::uint64_t kSmall = 2048;
  const MemoryRange memory{offset, bytes};
  if (const auto busy = busy_in(offset, bytes)) return std::optional(MemoryUse{*busy, nic_.node()});
  bool known = bytes > kSmall;
  if (!known) each_in(memory, [&](LockState&) { known = true; });
  if (!known) return std::optional<MemoryUse>();
  if (nic_.nodes() > 1) {
    const std::lock_guard one_at_a_time(census_turn_);
    const Result<std::optional<MemoryUse>> used = ask_all(LockMessageType::in_use, memory);
    if (!used || *used) return used;
    const Result<std::optional<MemoryUse>> forgotten = ask_all(LockMessageType::forget, memory);
    if (!forgotten) return forgotten;
  }
  forget_in(memory);
  return std::optional<MemoryUse>();
}

Result<std::optional<MemoryUse>> Mutexes::ask_all(LockMessageType question, MemoryRange memory) {
  std::uint64_t number = 0;
  {
    const Guard guard(census_.guard);
    number = ++census_.number;
    census_.used.reset();
    census_.awaited.assign(nic_.nodes(), true);
    census_.awaited[nic_.node().value] = false;
  }
  Bytes body = encode_lock(question, memory.offset, number);
  const auto length = std::as_bytes(std::span(&memory.bytes, 1));
  body.insert(body.end(), length.begin(), length.end());
  for (std::uint32_t n = 0; n < nic_.nodes(); ++n) {
    if (n != nic_.node().value && !gate_.is_dead(NodeId{n})) nic_.send(NodeId{n}, nic::MessageKind::sync_lock, body);
  }
  const Status status = nic_.wait_until(census_.answered, [this] {
    const Guard guard(census_.guard);
    for (std::uint32_t n = 0; n < nic_.nodes(); ++n) {
      if (census_.awaited[n] && !gate_.is_dead(NodeId{n})) return false;
    }
    return true;
  });
  if (!ok(status)) return status;
  const Guard guard(census_.guard);
  return census_.used;
}

void Mutexes::handle_freed(NodeId from, const LockMessage& message) {
  MemoryRange memory{message.offset, 0};
  std::memcpy(&memory.bytes, message.payload.data(), sizeof memory.bytes);
  std::uint64_t used = kNothing;
  if (message.type == LockMessageType::in_use) {
    if (const auto busy = busy_in(memory.offset, memory.bytes)) used = busy->offset;
  } else {
    forget_in(memory);
  }
  nic_.send(from, nic::MessageKind::sync_lock, encode_lock(LockMessageType::use, used, message.epoch));
}

void Mutexes::handle_use(NodeId from, const LockMessage& message) {
  {
    const Guard guard(census_.guard);
    if (census_.number != message.epoch || !census_.awaited[from.value]) return;
    census_.awaited[from.value] = false;
    if (message.offset != kNothing && !census_.used) census_.used = MemoryUse{SyncId{message.offset}, from};
  }
  census_.answered.announce(nic_.env());
}

}  // namespace netvm::sync
