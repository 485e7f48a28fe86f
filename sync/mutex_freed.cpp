// Mutexes: memory that is freed. Who frees it asks all nodes whether somebody holds, or waits for, what lies in there; if nobody does, all forget what they
// know of the objects in it, so that they are zeroed objects when the memory is handed out again. Two rounds of messages, and only where something may be
// known: see Mutexes::free_memory().
#include <algorithm>
#include <cstring>
#include <mutex>

#include "sync/mutex.hpp"

namespace netvm::sync {

using Guard = std::unique_lock<SpinLock>;

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
void Mutexes::forget_in(MemoryRange memory, std::vector<LockTail>* lost) {
  each_in(memory, [&](LockState& state) {
    const Guard guard(state.guard);
    if (state.lost) lost->push_back({state.offset, kLostTail | state.epoch});
    if (SyncId{state.offset}.is_object()) cargo_->forget(SyncId{state.offset}, state.idle());
  });
}

Result<std::optional<MemoryUse>> Mutexes::free_memory(std::uint64_t offset, std::uint64_t bytes, std::uint64_t who) {
  constexpr std::uint64_t kSmall = 2048;
  const MemoryRange memory{offset, bytes};
  if (const auto busy = busy_in(offset, bytes)) return std::optional(MemoryUse{*busy, nic_.node()});
  const bool was_placed = directory_.is_placed(memory);
  bool known = bytes > kSmall || was_placed;
  if (!known) each_in(memory, [&](LockState&) { known = true; });
  if (!known) return std::optional<MemoryUse>();
  std::vector<LockTail> lost;
  if (nic_.nodes() > 1) {
    const std::lock_guard one_at_a_time(census_turn_);
    const auto length = std::as_bytes(std::span(&bytes, 1));
    const Result<std::optional<MemoryUse>> used = ask_all(LockMessageType::in_use, offset, length);
    if (!used || *used) return used;
    const Result<std::optional<MemoryUse>> forgotten = ask_all(LockMessageType::forget, offset, length);
    if (!forgotten) return forgotten;
    const Guard guard(census_.guard);
    lost = census_.tails;
  }
  forget_in(memory, &lost);
  // Whoever gets the memory next knows nothing of a death.
  for (const LockTail& lock : lost) {
    LockState& state = state_of(lock.offset);
    const Result<bool> revived = recover(state, who);
    if (revived && *revived) (void)unlock(state, who);
  }
  // What could not be placed just now stays where it was.
  if (was_placed) (void)place(memory, {});
  return std::optional<MemoryUse>();
}

// ---- questions to all ------------------------------------------------------------------------------------------------------

Result<std::optional<MemoryUse>> Mutexes::ask_all(LockMessageType question, std::uint64_t offset, std::span<const std::byte> payload) {
  std::uint64_t number = 0;
  {
    const Guard guard(census_.guard);
    number = ++census_.number;
    census_.used.reset();
    census_.tails.clear();
    census_.awaited.assign(nic_.nodes(), true);
    census_.awaited[nic_.node().value] = false;
  }
  Bytes body = encode_lock(question, offset, number);
  body.insert(body.end(), payload.begin(), payload.end());
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

void Mutexes::answer(NodeId to, const LockMessage& question, std::uint64_t used, std::span<const LockTail> tails) {
  Bytes body = encode_lock(LockMessageType::use, used, question.epoch);
  const auto bytes = std::as_bytes(tails);
  body.insert(body.end(), bytes.begin(), bytes.end());
  nic_.send(to, nic::MessageKind::sync_lock, body);
}

void Mutexes::handle_freed(NodeId from, const LockMessage& message) {
  MemoryRange memory{message.offset, 0};
  std::memcpy(&memory.bytes, message.payload.data(), sizeof memory.bytes);
  std::uint64_t used = kNothing;
  std::vector<LockTail> lost;
  if (message.type == LockMessageType::in_use) {
    if (const auto busy = busy_in(memory.offset, memory.bytes)) used = busy->offset;
  } else {
    forget_in(memory, &lost);
  }
  answer(from, message, used, lost);
}

void Mutexes::handle_use(NodeId from, const LockMessage& message) {
  {
    const Guard guard(census_.guard);
    if (census_.number != message.epoch || !census_.awaited[from.value]) return;
    census_.awaited[from.value] = false;
    if (message.offset != kNothing && !census_.used) census_.used = MemoryUse{SyncId{message.offset}, from};
    for (std::size_t at = 0; at < message.payload.size(); at += sizeof(LockTail)) {
      std::memcpy(&census_.tails.emplace_back(), &message.payload[at], sizeof(LockTail));
    }
  }
  census_.answered.announce(nic_.env());
}

}  // namespace netvm::sync
