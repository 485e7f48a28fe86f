// Mutexes of one node: the algorithm. See sync.hpp for the idea, mutex_table.hpp for the state and its invariants.
//
// Invariants
//  1. One thread of one node holds a mutex. A local hand-over goes in order of arrival; nobody overtakes the queue.
//  2. Before the token can leave this node, on_release() has run since the last holder's last instruction, but no sooner than somebody asks
//     (docs/decisions/0012): an unlock with no node waiting only notes that it is due (LockState::unreleased). A handler grants an idle token at once if
//     nothing is due; else a task flushes first. Where the token came and went at once the last time, an unlock flushes at once, too.
//  3. A payload that came with the token is applied before any thread of this node holds, and before the token goes on: when nobody waits
//     any more, a task does it.
//  4. A contended hand-over between nodes costs one request and one grant, beside the swap at the home. A mutex's grant without a payload goes into the line
//     that the request named, if that node is reached directly (grant_line.hpp); whoever made the request looks there, and when it gives up a handler does.
//  5. An offset that nobody of this node asked for has no state; a message about it, or one that fits no state, is a broken peer: reported.
//  6. What concerns other nodes happens inside the gate (lock_gate.hpp): swaps, requests, grants. It is closed while a death is dealt with.
//  7. A thread with a deadline waits for no other node beyond it, one of try_lock() for none beyond kPatience. A swap at a home that has not answered by then
//     is a task's: whatever it finds is settled as if the thread had given up right behind it. A question that was not answered is forgotten (its number).
// Threads: any, except that on_message comes from the NIC.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <span>
#include <vector>

#include "nic/nic.hpp"
#include "runtime/task_group.hpp"
#include "sync/coherence_hook.hpp"
#include "sync/home_rules.hpp"
#include "sync/lock_directory.hpp"
#include "sync/lock_gate.hpp"
#include "sync/mutex_table.hpp"
#include "sync/recovery_plan.hpp"
#include "sync/sync_wire.hpp"
#include "sync/token_cargo.hpp"
#include "sync/waits.hpp"

namespace netvm::sync {

class Mutexes final : public nic::MessageHandler {
 public:
  /// `cargo`: what travels with the tokens of objects; null if only mutexes are used.
  Mutexes(const SyncConfig& config, nic::Nic& nic, CoherenceHook& hook, Stats& stats, TokenCargo* cargo = nullptr);
  /// Tokens that come for nobody, or are asked for by nobody any more, stay where they are from now on; waits for tasks that apply a payload or flush.
  void end();
  /// Waits for tasks that still apply a payload. No thread may be inside a call.
  ~Mutexes() override;

  Status lock(std::uint64_t offset, std::uint64_t who, Nanos deadline, const std::atomic<bool>* give_up = nullptr) {
    return lock(state_of(offset), who, deadline, give_up);
  }
  void look_again(std::uint64_t offset);
  Result<bool> try_lock(std::uint64_t offset, std::uint64_t who);
  Status unlock(std::uint64_t offset, std::uint64_t who) {
    LockState* const found = table_.find(offset);
    return found == nullptr ? Status::perm : unlock(*found, who);
  }
  [[nodiscard]] bool held_here(std::uint64_t offset) const;
  [[nodiscard]] std::uint64_t epoch_of(std::uint64_t offset) const;
  /// See Sync.
  [[nodiscard]] std::optional<SyncId> busy_in(std::uint64_t offset, std::uint64_t bytes) const;
  Result<std::optional<MemoryUse>> free_memory(std::uint64_t offset, std::uint64_t bytes, std::uint64_t who);
  Status place(const MemoryRange& memory, const HomeRule& rule);
  /// See Sync. `state` is the lock of an object that it is for, too.
  Result<bool> recover(LockState& state, std::uint64_t who);
  Result<bool> recover(std::uint64_t offset, std::uint64_t who) { return recover(state_of(offset), who); }
  /// What this node's threads wait for, those of the other objects included.
  [[nodiscard]] Waits& waits() { return waits_; }
  /// The mutexes that threads of this node hold while somebody waits for them.
  [[nodiscard]] std::vector<Held> held_and_wanted() const;

