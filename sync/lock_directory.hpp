// Lock directory: where the tail of a mutex's queue lies. Each node keeps a table for the mutexes whose home it is: open addressing over
// (key, tail) pairs in NIC memory, reached by everybody, the home included, with NIC atomics alone.
//
// Invariants
//  1. key = offset + 1 (0: the slot is free). A key, once claimed, never changes or moves: its slot may be remembered for ever.
//  2. tail = node + 1 of the last node in the queue; 0 as long as no node ever asked.
//     kLostTail: its token died with a node (recovery_plan.hpp); that stays until somebody revives it.
//  3. A tail counts at its home alone: where it was before it was placed elsewhere, what was there may lie there yet.
//  4. A slot is claimed by one compare_swap; two nodes that claim at once agree on the winner's slot, as both probe in the same order.
//  5. Before a node uses a lock for the first time it has said so to all: in the table of the page's home, by the page's number's hash, the page has a slot whose
//     tail has a bit for each 64 bytes of it. Bits are never taken back: who freed a lock's memory may have left its token at a node that needs no slot again.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <unordered_map>
#include <vector>

#include "nic/nic.hpp"
#include "runtime/env.hpp"
#include "runtime/ids.hpp"
#include "sync/home_rules.hpp"
#include "sync/sync.hpp"

namespace netvm::sync {

/// How long somebody waits for the answer of a home. What has been asked cannot be taken back: where the time is over first (E_TIMEOUT), the answer is still to
/// come, in `late`, and what it says holds.
struct Patience {
  Nanos deadline = kForever;
  std::shared_ptr<nic::Completion> late = {};
};

/// Of one that is done.
[[nodiscard]] Result<std::uint64_t> outcome_of(const nic::Completion& atomic);

/// Where a mutex's tail lies.
struct LockSlot {
  NodeId home{};
  std::uint32_t number = 0;  ///< in the home's table, counted from 1
};

class LockDirectory {
 public:
  LockDirectory(const SyncConfig& config, nic::Nic& nic);

  /// Which node keeps the tail of the mutex: the one that was chosen, or by the offset's hash; where that node is dead, by another hash.
  [[nodiscard]] NodeId home_of(std::uint64_t offset) const { return living(first_home_of(offset), offset); }
  /// Whether the node that kept it first is dead: what its table said is not known.
  [[nodiscard]] bool has_moved(std::uint64_t offset) const;
  /// Finds or claims the slot. Blocks, with `patience` no longer than that says. E_EXHAUSTED: the home's table is full.
  Result<LockSlot> find(std::uint64_t offset, Patience* patience = nullptr) { return probe(offset, home_of(offset), true, patience); }
  /// Puts this node at the queue's end, unless the lock is lost, and returns the tail before. Blocks, likewise.
  Result<std::uint64_t> swap_tail(const LockSlot& slot, Patience* patience = nullptr);
  /// Puts this node at the queue's end if the tail is `expected`; returns the tail before. Blocks, likewise.
  Result<std::uint64_t> compare_swap_tail(const LockSlot& slot, std::uint64_t expected, Patience* patience = nullptr);

  // ---- what was ever used ------------------------------------------------------------------------------------------------
  /// This node is about to use the lock at the offset for the first time. Blocks, likewise. E_EXHAUSTED.
  Status mark_used(std::uint64_t offset, Patience* patience);
  /// Whether any node may ever have used a lock in there (or in the 64 bytes around): all that happened before this call is known. Memory of two pages at
  /// most. Blocks.
  Result<bool> was_used(const MemoryRange& memory);

  /// Makes this node the only one in the queue of a lock that is lost; returns the tail before. Blocks.
  Result<std::uint64_t> revive_tail(const LockSlot& slot);
  /// Blocks.
  Status write_tail(const LockSlot& slot, std::uint64_t tail);

  // ---- chosen homes: while nobody else uses what lies there (mutex_place.cpp) --------------------------------------------
  [[nodiscard]] bool is_placed(const MemoryRange& memory) const { return rules_.any_in(memory); }
  void place(const MemoryRange& memory, const HomeRule& rule) { rules_.set(memory, rule); }
  /// As if the rule were set: writes the tail at that home. Blocks. E_EXHAUSTED.
  Status write_tail_under(const MemoryRange& memory, const HomeRule& rule, std::uint64_t offset, std::uint64_t tail);

  // ---- when nodes have died: while nobody else uses the directory (lock_gate.hpp) ----------------------------------------
  void declare_dead(NodeId node) { dead_[node.value] = true; }
  /// The tails, by offset, of what this node keeps, but those that are 0. Blocks.
  Status read_tails(std::map<std::uint64_t, std::uint64_t>* tails);
  /// Of a mutex that this node keeps. Blocks.
  Status write_tail(std::uint64_t offset, std::uint64_t tail);

 private:
  [[nodiscard]] std::uint64_t tail_at(const LockSlot& slot) const;
  [[nodiscard]] NodeId hashed_home_of(std::uint64_t offset) const;
  [[nodiscard]] NodeId first_home_of(std::uint64_t offset) const;
  [[nodiscard]] NodeId living(NodeId home, std::uint64_t offset) const;
  Result<std::uint64_t> ask(NodeId home, std::uint64_t at, const nic::AtomicArgs& args, Patience* patience);
  // The slot in that home's table; where there is none it `claims` one (E_EXHAUSTED), or says slot 0.
  Result<LockSlot> probe(std::uint64_t offset, NodeId home, bool claims, Patience* patience);

  // Of a page, in place of a lock's offset.
  static constexpr std::uint64_t kPageBit = std::uint64_t{1} << 62;
  static constexpr std::uint64_t kLineBytes = kPageSize / 64;
  struct UsedPage {
    std::uint32_t slot = 0;
    std::uint64_t marked = 0;  // by this node
  };
  UsedPage used_page(std::uint64_t page) const;

  SyncConfig config_;
  nic::Nic& nic_;
  std::vector<bool> dead_;
  HomeRules rules_;
  mutable SpinLock used_guard_;
  std::unordered_map<std::uint64_t, UsedPage> used_;  // by page, those that this node knows of; under used_guard_; lookup only
};

}  // namespace netvm::sync
