#include "sync/recovery.hpp"

#include <algorithm>
#include <mutex>
#include <utility>

namespace netvm::sync {

Recovery::Recovery(Mutexes& mutexes, nic::Nic& nic, std::function<void(NodeId)> told, std::function<void()> recovered)
    : mutexes_(mutexes), nic_(nic), told_(std::move(told)), recovered_(std::move(recovered)), heard_(nic.nodes()), tasks_(nic.env()) {
  nic_.set_message_handler(nic::MessageKind::sync_recovery, this);
}

Recovery::~Recovery() {
  nic_.set_message_handler(nic::MessageKind::sync_recovery, nullptr);
  stopping_.store(true);
  arrivals_.announce(nic_.env());
  tasks_.close();
}

void Recovery::declare_dead(NodeId node) {
  if (node.value >= nic_.nodes() || node == nic_.node()) return;
  learn(node);
  nic_.declare_dead(node);
}

// The gate is closed before the NIC knows: who meets the death in an atomic finds it closed, and waits there.
void Recovery::learn(NodeId node) {
  if (!mutexes_.gate().close(node)) return;
  told_(node);
  arrivals_.announce(nic_.env());
  {
    const std::lock_guard guard(lock_);
    if (std::exchange(running_, true)) return;
  }
  // Refused only by the destructor.
  (void)tasks_.spawn([this] { run(); });
}

void Recovery::run() {
  for (;;) {
    const Nodes dead = mutexes_.gate().dead();
    // Who learnt of the last death may have been slow to ask for this run, and the one before has done its work: the gate is open.
    if (dead != recovered_from_) {
      for (const NodeId node : dead) nic_.declare_dead(node);
      const bool complete = round(dead);
      if (complete && mutexes_.gate().open(static_cast<std::uint32_t>(dead.size()))) {
        recovered_from_ = dead;
        mutexes_.resume();
        recovered_();
      }
    }
    const std::lock_guard guard(lock_);
    if (!stopping_.load() && mutexes_.gate().dead() != dead) continue;
    running_ = false;
    return;
  }
}

Recovery::Nodes Recovery::others(const Nodes& dead) const {
  Nodes nodes;
  for (std::uint32_t i = 0; i < nic_.nodes(); ++i) {
    const NodeId node{i};
    if (node != nic_.node() && !std::binary_search(dead.begin(), dead.end(), node)) nodes.push_back(node);
  }
  return nodes;
}

void Recovery::tell(NodeId to, RecoveryMessage message) {
  if (to != nic_.node()) return nic_.send(to, nic::MessageKind::sync_recovery, encode_recovery(message));
  const std::lock_guard guard(lock_);
  (message.step == RecoveryStep::reports ? heard_[to.value].reports : heard_[to.value].verdicts) = std::move(message);
}

template <class HasCome>
bool Recovery::wait_for_all(const Nodes& dead, HasCome&& has_come) {
  const Nodes from = others(dead);
  bool complete = false;
  const Status status = nic_.wait_until(arrivals_, [&] {
    if (stopping_.load() || mutexes_.gate().dead() != dead) return true;
    const std::lock_guard guard(lock_);
    complete = std::all_of(from.begin(), from.end(), [&](NodeId node) { return has_come(heard_[node.value]); });
    return complete;
  });
  return ok(status) && complete;
}

bool Recovery::round(const Nodes& dead) {
  if (!ok(mutexes_.gate().wait_until_quiet())) return false;
  mutexes_.forget_questions();
  mutexes_.pass_on_placements(dead);
  const Nodes survivors = others(dead);
  for (const NodeId node : survivors) tell(node, {RecoveryStep::closed, dead, {}, {}});
  if (!wait_for_all(dead, [&](const Heard& heard) { return heard.closed == dead; })) return false;

  mutexes_.drop_placements(dead);
  auto reports = mutexes_.report(dead);
  for (const NodeId node : survivors) tell(node, {RecoveryStep::reports, dead, std::move(reports[node]), {}});
  tell(nic_.node(), {RecoveryStep::reports, dead, std::move(reports[nic_.node()]), {}});
  if (!wait_for_all(dead, [&](const Heard& heard) { return heard.reports.dead == dead; })) return false;

  std::map<NodeId, std::vector<LockReport>> said;
  {
    const std::lock_guard guard(lock_);
    said[nic_.node()] = heard_[nic_.node().value].reports.reports;
    for (const NodeId node : survivors) said[node] = heard_[node.value].reports.reports;
  }
  Result<RecoveryPlan> plan = mutexes_.decide(said);
  if (!plan) return false;
  for (const NodeId node : survivors) tell(node, {RecoveryStep::verdicts, dead, {}, std::move(plan->verdicts[node])});
  tell(nic_.node(), {RecoveryStep::verdicts, dead, {}, std::move(plan->verdicts[nic_.node()])});
  if (!wait_for_all(dead, [&](const Heard& heard) { return heard.verdicts.dead == dead; })) return false;

  std::vector<LockVerdict> verdicts;
  {
    const std::lock_guard guard(lock_);
    for (Heard& heard : heard_) {
      if (heard.verdicts.dead != dead) continue;
      verdicts.insert(verdicts.end(), heard.verdicts.verdicts.begin(), heard.verdicts.verdicts.end());
      heard.reports.reports.clear();
      heard.verdicts.verdicts.clear();
    }
  }
  mutexes_.apply(verdicts);
  return true;
}

void Recovery::on_message(NodeId from, std::span<const std::byte> body) noexcept {
  auto message = decode_recovery(body, nic_.nodes());
  const bool names_me = message && std::binary_search(message->dead.begin(), message->dead.end(), nic_.node());
  if (!message || names_me || mutexes_.gate().is_dead(from)) {
    dropped_.fetch_add(1, std::memory_order_relaxed);  // relaxed: a statistic
    return;
  }
  const Nodes dead = message->dead;
  {
    const std::lock_guard guard(lock_);
    Heard& heard = heard_[from.value];
    if (message->step == RecoveryStep::closed) heard.closed = std::move(message->dead);
    if (message->step == RecoveryStep::reports) heard.reports = std::move(*message);
    if (message->step == RecoveryStep::verdicts) heard.verdicts = std::move(*message);
  }
  for (const NodeId node : dead) learn(node);
  arrivals_.announce(nic_.env());
}

}  // namespace netvm::sync
