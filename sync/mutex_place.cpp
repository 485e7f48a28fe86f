// Mutexes: chosen homes. A node that places some memory's mutexes and objects asks all nodes to leave their tokens where they are, in two rounds of questions:
//
//   hold_still   nobody asks any more for what lies there, or hands it over (lock_gate.hpp). Each node answers with the tokens that it has: who has one is its tail. If one is on
//                its way, or somebody stands in a queue, nothing is placed.
//   placed       meanwhile the placer has written the tails at their new homes. Each node takes the rule over (home_rules.hpp), forgets where the tails were, and goes on.
//
// Threads that hold what is placed, or wait for it in their node, notice nothing: only who would ask another node waits.
//
// Invariants
//  1. From before the first `placed` is sent until all nodes that live have answered it, the placer is inside its gate: a recovery's reports (recovery.hpp)
//     find all nodes before a placement, or all behind it.
//  2. Should the placer die, those that heard `placed` pass it on to all others before they say that they have closed; what only began is dropped after.
//  3. What nodes of a dead placer had heard before is told by its number: a placement is taken over once.
#include <algorithm>
#include <cstring>
#include <mutex>

#include "runtime/check.hpp"
#include "sync/mutex.hpp"

namespace netvm::sync {

using Guard = std::unique_lock<SpinLock>;
using Token = LockState::Token;

Status Mutexes::place(const MemoryRange& memory, const HomeRule& rule) {
  if (rule.stride == 0 || (rule.kind == HomeRule::Kind::at && rule.node.value >= nic_.nodes())) return Status::invalid;
  if (rule.kind == HomeRule::Kind::at && gate_.is_dead(rule.node)) return Status::peer_dead;
  const std::lock_guard one_at_a_time(census_turn_);
  for (;;) {
    if (const Status status = gate_.wait_until_open(memory.offset, kForever); !ok(status)) return status;
    const Result<bool> placed = try_to_place(memory, rule);
    if (!placed) return placed.status();
    if (*placed) return Status::ok;
  }
}

Result<bool> Mutexes::try_to_place(const MemoryRange& memory, HomeRule rule) {
  // In the middle of a recovery nobody knows yet what is lost.
  const std::optional<std::uint32_t> deaths = gate_.deaths_if_open();
  if (!deaths) return false;
  for (const NodeId node : gate_.dead()) rule.dead.add(node);  // enter_after() finds out if there are more by then
  std::vector<LockTail> tails;
  if (hold_still(nic_.node(), memory, &tails)) return Status::invalid;
  Placed placed{.bytes = memory.bytes,
                .stride = rule.stride,
                .number = 0,
                .node = rule.node.value,
                .placer = nic_.node().value,
                .kind = static_cast<std::uint8_t>(rule.kind),
                .dead = rule.dead};
  const auto used = ask_all(LockMessageType::hold_still, memory.offset, std::as_bytes(std::span(&memory.bytes, 1)));
  {
    const Guard guard(census_.guard);
    tails.insert(tails.end(), census_.tails.begin(), census_.tails.end());
    placed.number = census_.number;
  }
  // Last counts who has the token: of a lock that was recovered just now not all know. Of those that are lost, the highest epoch.
  std::sort(tails.begin(), tails.end(), [](const LockTail& a, const LockTail& b) {
    const bool a_lost = (a.tail & kLostTail) != 0;
    const bool b_lost = (b.tail & kLostTail) != 0;
    return a_lost != b_lost ? a_lost : a.tail < b.tail;
  });
  const bool stands_still = used && !*used;
  const bool inside = stands_still && gate_.enter_after(*deaths);
  Status written = Status::ok;
  for (std::size_t i = 0; inside && i < tails.size() && ok(written); ++i) {
    written = directory_.write_tail_under(memory, rule, tails[i].offset, tails[i].tail);
  }
  placed.aborted = inside && ok(written) ? 0 : 1;
  const auto settled = ask_all(LockMessageType::placed, memory.offset, std::as_bytes(std::span(&placed, 1)));
  settle(placed, memory);
  if (inside) gate_.leave();
  if (!used) return used.status();
  if (!settled) return settled.status();
  if (*used) return Status::invalid;
  // A home that died meanwhile is found dead in the next attempt.
  if (!ok(written) && written != Status::peer_dead) return written;
  return placed.aborted == 0;
}

std::optional<SyncId> Mutexes::hold_still(NodeId placer, const MemoryRange& memory, std::vector<LockTail>* tails) {
  if (!gate_.hold(placer, memory)) return SyncId{memory.offset};
  std::optional<SyncId> under_way;
  each_in(memory, [&](LockState& state) {
    const Guard guard(state.guard);
    if (state.token == Token::requested || state.has_successor) under_way = SyncId{state.offset};
    if (state.token == Token::here) tails->push_back({state.offset, nic_.node().value + std::uint64_t{1}});
    if (state.lost) tails->push_back({state.offset, kLostTail | state.epoch});
  });
  if (under_way) let_go(placer, memory);
  const Guard guard(census_.guard);
  for (const auto& [lock, tail] : lost_) {
    if (memory.contains(SyncId{lock}.address())) tails->push_back({lock, tail});
  }
  return under_way;
}

void Mutexes::settle(const Placed& placed, const MemoryRange& memory) {
  const NodeId placer{placed.placer};
  if (placed.aborted == 0) {
    {
      const Guard guard(census_.guard);
      LastPlaced& last = last_placed_[placer];
      if (last.placed.number >= placed.number) return;
      last = {placed, memory};
    }
    directory_.place(memory, {static_cast<HomeRule::Kind>(placed.kind), NodeId{placed.node}, placed.stride, placed.dead});
    each_in(memory, [](LockState& state) {
      const Guard guard(state.guard);
      state.slot = 0;
    });
  }
  let_go(placer, memory);
}

void Mutexes::let_go(NodeId placer, const MemoryRange& memory) {
  gate_.let_go(placer);
  each_in(memory, [this](LockState& state) {
    Guard guard(state.guard);
    if (state.has_successor && state.idle()) grant_idle(state, guard);
  });
}

void Mutexes::pass_on_placements(std::span<const NodeId> dead) {
  for (const NodeId node : dead) {
    LastPlaced last;
    {
      const Guard guard(census_.guard);
      const auto found = last_placed_.find(node);
      if (found == last_placed_.end()) continue;
      last = found->second;
    }
    last.placed.passed_on = 1;
    Bytes body = encode_lock(LockMessageType::placed, last.memory.offset, 0);
    const auto bytes = std::as_bytes(std::span(&last.placed, 1));
    body.insert(body.end(), bytes.begin(), bytes.end());
    for (std::uint32_t n = 0; n < nic_.nodes(); ++n) {
      if (n != nic_.node().value && !gate_.is_dead(NodeId{n})) nic_.send(NodeId{n}, nic::MessageKind::sync_lock, body);
    }
  }
}

void Mutexes::drop_placements(std::span<const NodeId> dead) {
  for (const NodeId node : dead) gate_.let_go(node);
}

void Mutexes::handle_hold_still(NodeId from, const LockMessage& message) {
  MemoryRange memory{message.offset, 0};
  std::memcpy(&memory.bytes, message.payload.data(), sizeof memory.bytes);
  std::vector<LockTail> tails;
  const auto under_way = hold_still(from, memory, &tails);
  if (under_way) tails.clear();
  answer(from, message, under_way ? under_way->offset : kNothing, tails);
}

void Mutexes::handle_placed(NodeId from, const LockMessage& message) {
  const auto placed = decode_placed(message.payload, nic_.nodes());
  NETVM_CHECK(placed, "node %u says that it has placed memory, but not how", from.value);
  settle(*placed, {message.offset, placed->bytes});
  if (placed->passed_on == 0) answer(from, message, kNothing);
}

}  // namespace netvm::sync
