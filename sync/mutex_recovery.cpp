// Mutexes: what happens to them when nodes have died (recovery.hpp says when).
#include <algorithm>
#include <mutex>

#include "runtime/check.hpp"
#include "sync/mutex.hpp"

namespace netvm::sync {

using Guard = std::unique_lock<SpinLock>;
using State = LockWaiter::State;
using Token = LockState::Token;

namespace {
unsigned long long printable(std::uint64_t value) { return value; }

LockReport report_of(const LockState& state) {
  LockReport report{state.offset, state.epoch, state.predecessor, LockReport::Place::away};
  if (state.lost) {
    report.place = LockReport::Place::lost;
  } else if (state.token == Token::here) {
    report.place = LockReport::Place::here;
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
    prober->word.announce(nic_.env());
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
  RecoveryPlan plan = plan_recovery(reports, tails, kept_before);
  NETVM_CHECK(!plan.conflict, "the mutex at offset %#llx is at two nodes at once", printable(plan.conflict.value_or(0)));
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

void Mutexes::mark_lost(LockState& state, std::uint64_t epoch) {
  std::optional<NodeId> successor;
  {
    const Guard guard(state.guard);
    NETVM_CHECK(state.token != Token::here, "the mutex at offset %#llx is lost, and here", printable(state.offset));
    state.lost = true;
    state.epoch = std::max(state.epoch, epoch);
    epoch = state.epoch;
    if (state.has_successor) successor = state.successor;
    state.has_successor = false;
    trim(state);
  }
  fail_waiters(state, Status::owner_dead);
  // It asked this node before this node knew.
  if (successor) nic_.send(*successor, nic::MessageKind::sync_lock, encode_lock(LockMessageType::lost, state.offset, epoch));
  const SyncId id{state.offset};
  if (id.is_object()) cargo_->lost(id);
}

void Mutexes::handle_lost(LockState& state, const LockMessage& message) { mark_lost(state, message.epoch); }

}  // namespace netvm::sync