  // ---- for Objects, which know their locks ------------------------------------------------------------------------------------
  LockState& state_of(std::uint64_t offset) { return table_.at(offset); }
  [[nodiscard]] const LockState* find(std::uint64_t offset) const { return table_.find(offset); }
  /// `ride`: goes along if this call makes a request for the token; must outlive the call.
  Status lock(LockState& state, std::uint64_t who, Nanos deadline, const std::atomic<bool>* give_up = nullptr, const Ride* ride = nullptr);
  Status unlock(LockState& state, std::uint64_t who);
  /// Whether a lock() that came now would have to ask another node.
  [[nodiscard]] static bool is_away(const LockState& state) {
    const std::lock_guard guard(state.guard);
    return state.token == LockState::Token::absent;
  }
  /// Lock, act() and unlock in one short step, if the token lies idle here and no node waits for it. act() must neither block nor call this class, and
  /// says whether it did anything; if not, and where this is not possible, false is returned and nothing has happened.
  /// `may_look`: what act() has done has left the object free, and a thread that comes again and again may look() after it.
  template <class Act>
  bool try_at_rest(LockState& state, Act&& act, bool may_look = false) {
    std::unique_lock guard(state.guard);
    if (!state.idle() || state.has_successor || (state.migrates && state.stay <= kShortStay)) return false;
    if (!act()) return false;
    state.unreleased = true;
    if (state.stay <= kShortStay) ++state.stay;
    const bool looks = may_look && look_is_due(state, kObjectStay);
    guard.unlock();
    if (looks) [[unlikely]]
      look();
    return true;
  }
  /// For a thread that comes again and again without waiting: looks whether other nodes want something of this one.
  void look();

  /// act(state) of each lock whose token lies idle here, under its guard.
  template <class Act>
  void each_at_rest(Act&& act) {
    for (LockState* const state : table_.all()) {
      const std::lock_guard guard(state->guard);
      if (state->idle()) act(*state);
    }
  }

  // ---- for Recovery: a round's steps, in this order, while the gate is closed ----------------------------------------------
  [[nodiscard]] LockGate& gate() { return gate_; }
  /// A node has died: nobody waits for its answers. Any context.
  void on_death() { census_.answered.announce(nic_.env()); }
  /// What the dead have placed last is told to the others, should they not have been; what they only began is dropped. Before and after a node has heard
  /// that all others have closed their gates.
  void pass_on_placements(std::span<const NodeId> dead);
  void drop_placements(std::span<const NodeId> dead);
  /// Those who ask whether a mutex is free are told that it is not.
  void forget_questions();
  /// How this node's mutexes stand, by keeper; the dead are nobody's home any more, and nobody follows anybody here.
  std::map<NodeId, std::vector<LockReport>> report(std::span<const NodeId> dead);
  /// As keeper: writes the tails. Blocks. E_CANCELLED.
  Result<RecoveryPlan> decide(const std::map<NodeId, std::vector<LockReport>>& reports);
  void apply(std::span<const LockVerdict> verdicts);
  /// The gate is open again.
  void resume();

  void on_message(NodeId from, std::span<const std::byte> body) noexcept override;
  /// Messages that were not ours, and dropped.
  [[nodiscard]] std::uint64_t dropped_messages() const { return dropped_.load(std::memory_order_relaxed); }  // relaxed: a statistic

 private:
  // A stay of at most so many unlocks is short: the token was fetched for them alone, and flushing at once costs its node little.
  static constexpr std::uint8_t kShortStay = 2;

  // Who looks so often serves other nodes sooner than the engine could; as long as that one stands by at first (Nic::drive()).
  static constexpr Nanos kOften = 50'000;
  // An object's token costs ten times as much to hand over as a mutex's, and waiters come with it: so many uses for one look.
  static constexpr std::uint32_t kObjectStay = 128;

