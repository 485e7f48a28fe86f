// Lock directory: where the tail of a mutex's queue lies. Each node keeps a table for the mutexes whose home it is: open addressing over
// (key, tail) pairs in NIC memory, reached by everybody, the home included, with NIC atomics alone.
//
// Invariants
//  1. key = offset + 1 (0: the slot is free). A key, once claimed, never changes or moves: its slot may be remembered for ever.
//  2. tail = node + 1 of the last node in the queue; 0 as long as no node ever asked.
//     kLostTail: its token died with a node (recovery_plan.hpp).
//  3. A slot is claimed by one compare_swap; two nodes that claim at once agree on the winner's slot, as both probe in the same order.
#pragma once

#include <cstdint>
#include <map>
#include <vector>

#include "nic/nic.hpp"
#include "sync/sync.hpp"

namespace netvm::sync {

/// Where a mutex's tail lies.
struct LockSlot {
  NodeId home{};
  std::uint32_t number = 0;  ///< in the home's table, counted from 1
};

class LockDirectory {
 public:
  LockDirectory(const SyncConfig& config, nic::Nic& nic);

  /// Which node keeps the tail of the mutex: by the offset's hash; where that node is dead, by another hash.
  [[nodiscard]] NodeId home_of(std::uint64_t offset) const;
  /// Whether the node that kept it first is dead: what its table said is not known.
  [[nodiscard]] bool has_moved(std::uint64_t offset) const;
  /// Finds or claims the slot. Blocks. E_EXHAUSTED: the home's table is full.
  Result<LockSlot> find(std::uint64_t offset);
  /// Puts this node at the queue's end and returns the tail before. Blocks.
  Result<std::uint64_t> swap_tail(const LockSlot& slot);
  /// Puts this node at the queue's end if the tail is `expected`; returns the tail before. Blocks.
  Result<std::uint64_t> compare_swap_tail(const LockSlot& slot, std::uint64_t expected);

  // ---- when nodes have died: while nobody else uses the directory (lock_gate.hpp) ----------------------------------------
  void declare_dead(NodeId node) { dead_[node.value] = true; }
  /// The tails, by offset, of what this node keeps, but those that are 0. Blocks.
  Status read_tails(std::map<std::uint64_t, std::uint64_t>* tails);
  /// Of a mutex that this node keeps. Blocks.
  Status write_tail(std::uint64_t offset, std::uint64_t tail);

 private:
  [[nodiscard]] std::uint64_t tail_at(const LockSlot& slot) const;

  SyncConfig config_;
  nic::Nic& nic_;
  std::vector<bool> dead_;
};

}  // namespace netvm::sync
