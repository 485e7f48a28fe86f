// Collectives: barrier, all_reduce and broadcast over a tree of all nodes, by messages. The last of a node's threads to arrive leads: it
// speaks for the node, the others wait.
//
// The tree: node 0 is the root; a subtree is a contiguous range of nodes led by its lowest, whose children split the rest into at most
// `arity` ranges of equal size. So own value, then the children's in order, is the order of nodes.
//
// Invariants
//  1. Collectives are numbered from 0 on each node. A child is at most one ahead of its parent (it needs the parent to go on), so one
//     place for a message that came early is enough for each child, and one for the parent's.
//  2. Coherence: on_barrier_arrive after all local threads have arrived, on_barrier_leave before any of them leaves; in between the
//     contributions of all nodes have been merged at the root and came down again.
//  3. What the threads called is compared inside the node, and by each parent with its children: a mismatch stops the program and names both.
// Threads: any; on_message comes from the NIC.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "nic/nic.hpp"
#include "sync/coherence_hook.hpp"
#include "sync/sync_wire.hpp"
#include "sync/waits.hpp"

namespace netvm::sync {

/// One node's place in the tree.
struct TreePlace {
  bool has_parent = false;
  std::uint32_t parent = 0;
  std::uint32_t end = 0;  ///< this node's subtree is [node, end)
  std::vector<std::uint32_t> children;
};
[[nodiscard]] TreePlace tree_place(std::uint32_t node, std::uint32_t nodes, std::uint32_t arity);

class Collectives final : public nic::MessageHandler {
 public:
  using Combine = std::function<void(std::span<std::byte> sum, std::span<const std::byte> other)>;

  /// `waits`: where a node that waits for others is entered.
  Collectives(std::uint32_t arity, nic::Nic& nic, CoherenceHook& hook, Stats& stats, Waits& waits);
  ~Collectives() override;

  void set_local_threads(std::uint32_t threads);
  /// `op` for all_reduce, else null. The value is replaced by the result.
  Status run(const CollectiveCall& call, std::span<std::byte> value, const Combine* op);

  /// A node has died: what is under way, and every later collective, ends with E_PEER_DEAD. Does not block.
  void give_up();

  void on_message(NodeId from, std::span<const std::byte> body) noexcept override;
  /// Messages that were not ours, and dropped.
  [[nodiscard]] std::uint64_t dropped_messages() const { return dropped_.load(std::memory_order_relaxed); }  // relaxed: a statistic

 private:
  // A message that waits to be taken up.
  struct Inbox {
    std::uint32_t from = 0;
    bool full = false;
    Bytes body;
  };
  void join(const CollectiveCall& call, std::span<const std::byte> value, const Combine* op);
  Status lead(const Combine* op);
  Status gather(const Combine* op, Bytes* sum);
  void count_payload(std::size_t bytes);
  Result<Bytes> take_from(std::size_t inbox);
  [[nodiscard]] bool filled(std::size_t inbox) const;
  void check_same(std::uint32_t other_node, const CollectiveCall& theirs, std::uint64_t their_number) const;

  nic::Nic& nic_;
  CoherenceHook& hook_;
  Stats& stats_;
  Waits& waits_;
  TreePlace place_;

  // Of this node's threads. The mutex guards arrival; afterwards the leader alone touches these until it publishes.
  EnvMutex arrival_;
  std::uint32_t threads_ = 1;
  std::uint32_t arrived_ = 0;
  CollectiveCall call_;
  bool has_value_ = false;  // value_ holds something: always in a reduction; in a broadcast from when the root's bytes are here
  Bytes value_;
  Bytes result_;  // of the collective that ended last; stays until all local threads have arrived at the next
  Status outcome_ = Status::ok;
  // How long this node's last thread to arrive waited in the collective before; the least of all nodes' is what a collective costs, the rest of each is
  // imbalance. And when it arrived in this one.
  std::uint64_t waited_ns_ = 0;
  std::uint64_t least_wait_ns_ = 0;
  Nanos led_at_ = 0;
  std::atomic<std::uint64_t> number_{0};  // of the collective under way: how many have ended
  WaitWord ended_;

  // Between nodes. inbox_[0 .. children) from the children, the last from the parent.
  mutable SpinLock inbox_guard_;
  std::vector<Inbox> inbox_;
  WaitWord arrivals_;
  std::atomic<bool> given_up_{false};
  std::atomic<std::uint64_t> dropped_{0};
};

}  // namespace netvm::sync