  // Whether a thread shall look() whether another node has asked for the token: it has been used here `after` times since somebody did. The engine would
  // have to find a processor first, and who only locks and unlocks looks at no ring. Under its guard.
  [[nodiscard]] static bool look_is_due(LockState& state, std::uint32_t after) {
    if (++state.cohort <= after) [[likely]]
      return false;
    state.cohort = 0;
    return true;
  }
  // Of an idle lock. Leaves the guard.
  void take_idle(LockState& state, std::uint64_t who, std::unique_lock<SpinLock>& guard) {
    state.holder = who;
    const bool looks = look_is_due(state, cohort_limit_);
    guard.unlock();
    stats_.add(Stat::lock_acquires);
    if (looks) [[unlikely]]
      look();
  }
  Result<LockSlot> slot_of(LockState& state, Patience* patience = nullptr);
  // Gets this node into the tail and asks the predecessor; token = requested, nobody else does it, and the gate was entered: it is left here. If it comes to
  // nothing, everybody in the queue fails, or somebody is elected to ask the home that takes the dead one's place. Where the home has not answered by the
  // deadline a task goes on with it, and the waiter is one like others.
  void request_token(LockState& state, LockWaiter* waiter, Nanos deadline);
  // What the swap found. `waiter`: who made it, if a thread that waits did.
  void swapped(LockState& state, const Result<LockSlot>& slot, const Result<std::uint64_t>& tail, LockWaiter* waiter);
  // A task waits for the answer that a thread did not wait for any more, sees to it that `settle` makes something of it, and leaves the gate.
  void settle_late(const Patience& patience, std::function<void(const Result<std::uint64_t>&)> settle);
  void send_request(LockState& state, NodeId predecessor, const Ride* ride = nullptr);
  // The token is here from now on, with this epoch. Under its guard.
  void take_token(LockState& state, std::uint64_t epoch);
  // The request has been answered, or came to nothing: its line is lent no more. Under its guard.
  void end_line(LockState& state);
  // Takes the token if it has come into the line of the request. Under its guard.
  bool take_from_line(LockState& state);
  // What the waiter's line says; it may become the holder. Ends the guard for a moment.
  void look_at_line(LockState& state, LockWaiter* waiter, std::unique_lock<SpinLock>& guard);
  // The waiter does not look at its line any more, if that is lent to the request yet. Ends the guard.
  void watch_line(LockState& state, LockWaiter* waiter, std::unique_lock<SpinLock>& guard);
  // There is no token here, and none has been asked for. Ends the guard.
  void fail_waiters(LockState& state, Status status, std::unique_lock<SpinLock>& guard);
  // An atomic at the home failed. Ok if the home is known to be dead: somebody is elected to ask the one that takes its place; else all waiters fail, and it
  // is returned.
  Status came_to_nothing(LockState& state, Status status);
  // Whether the tail says that the token died with a node. 0 at a keeper that has not kept it from the beginning: nobody knows.
  [[nodiscard]] bool is_lost(const LockState& state, std::uint64_t tail) const {
    return (tail & kLostTail) != 0 || (tail == 0 && directory_.has_moved(state.offset));
  }
  // Whether the tail was left where it lay when the lock was placed elsewhere, and the nodes that had used it since are dead: a recovery leaves no other that
  // names a dead node. So nobody has used the lock.
  [[nodiscard]] bool is_of_before(std::uint64_t tail) const {
    return tail != 0 && tail <= nic_.nodes() && gate_.is_long_dead(NodeId{static_cast<std::uint32_t>(tail - 1)});
  }
  // Of one that nobody alive knows: each death before may have ended a life of it.
  [[nodiscard]] std::uint64_t epoch_of_lost(std::uint64_t tail) const {
    return tail == 0 ? gate_.deaths() * kLostEpochs : tail & ~kLostTail;
  }
  // Its tail says so, or nobody knows better: then it says so from now on.
  void found_lost(LockState& state, const LockSlot& slot, std::uint64_t tail);
  // Its token died with a node, which left it with at most this epoch: all who wait are told.
  void mark_lost(LockState& state, std::uint64_t epoch);
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
  // The successor's request, which is about to be granted; the caller gives it back to extras_. As a rule it is what the state has: so nothing is freed before
  // the grant. Under its guard.
  LockExtra* take_request(LockState& state);
  // Takes back what the state does not need any more. Under its guard.
  void trim(LockState& state);
  // The first waiter holds, or the token lies idle.
  void keep(LockState& state, std::unique_lock<SpinLock>& guard);
  // Gives the token to the successor; with waiters left, the first of them asks for it back. Keeps it while the gate is closed.
  void grant_to_successor(LockState& state, std::unique_lock<SpinLock>& guard);
  // Of an idle token: at once, or after a task has flushed. What came along with the request is done before.
  void grant_idle(LockState& state, std::unique_lock<SpinLock>& guard);
  // token = requested without a request: the first waiter makes one; without waiters token = absent.
  void elect_or_forget(LockState& state, std::unique_lock<SpinLock>& guard);
  Result<bool> try_remote(LockState& state, std::uint64_t who, Nanos deadline);
  // What a swap of try_remote() found for which nobody waits any more: if the tail was `expected`, this node is behind `last`, or had the token first of all.
  void settle_try(LockState& state, const Result<LockSlot>& slot, std::uint64_t expected, std::optional<NodeId> last,
                  const Result<std::uint64_t>& tail);
  // Asks the queue's last node; true if the mutex was free there, false also if no answer came.
  bool probe(LockState& state, LockWaiter* prober, NodeId last, Nanos deadline);
  // Nobody probes any more; until then what fails the waiters fails the prober, too. Under its guard.
  void end_probe(LockState& state);
  bool claim_behind(LockState& state, LockWaiter* waiter, NodeId last, Nanos deadline, Status* status);

