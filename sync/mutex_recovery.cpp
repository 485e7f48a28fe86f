// Mutexes: what happens to them when nodes have died (recovery.hpp says when).
#include <algorithm>
#include <cstring>
#include <mutex>

#include "runtime/check.hpp"
#include "sync/mutex.hpp"

namespace netvm::sync {

using Guard = std::unique_lock<SpinLock>;
using State = LockWaiter::State;
using Token = LockState::Token;

namespace {
LockReport report_of(const LockState& state) {
  LockReport report{state.offset, state.epoch, state.predecessor.id(), LockReport::Place::away};
  if (state.token == Token::here) {
    report.place = LockReport::Place::here;
  } else if (state.lost) {
    report.place = LockReport::Place::lost;
  } else if (state.asked) {
    report.place = LockReport::Place::queued;
  }
  return report;
}
}  // namespace

// Nobody answers for a node that is dead. A try_lock that is told nothing gives up.
void Mutexes::forget_questions() {
  census_.answered.announce(nic_.env());
  for (LockState* const state : table_.all()) {
    const Guard guard(state->guard);
    LockWaiter* const prober = state->extra == nullptr ? nullptr : state->extra->prober;
    if (prober == nullptr || prober->state.load(std::memory_order_relaxed) != State::waiting) continue;  // relaxed: under the guard
    prober->answer_free = false;
    prober->state.store(State::answered, std::memory_order_release);  // release: partner is probe()'s look
    prober->announce(nic_.env());
  }
}

std::map<NodeId, std::vector<LockReport>> Mutexes::report(std::span<const NodeId> dead) {
  std::map<NodeId, std::vector<LockReport>> reports;
  const std::vector<LockState*> states = table_.all();
  std::vector<NodeId> homes;
  homes.reserve(states.size());
  for (const LockState* const state : states) homes.push_back(directory_.home_of(state->offset));
  for (const NodeId node : dead) directory_.declare_dead(node);
  for (std::size_t i = 0; i < states.size(); ++i) {
    LockState& state = *states[i];
    const NodeId home = directory_.home_of(state.offset);
    const Guard guard(state.guard);
    // Nothing is handed over any more, so what is not in the line now never will be.
    if (take_from_line(state) && state.has_waiters()) state.hand_to_first()->announce(nic_.env());
    if (home != homes[i]) state.slot = 0;
    // Who follows asks anew.
    state.has_successor = false;
    trim(state);
    reports[home].push_back(report_of(state));
  }
  return reports;
}

Result<RecoveryPlan> Mutexes::decide(const std::map<NodeId, std::vector<LockReport>>& reports) {
  std::map<std::uint64_t, std::uint64_t> tails;
  if (const Status status = directory_.read_tails(&tails); !ok(status)) return status;
  const auto kept_before = [&](std::uint64_t offset) { return !directory_.has_moved(offset) || tails.contains(offset); };
  RecoveryPlan plan = plan_recovery(reports, tails, kept_before, gate_.deaths());
  NETVM_CHECK(!plan.conflict, "the mutex at offset %#llx is at two nodes at once", printable(plan.conflict.value_or(0)));
  {
    const Guard guard(census_.guard);
    lost_.clear();
    for (const auto& [offset, tail] : plan.tails) {
      if ((tail & kLostTail) != 0) lost_[offset] = tail;
    }
  }
  for (const auto& [offset, tail] : plan.tails) {
    // Where the table is full, those who are queued go on; nobody else can ask.
    if (const Status status = directory_.write_tail(offset, tail); !ok(status) && status != Status::exhausted) return status;
  }
  return plan;
}

void Mutexes::apply(std::span<const LockVerdict> verdicts) {
  for (const LockVerdict& verdict : verdicts) {
    LockState* const state = table_.find(verdict.offset);
    NETVM_CHECK(state != nullptr, "a verdict on the mutex at offset %#llx, of which this node said nothing", printable(verdict.offset));
    if (verdict.fate == LockVerdict::Fate::lost) {
      mark_lost(*state, verdict.epoch);
      continue;
    }
    {
      const Guard guard(state->guard);
      state->predecessor = verdict.predecessor;
    }
    send_request(*state, verdict.predecessor);
  }
}

void Mutexes::resume() {
  for (LockState* const state : table_.all()) {
    Guard guard(state->guard);
    if (state->has_successor && state->idle()) grant_idle(*state, guard);
  }
}

void Mutexes::found_lost(LockState& state, const LockSlot& slot, std::uint64_t tail) {
  // Of which this node made itself the tail: fails only where the keeper dies, too, or the job ends.
  const std::uint64_t epoch = epoch_of_lost(tail);
  if (tail == 0) (void)directory_.write_tail(slot, kLostTail | epoch);
  mark_lost(state, epoch);
}

void Mutexes::mark_lost(LockState& state, std::uint64_t epoch) {
  std::optional<NodeId> successor;
  Guard guard(state.guard);
  NETVM_CHECK(state.token != Token::here, "the mutex at offset %#llx is lost, and here", printable(state.offset));
  // A node that knew sooner may have recovered it meanwhile, and told this one: then it lives, and only who waits is told of the death.
  state.lost = epoch >= state.epoch;
  if (state.lost) state.epoch = epoch;
  if (state.has_successor) successor = state.successor.id();
  state.has_successor = false;
  trim(state);
  fail_waiters(state, Status::owner_dead, guard);
  // It asked this node before this node knew.
  if (successor) nic_.send(*successor, nic::MessageKind::sync_lock, encode_lock(LockMessageType::lost, state.offset, epoch));
  const SyncId id{state.offset};
  if (id.is_object()) cargo_->lost(id);
}

void Mutexes::handle_lost(LockState& state, const LockMessage& message) {
  Guard guard(state.guard);
  const LockWaiter* const prober = state.extra == nullptr ? nullptr : state.extra->prober;
  if (!message.payload
           .empty()) {  // in answer to a question; who asked it may have given up since, and somebody else may wait for another answer
    std::uint64_t question = 0;
    std::memcpy(&question, message.payload.data(), sizeof question);
    if (prober == nullptr || state.extra->probe_number != question) return;
  }
  // The second answer to one who asked twice (try_lock): a thread of this node may recover the lock by now.
  const bool asks = state.asked || prober != nullptr;
  if (state.token != Token::requested || !asks) return;
  if (message.epoch >= state.epoch) {
    guard.unlock();
    return mark_lost(state, message.epoch);
  }
  // It has been recovered since: who asked asks anew.
  if (!state.asked) return;
  state.asked = false;
  end_line(state);
  elect_or_forget(state, guard);
}

// ---- lost, and made again --------------------------------------------------------------------------------------------------

// One node's atomic at the home makes the token, and so decides who is the one to put right what the lock guards. It is this node's until all others know that
// the lock lives: so who has been told can only wait for it, and if this node dies, it is lost for all again.
Result<bool> Mutexes::recover(LockState& state, std::uint64_t who) {
  const std::lock_guard one_at_a_time(census_turn_);
  for (;;) {
    if (const Status status = gate_.wait_until_open(state.offset, kForever); !ok(status)) return status;
    if (!gate_.enter_for(state.offset)) continue;
    {
      const Guard guard(state.guard);
      if (!state.lost) {
        gate_.leave();
        return false;
      }
      state.lost = false;  // who asks this node from now on has found it in the tail
      state.token = Token::requested;
    }
    const Result<LockSlot> slot = slot_of(state);
    const Result<std::uint64_t> tail = slot ? directory_.revive_tail(*slot) : Result<std::uint64_t>(slot.status());
    const Result<bool> recovered = tail ? hold_recovered(state, *tail, who) : Result<bool>(tail.status());
    if (!recovered) {
      if (recovered.status() == Status::cancelled) ended_.store(true);  // others may have found this node in the tail
      Guard guard(state.guard);
      state.lost = true;
      fail_waiters(state, Status::owner_dead, guard);
    }
    gate_.leave();
    if (recovered.status() == Status::peer_dead) continue;  // another keeps it, once the gate is open again
    if (!recovered || !*recovered) return recovered;
    const std::uint64_t epoch = epoch_of(state.offset);
    const auto told = ask_all(LockMessageType::revived, state.offset, std::as_bytes(std::span(&epoch, 1)));
    if (!told) return told.status();
    return true;
  }
}

Result<bool> Mutexes::hold_recovered(LockState& state, std::uint64_t tail, std::uint64_t who) {
  Guard guard(state.guard);
  if ((tail & kLostTail) == 0) {  // another node was faster
    elect_or_forget(state, guard);
    return false;
  }
  state.epoch = std::max(state.epoch, tail & ~kLostTail) + 1;
  state.lost = false;  // a thread that asked the home before this one may have found it so since
  state.token = Token::here;
  state.holder = who;
  state.stay = 0;
  state.cohort = 0;
  state.unreleased = false;
  return true;
}

void Mutexes::handle_revived(NodeId from, const LockMessage& message) {
  std::uint64_t epoch = 0;
  std::memcpy(&epoch, message.payload.data(), sizeof epoch);
  if (LockState* const state = table_.find(message.offset)) {
    const Guard guard(state->guard);
    if (state->epoch < epoch) {
      state->lost = false;
      state->epoch = epoch;
    }
  }
  answer(from, message, kNothing);
}

}  // namespace netvm::sync
