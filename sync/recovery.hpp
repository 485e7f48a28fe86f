// Recovery: what the survivors do about locks when a node has died. Rounds that all survivors take part in, for each set of dead nodes that they know of:
//
//   close    nothing more is asked for or handed over (lock_gate.hpp); each tells all others that it has closed. As channels keep their order, who has
//            heard it from everybody has received every request and grant that was under way.
//   report   each tells each lock's keeper (its home, or the one that takes its place) how the lock stands here.
//   decide   the keeper takes the dead out of the queues (recovery_plan.hpp), writes the tails, and tells who is queued whom to ask, and
//            everybody which locks are lost.
//   open     who has heard from all keepers asks anew, opens its gate, and grants what has been asked for meanwhile.
//
// A death during a round begins a new one with the larger set; what a round decided stands, as every round begins from where the tokens are. Nodes learn of
// deaths from declare_dead() and from each other.
//
// Invariants
//  1. A token is at one survivor, or lost; no message brings it from a node that was declared dead.
//  2. A lost lock stays lost, on all nodes: its waiters, and who asks later, get E_OWNER_DEAD. Until one thread recovers it (Mutexes::recover): that makes a token
//     of a higher epoch, which stays where it is until all have heard of it.
// Threads: any; on_message comes from the NIC. Costs two messages to each survivor and a report of each used lock, per death.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "nic/nic.hpp"
#include "runtime/task_group.hpp"
#include "sync/mutex.hpp"
#include "sync/recovery_wire.hpp"

namespace netvm::sync {

class Recovery final : public nic::MessageHandler {
 public:
  /// `told`: called for each node that is found to have died; `recovered`: when the locks go on. From any context; must not block.
  Recovery(Mutexes& mutexes, nic::Nic& nic, std::function<void(NodeId)> told, std::function<void()> recovered);
  /// Ends a round that is under way.
  ~Recovery() override;

  /// See Sync::declare_dead().
  void declare_dead(NodeId node);

  void on_message(NodeId from, std::span<const std::byte> body) noexcept override;
  /// Messages that were not ours, and dropped.
  [[nodiscard]] std::uint64_t dropped_messages() const { return dropped_.load(std::memory_order_relaxed); }  // relaxed: a statistic

 private:
  using Nodes = std::vector<NodeId>;
  /// What came last from one node.
  struct Heard {
    Nodes closed;
    RecoveryMessage reports;
    RecoveryMessage verdicts;
  };
  // Never blocks.
  void learn(NodeId dead);
  void run();
  // Whether the round came to its end; if not, somebody else has died, or the job ends.
  bool round(const Nodes& dead);
  // Blocks until has_come(what came) for every survivor.
  template <class HasCome>
  bool wait_for_all(const Nodes& dead, HasCome&& has_come);
  void tell(NodeId to, RecoveryMessage message);
  [[nodiscard]] Nodes others(const Nodes& dead) const;

  Mutexes& mutexes_;
  nic::Nic& nic_;
  const std::function<void(NodeId)> told_;
  const std::function<void()> recovered_;
  SpinLock lock_;
  std::vector<Heard> heard_;  // by node; under lock_
  bool running_ = false;      // under lock_
  Nodes recovered_from_;      // of the last round that was complete; run()'s
  WaitWord arrivals_;
  std::atomic<bool> stopping_{false};
  std::atomic<std::uint64_t> dropped_{0};
  TaskGroup tasks_;
};

}  // namespace netvm::sync