  // Questions to all nodes about some memory: mutex_freed.cpp.
  static constexpr std::uint64_t kNothing = UINT64_MAX;
  static constexpr std::uint64_t kUnderWay = UINT64_MAX - 1;
  struct LocalUse {
    std::optional<SyncId> busy;  // what a thread of this node holds, or waits for
    bool under_way = false;      // a token comes or goes though nobody is at its lock any more, or is looked after
  };
  [[nodiscard]] LocalUse use_of(MemoryRange memory) const;
  // Whether any node may ever have used what lies there. Blocks.
  Result<bool> was_used(MemoryRange memory);
  // Blocks until somebody is at something in there, which is returned, or no token of it moves.
  Result<std::optional<MemoryUse>> use_when_settled(MemoryRange memory);
  template <class Act>
  void each_in(MemoryRange memory, Act&& act) const;
  // Those that are lost are appended.
  void forget_in(MemoryRange memory, std::vector<LockTail>* lost);
  // Blocks until all who live have answered. What the first of them uses; the tails that they named are in census_.
  Result<std::optional<MemoryUse>> ask_all(LockMessageType question, std::uint64_t offset, std::span<const std::byte> payload);
  void answer(NodeId to, const LockMessage& question, std::uint64_t used, std::span<const LockTail> tails = {});
  void handle_freed(NodeId from, const LockMessage& message);
  void handle_use(NodeId from, const LockMessage& message);

  // What was found in the tail of a lock that was lost decides whether this thread has it now.
  Result<bool> hold_recovered(LockState& state, std::uint64_t tail, std::uint64_t who);

  // Chosen homes: mutex_place.cpp.
  // False: nodes have died meanwhile.
  Result<bool> try_to_place(const MemoryRange& memory, HomeRule rule);
  // Nobody of this node asks for what lies there, until the placer says so. Something that is on its way between nodes, if there is; then nothing has
  // happened. Else the tails of the tokens that are here, and of those that are lost.
  std::optional<SyncId> hold_still(NodeId placer, const MemoryRange& memory, std::vector<LockTail>* tails);
  // What was asked for meanwhile is granted.
  void let_go(NodeId placer, const MemoryRange& memory);
  void settle(const Placed& placed, const MemoryRange& memory);
  void handle_hold_still(NodeId from, const LockMessage& message);
  void handle_placed(NodeId from, const LockMessage& message);
  void handle_revived(NodeId from, const LockMessage& message);

  void handle(NodeId from, const LockMessage& message);
  void handle_lost(LockState& state, const LockMessage& message);
  void handle_request(LockState& state, NodeId from, const LockMessage& message);
  void handle_grant(LockState& state, NodeId from, const LockMessage& message);
  void handle_probe(LockState* state, NodeId from, const LockMessage& message);
  void handle_answer(LockState& state, const LockMessage& message);

  nic::Nic& nic_;
  CoherenceHook& hook_;
  Stats& stats_;
  TokenCargo* const cargo_;
  const std::uint32_t cohort_limit_;
  Waits waits_;
  LockGate gate_;
  LockDirectory directory_;
  MutexTable table_;
  WaiterPool pool_;
  RecyclingPool<LockExtra> extras_;
  GrantLines lines_;
  EnvMutex census_turn_;
  struct Census {
    SpinLock guard;
    std::uint64_t number = 0;  // of the question
    std::vector<bool> awaited;
    std::optional<MemoryUse> used;
    bool under_way = false;
    std::vector<LockTail> tails;
    WaitWord answered;
  } census_;
  struct LastPlaced {
    Placed placed;
    MemoryRange memory;
  };
  std::map<NodeId, LastPlaced> last_placed_;  // by placer; under census_.guard
  // Those that this node found lost as their keeper: it may be that nobody who lives has asked for them. By offset, the tails; under census_.guard.
  std::map<std::uint64_t, std::uint64_t> lost_;
  std::atomic<std::uint64_t> probes_{0};  // numbers questions; an answer to an old one fits nothing
  std::atomic<Nanos> last_look_{0};       // of any thread
  std::atomic<bool> rests_{false};        // end()
  TaskGroup caretakers_;
  std::atomic<bool> ended_{false};  // the job ends under this node: a swap was cut off, and nobody can know whether it happened
  std::atomic<std::uint64_t> dropped_{0};
};

// Every state of this node in the memory, of mutexes and of other objects.
template <class Act>
void Mutexes::each_in(MemoryRange memory, Act&& act) const {
  constexpr std::uint64_t kSpacing = 8;
  if (memory.bytes / kSpacing <= table_.size()) {
    for (std::uint64_t at = memory.offset; at < memory.offset + memory.bytes; at += kSpacing) {
      if (LockState* const mutex = table_.find(at)) act(*mutex);
      if (LockState* const object = table_.find(SyncId::of_object(at).offset)) act(*object);
    }
    return;
  }
  for (LockState* const state : table_.all()) {
    if (memory.contains(SyncId{state->offset}.address())) act(*state);
  }
}

}  // namespace netvm::sync
