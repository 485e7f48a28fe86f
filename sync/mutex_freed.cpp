// Mutexes: memory that is freed. Who frees it asks all nodes whether somebody holds, or waits for, what lies in there; if nobody does, all forget what they
// know of the objects in it, so that they are zeroed objects when the memory is handed out again. Two rounds of messages, and only where some node has ever used
// what lies there: small memory is looked up first (lock_directory.hpp).
//
// A token may be on its way though nobody is at the lock: a thread asked for it and gave up. It comes by itself, and its object's state with it: who frees
// asks again until no node has anything under way.
#include <algorithm>
#include <cstring>
#include <mutex>

#include "sync/mutex.hpp"

namespace netvm::sync {

using Guard = std::unique_lock<SpinLock>;

std::optional<SyncId> Mutexes::busy_in(std::uint64_t offset, std::uint64_t bytes) const { return use_of({offset, bytes}).busy; }

Mutexes::LocalUse Mutexes::use_of(MemoryRange memory) const {
  LocalUse use;
  each_in(memory, [&](LockState& state) {
    const SyncId id{state.offset};
    bool busy = id.is_object() && cargo_->in_use(id);
    {
      const Guard guard(state.guard);
      busy = busy || state.held_by_thread() || state.has_waiters() || (id.is_object() && state.idle() && cargo_->at_work(id));
      const bool moves = state.token == LockState::Token::requested || state.has_successor;
      const bool is_released = state.token == LockState::Token::here && state.holder >= LockState::kCaretaker;
      use.under_way = use.under_way || moves || is_released;
    }
    if (busy && !use.busy) use.busy = id;
  });
  return use;
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
  const MemoryRange memory{offset, bytes};
  const bool was_placed = directory_.is_placed(memory);
  const Result<bool> used = was_placed ? Result<bool>(true) : was_used(memory);
  if (!used) return used.status();
  if (!*used) return std::optional<MemoryUse>();
  std::vector<LockTail> lost;
  {
    const std::lock_guard one_at_a_time(census_turn_);
    const Result<std::optional<MemoryUse>> use = use_when_settled(memory);
    if (!use || *use) return use;
    if (nic_.nodes() > 1) {
      const auto length = std::as_bytes(std::span(&bytes, 1));
      const Result<std::optional<MemoryUse>> forgotten = ask_all(LockMessageType::forget, offset, length);
      if (!forgotten) return forgotten;
      const Guard guard(census_.guard);
      lost = census_.tails;
    }
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

Result<bool> Mutexes::was_used(MemoryRange memory) {
  constexpr std::uint64_t kSmall = 2048;
  bool known = nic_.nodes() > 1 && memory.bytes > kSmall;
  if (!known) each_in(memory, [&](LockState&) { known = true; });
  if (known || nic_.nodes() == 1) return known;
  if (!gate_.enter()) return true;  // nodes have died: all are asked
  const Result<bool> used = directory_.was_used(memory);
  gate_.leave();
  return used;
}

Result<std::optional<MemoryUse>> Mutexes::use_when_settled(MemoryRange memory) {
  constexpr Nanos kFirstPause = 10'000;
  constexpr Nanos kLongestPause = 1'000'000;
  for (Nanos pause = kFirstPause;; pause = std::min(2 * pause, kLongestPause)) {
    const LocalUse here = use_of(memory);
    if (here.busy) return std::optional(MemoryUse{*here.busy, nic_.node()});
    bool under_way = here.under_way;
    if (nic_.nodes() > 1) {
      const auto use = ask_all(LockMessageType::in_use, memory.offset, std::as_bytes(std::span(&memory.bytes, 1)));
      if (!use || *use) return use;
      const Guard guard(census_.guard);
      under_way = under_way || census_.under_way;
    }
    if (!under_way) return std::optional<MemoryUse>();
    WaitWord nothing;
    const Status waited = nic_.wait_until(
        nothing, [] { return false; }, nic_.env().now() + pause);
    if (waited != Status::timeout) return waited;
  }
}

// ---- questions to all ------------------------------------------------------------------------------------------------------

Result<std::optional<MemoryUse>> Mutexes::ask_all(LockMessageType question, std::uint64_t offset, std::span<const std::byte> payload) {
  std::uint64_t number = 0;
  {
    const Guard guard(census_.guard);
    number = ++census_.number;
    census_.used.reset();
    census_.under_way = false;
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
    const LocalUse use = use_of(memory);
    used = use.busy ? use.busy->offset : use.under_way ? kUnderWay : kNothing;
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
    const bool is_busy = message.offset != kNothing && message.offset != kUnderWay;
    census_.under_way = census_.under_way || message.offset == kUnderWay;
    if (is_busy && !census_.used) census_.used = MemoryUse{SyncId{message.offset}, from};
    for (std::size_t at = 0; at < message.payload.size(); at += sizeof(LockTail)) {
      std::memcpy(&census_.tails.emplace_back(), &message.payload[at], sizeof(LockTail));
    }
  }
  census_.answered.announce(nic_.env());
}

}  // namespace netvm::sync
