// Mutexes of one node: the algorithm. See sync.hpp for the idea, mutex_table.hpp for the state and its invariants.
//
// Invariants
//  1. One thread of one node holds a mutex. A local hand-over goes in order of arrival; nobody overtakes the queue.
//  2. Before the token can leave this node, on_release() has run since the last holder's last instruction, but no sooner than somebody asks
//     (docs/decisions/0012): an unlock with no node waiting only notes that it is due (LockState::unreleased). A handler grants an idle token at once if
//     nothing is due; else a task flushes first. Where the token came and went at once the last time, an unlock flushes at once, too.
//  3. A payload that came with the token is applied before any thread of this node holds, and before the token goes on: when nobody waits
//     any more, a task does it.
//  4. A contended hand-over between nodes costs one request and one grant, beside the swap at the home.
//  5. An offset that nobody of this node asked for has no state; a message about it, or one that fits no state, is a broken peer: reported.
// Threads: any, except that on_message comes from the NIC.
#pragma once

#include <atomic>
#include <cstdint>
#include <mutex>
#include <span>

#include "nic/nic.hpp"
#include "runtime/task_group.hpp"
#include "sync/coherence_hook.hpp"
#include "sync/lock_directory.hpp"
#include "sync/mutex_table.hpp"
#include "sync/sync_wire.hpp"
#include "sync/token_cargo.hpp"

namespace netvm::sync {

class Mutexes final : public nic::MessageHandler {
 public:
  /// `cargo`: what travels with the tokens of objects; null if only mutexes are used.
  Mutexes(const SyncConfig& config, nic::Nic& nic, CoherenceHook& hook, Stats& stats, TokenCargo* cargo = nullptr);
  /// Waits for tasks that still apply a payload. No thread may be inside a call.
  ~Mutexes() override;

  Status lock(std::uint64_t offset, std::uint64_t who, Nanos deadline);
  Result<bool> try_lock(std::uint64_t offset, std::uint64_t who);
  Status unlock(std::uint64_t offset, std::uint64_t who);
  [[nodiscard]] bool held_here(std::uint64_t offset) const;
  [[nodiscard]] std::uint64_t epoch_of(std::uint64_t offset) const;

  void on_message(NodeId from, std::span<const std::byte> body) noexcept override;
  /// Messages that were not ours, and dropped.
  [[nodiscard]] std::uint64_t dropped_messages() const { return dropped_.load(std::memory_order_relaxed); }  // relaxed: a statistic

 private:
  Result<LockSlot> slot_of(LockState& state);
  // Gets this node into the tail and asks the predecessor; the caller set token = requested. On failure everybody in the queue fails.
  void request_token(LockState& state);
  void send_request(LockState& state, NodeId predecessor);
  void fail_waiters(LockState& state, Status status);
  // The token is here (first of all nodes, or with a payload): the first waiter holds, or a task looks after it.
  void token_arrived(LockState& state, std::unique_lock<SpinLock>& guard);
  Status wait_for_grant(LockState& state, LockWaiter* waiter, Nanos deadline);
  void apply_payload(LockState& state);
  // Flushes, then hands on or keeps the token. The holder is a thread that unlocked (kReleasing) or a task (kCaretaker).
  void release(LockState& state);
  // A task does so for a token that lies idle. Ends the guard.
  void release_for(LockState& state, std::unique_lock<SpinLock>& guard);
  // What it needs while it travels. Under its guard.
  LockExtra& extra_of(LockState& state);
  // Takes back what the state does not need any more. Under its guard.
  void trim(LockState& state);
  // Gives the token to the successor; with waiters left, the first of them asks for it back.
  void grant_to_successor(LockState& state, std::unique_lock<SpinLock>& guard);
  // token = requested without a request: the first waiter makes one; without waiters token = absent.
  void elect_or_forget(LockState& state, std::unique_lock<SpinLock>& guard);
  Result<bool> try_remote(LockState& state, std::uint64_t who);
  // Asks the queue's last node; true if the mutex was free there.
  bool probe(LockState& state, LockWaiter* prober, NodeId last);
  bool claim_behind(LockState& state, const LockSlot& slot, LockWaiter* waiter, NodeId last, Status* status);

  void handle_request(LockState& state, NodeId from, const LockMessage& message);
  void handle_grant(LockState& state, NodeId from, const LockMessage& message);
  void handle_probe(LockState* state, NodeId from, const LockMessage& message);
  void handle_answer(LockState& state, const LockMessage& message);

  nic::Nic& nic_;
  CoherenceHook& hook_;
  Stats& stats_;
  TokenCargo* const cargo_;
  const std::uint32_t cohort_limit_;
  LockDirectory directory_;
  MutexTable table_;
  WaiterPool pool_;
  RecyclingPool<LockExtra> extras_;
  std::atomic<std::uint64_t> probes_{0};  // numbers questions; an answer to an old one fits nothing
  TaskGroup caretakers_;
  std::atomic<std::uint64_t> dropped_{0};
};

}  // namespace netvm::sync
