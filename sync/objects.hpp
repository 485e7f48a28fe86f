// Synchronisation objects of all kinds but mutexes, between the threads of all nodes: semaphores, reader-writer locks, wait queues, barriers, latches,
// flags, once. All of them are one thing: a monitor (Hoare 1974) whose lock is a mutex of this layer and whose state travels with that mutex's token.
//
// An operation takes the object's token, changes its state (a count, a queue of waiters) and lets the token go: without a message where this node had it
// last. One that lets others go on rides ahead of the request for the token (object_change.hpp). Who must wait enters itself into the state first; who finds that it may go on takes it out and tells it so: one message from the one to
// the other, with everything that its coherence layer must know. It never touches the token again.
//
// Invariants
//  1. ObjectState is read and changed by the holder of the object's token alone; pack() and unpack() run while nobody of this node can be.
//  2. A waiter that was taken out of the queue is woken exactly once, after the token was let go; should the waker die before, the state names both, and
//     the waiter's node tells it. One that gives up takes the token and takes itself
//     out; if it is not there, its wake-up is on its way, and it takes that. What takes longer than kPatience is left to a task, which passes the wake-up on.
//  3. What a waker grants is said while it has the token (hooks on_release, append_grant), so what different wakers of an object say never crosses.
//  4. What was written before an operation that lets others go is visible after every operation on the object that this one happens before: all are
//     chained by the token, and a wake-up carries what the waker knew.
//  5. What rides ahead carries what its node knows beyond what the other node told it last: never less than those that it wakes lack.
//  6. Waiters are recycled, never freed before the object table: a late announcement hits a live word. A number is used once.
//  7. With a node die the objects whose tokens it had: who waits for one gets E_OWNER_DEAD, and so does who uses it later. An object whose token survives goes
//     on without the waiters of the dead node, a reader-writer lock without its readers, once without its attempt; of the others, and a lock that it wrote
//     under, it breaks what it ever used (object_state.hpp): each survivor tells its own who wait.
//  8. Nothing is kept in shared memory. A node keeps what it knows of an object that one of its threads used, until it ends.
// Threads: any, except that on_message, pack and unpack come from the NIC. Every operation may block for the token, as a lock does.
#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "nic/nic.hpp"
#include "runtime/task_group.hpp"
#include "sync/coherence_hook.hpp"
#include "sync/object_change.hpp"
#include "sync/object_state.hpp"
#include "sync/token_cargo.hpp"

namespace netvm::sync {

class Mutexes;
struct Held;

/// Common to all operations. `offset` names the object, `who` the calling thread, as for a mutex. `deadline` (absolute): E_TIMEOUT after it, with nothing
/// changed, kPatience later at most; a deadline that has passed means: do not wait for others. E_INVALID: misuse, as the operation says, or the object is used as another
/// kind (kind_of() tells). Where `give_up` is given and becomes true (and look_again() is called then), a wait ends with E_TIMEOUT, too. E_EXHAUSTED: the lock table is full. E_OWNER_DEAD, E_PEER_DEAD: a node that mattered is gone. E_CANCELLED: the job ends.
class Objects final : public nic::MessageHandler, public TokenCargo {
 public:
  /// The count of an object that nobody used yet; asked for at its first use, while its token is held. May block.
  using Initial = std::function<std::uint64_t()>;

  Objects(Mutexes& mutexes, nic::Nic& nic, CoherenceHook& hook, Stats& stats, std::uint32_t most_joins);
  ~Objects() override;

  /// Begins anew as that kind with that count, whatever it was, also one whose state died with a node. E_INVALID: threads wait for it, or somebody has the
  /// reader-writer lock.
  Status init(std::uint64_t offset, std::uint64_t who, ObjectKind kind, std::uint64_t count);
  /// Those who wait for it at this node look at their `give_up`. Does not block.
  void look_again(std::uint64_t offset);
  /// As this node knows it, without asking anybody: for messages to people.
  [[nodiscard]] ObjectKind kind_of(std::uint64_t offset) const;

  // ---- counting semaphore: first come, first served; a permit that is given while somebody waits is his ----------------------------------
  Status acquire(std::uint64_t offset, std::uint64_t who, const Initial& initial, Nanos deadline = kForever,
                 const std::atomic<bool>* give_up = nullptr);
  /// E_INVALID: there would be more than `most` permits; nothing is changed.
  Status release(std::uint64_t offset, std::uint64_t who, std::uint64_t permits, std::uint64_t most, const Initial& initial);

  /// How many permits there are now.
  Result<std::uint64_t> permits(std::uint64_t offset, std::uint64_t who, const Initial& initial);

  /// How an object of that kind stands: its permits, the arrivals that are missing and how many there are in a phase, what is left of a latch's count.
  struct Counts {
    std::uint64_t count = 0;
    std::uint64_t limit = 0;
  };
  Result<Counts> counts(std::uint64_t offset, std::uint64_t who, ObjectKind kind, const Initial* initial = nullptr);

  // ---- reader-writer lock: in order of arrival; readers next to each other in the queue enter together ----------------------------------
  /// E_INVALID: this thread has it already, either way.
  Status lock(std::uint64_t offset, std::uint64_t who, Nanos deadline = kForever, const std::atomic<bool>* give_up = nullptr);
  Status lock_shared(std::uint64_t offset, std::uint64_t who, Nanos deadline = kForever, const std::atomic<bool>* give_up = nullptr);
  /// E_PERM: this thread does not have it so.
  Status unlock(std::uint64_t offset, std::uint64_t who);
  Status unlock_shared(std::uint64_t offset, std::uint64_t who);
  /// How many writers have been let in so far: of its writer the number that nobody else has, rising from writer to writer, without a message. Above that of
  /// every writer before once the lock is broken or lost.
  Result<std::uint64_t> fencing_token(std::uint64_t offset, std::uint64_t who);

  // ---- wait queue ------------------------------------------------------------------------------------------------------------------------
  /// This thread waits from now on: a wake() that comes after this finds it. Must be followed by wait(). E_TIMEOUT: the queue could not be had in time.
  Result<std::uint64_t> enqueue(std::uint64_t offset, std::uint64_t who, Nanos deadline = kForever);
  /// Blocks until woken. E_TIMEOUT: the deadline, or interrupt(); then this thread is no longer in the queue.
  Status wait(std::uint64_t offset, std::uint64_t who, std::uint64_t ticket, Nanos deadline = kForever,
              const std::atomic<bool>* give_up = nullptr);
  /// Makes wait() of that ticket return. Any thread of this node, at any time; never blocks.
  void interrupt(std::uint64_t ticket);
  /// Wakes up to `most` of those who wait, in their order. Returns how many.
  Result<std::uint64_t> wake(std::uint64_t offset, std::uint64_t who, std::uint64_t most);

  // ---- barrier: of `initial` arrivals a phase ----------------------------------------------------------------------------------------
  /// Not 0: E_INVALID unless the barrier is of that many arrivals.
  struct Arrival {
    std::uint64_t arrivals = 1;
    bool drops = false;            ///< and one less from the next phase on
    std::uint64_t must_be_of = 0;  ///< not 0: E_INVALID unless the barrier is of that many arrivals
    const std::function<void()>* on_completion =
        nullptr;  ///< runs at the last arrival, before anybody goes on. May block; must not use this object
  };
  /// Returns the phase. Does not wait for others. E_INVALID: more arrivals than are missing.
  Result<std::uint64_t> arrive(std::uint64_t offset, std::uint64_t who, const Initial& initial, const Arrival& arrival);
  /// Until the phase has ended.
  Status await_phase(std::uint64_t offset, std::uint64_t who, std::uint64_t phase, Nanos deadline = kForever,
                     const std::atomic<bool>* give_up = nullptr);
  /// Both in one; E_TIMEOUT does not take the arrival back.
  Status arrive_and_wait(std::uint64_t offset, std::uint64_t who, const Initial& initial, const Arrival& arrival,
                         Nanos deadline = kForever);

  // ---- latch: open when the count is 0, for good -----------------------------------------------------------------------------------------
  /// E_INVALID: more than are missing.
  Status count_down(std::uint64_t offset, std::uint64_t who, const Initial& initial, std::uint64_t by);
  Status await_latch(std::uint64_t offset, std::uint64_t who, const Initial& initial, Nanos deadline = kForever,
                     const std::atomic<bool>* give_up = nullptr);

  // ---- flag ----------------------------------------------------------------------------------------------------------------------------
  Status set_flag(std::uint64_t offset, std::uint64_t who, bool value);
  Status await_flag(std::uint64_t offset, std::uint64_t who, Nanos deadline = kForever, const std::atomic<bool>* give_up = nullptr);

  // ---- once ----------------------------------------------------------------------------------------------------------------------------
  /// True: this thread must do it and then call end_once(). False: it has been done. `again`: once more, if it has been done; of several who say so at
  /// once each does it, in turn.
  Result<bool> begin_once(std::uint64_t offset, std::uint64_t who, const std::atomic<bool>* give_up = nullptr, bool again = false);
  /// `done` = false: it failed, and the next who waits tries.
  Status end_once(std::uint64_t offset, std::uint64_t who, bool done);

  /// How the objects stand whose tokens lie idle here, and whose queues somebody stands in.
  [[nodiscard]] std::vector<Held> wanted();
  LockState& make_state() override;
  [[nodiscard]] bool in_use(SyncId object) override;
  [[nodiscard]] bool at_work(SyncId object) override;
  void forget(SyncId object, bool here) override;
  void pack(SyncId object, Bytes& out) override;
  bool unpack(SyncId object, std::span<const std::byte> cargo) override;
  void board(SyncId object, NodeId predecessor, const Ride& ride, Bytes& out) override;
  void asked(SyncId object, NodeId from, std::span<const std::byte> request) override;
  void arrive(SyncId object, NodeId from, std::span<const std::byte> ride) override;
  void lost(SyncId object) override;
  /// A node has died: nobody of it is woken any more. Any context; does not block.
  void on_death(NodeId node);
  /// The locks have recovered: tells those of this node who wait for what will not come. Any context; does not block.
  void mend();
  /// Waits for what has begun. Before the mutexes go.
  void close();
  /// Waits for what threads that gave up have left behind (leave_behind()).
  void settle() { menders_.drain(); }
  void on_message(NodeId from, std::span<const std::byte> body) noexcept override;
  /// Messages that were not ours, or woke nobody, and were dropped.
  [[nodiscard]] std::uint64_t dropped_messages() const { return dropped_.load(std::memory_order_relaxed); }  // relaxed: a statistic

 private:
  struct Object;   // what this node knows of one
  struct Waiter;   // a thread of this node that waits
  struct Grant;    // what came with a wake-up, for all whom it woke
  struct Readers;  // this node's readers and writer of a reader-writer lock
  struct Table;
  using Woken = WaiterQueue;

  Status lock_or_recover(Object& object, std::uint64_t who);
  // Whether somebody who lives has the reader-writer lock.
  bool is_held(const ObjectState& state);
  // Above the phases of all its lives before.
  [[nodiscard]] std::uint64_t phase_of_lost(const Object& object) const;
  Object& at(SyncId id);
  Object& named(std::uint64_t offset);
  // The operation, if it can be done in one short step; act(state) says whether.
  template <class Act>
  bool at_rest(Object& object, ObjectKind kind, Act&& act, bool may_look = false);
  // Takes the token. E_INVALID, and the token is gone again, if it is another kind of object. `ride`: goes along; its answer, if it was performed.
  Result<Object*> enter(Object& object, std::uint64_t who, ObjectKind kind, Nanos deadline = kForever,
                        const std::atomic<bool>* give_up = nullptr, const Initial* initial = nullptr, const Ride* ride = nullptr,
                        std::optional<RideAnswer>* answer = nullptr);
  // The token alone, for who waits no longer than that.
  Status take_token(Object& object, std::uint64_t who, Nanos deadline, const std::atomic<bool>* give_up, const Ride* ride);
  // Takes the token, and the change is made: here, or there before it came.
  Result<Outcome> enter_and(Object& object, std::uint64_t who, const Change& change, const Initial* initial = nullptr,
                            const std::function<void()>* on_completion = nullptr);
  // In one step, or as the above; the token is let go, those who may go on are woken.
  Result<std::uint64_t> make(Object& object, std::uint64_t who, const Change& change, const Initial* initial = nullptr,
                             const std::function<void()>* on_completion = nullptr);
  // Lets the token go and wakes these, each with the value.
  void leave(Object& object, std::uint64_t who, const Woken& woken = {}, std::uint64_t value = 0);
  // Of a reader-writer lock: those go on that it lets in now.
  void leave_lock(Object& object, std::uint64_t who);
  // The calling thread waits from now on. The token is held.
  Waiter* line_up(Object& object, QueuedWaiter::Role role = QueuedWaiter::Role::any);
  // The token is not held. The waiter is used up.
  Status await(Object& object, Waiter* waiter, std::uint64_t who, Nanos deadline, const std::atomic<bool>* give_up = nullptr,
               std::uint64_t* value = nullptr);
  // True: it was taken out of the queue. False: it has been woken. E_TIMEOUT: neither is known.
  Result<bool> withdraw(Object& object, std::uint64_t waiter_id, std::uint64_t who, Nanos deadline);
  // A thread that has given up, and could not get out of the queue in time, leaves its place to a task. False: no need to, it has been woken.
  bool leave_behind(Object& object, Waiter* waiter);
  // The task: takes the place out of the queue, or passes on what comes to it.
  void clear_up(Object& object, Waiter* waiter);
  void pass_on(Object& object, const Waiter& waiter, std::uint64_t who);
  void forget(Waiter* waiter);
  // All three under waiting_guard_. Null: nobody waits under this number.
  Waiter* find_waiter(std::uint64_t id);
  void recycle(Waiter* waiter);
  template <class Act>
  void each_waiter(Act&& act);
  // The calling thread may be trying again and again, on the core that this node's engine would need to hear of what it waits for.
  void found_nothing();
  // Whether the first so many of those that wait are threads of this node.
  [[nodiscard]] bool are_here(const ObjectState& state, std::size_t count) const;
  // What deaths that it does not know of mean to the object. The token is held.
  void note_deaths(Object& object);
  void mend(Object& object);
  void forget_woken(ObjectState& state);
  std::vector<std::uint64_t> never_woken(ObjectState& state);
  void tell_lost(std::uint64_t id);
  void orphan(Object& object);
  // False: nobody waits under this number.
  bool wake_local(std::uint64_t id, std::uint64_t value, const std::shared_ptr<Grant>& grant);
  void apply(Grant& grant);
  // lines up, lets the token go, waits: unless the deadline has passed.
  Status wait_in_line(Object& object, std::uint64_t who, Nanos deadline, const std::atomic<bool>* give_up = nullptr,
                      QueuedWaiter::Role role = QueuedWaiter::Role::any, std::uint64_t* value = nullptr);

  // Of once: the state's count.
  static constexpr std::uint64_t kOnceNotDone = 0;
  static constexpr std::uint64_t kOnceRuns = 1;
  static constexpr std::uint64_t kOnceDone = 2;
  static Woken next_to_run(ObjectState& state);  // takes out who waits first
  Woken let_in(ObjectState& state);              // whom a reader-writer lock lets in now

  Mutexes& mutexes_;
  nic::Nic& nic_;
  CoherenceHook& hook_;
  Stats& stats_;
  const std::uint32_t most_joins_;  // readers that join their node's share at most, before the next must queue
  std::unique_ptr<Table> table_;

  SpinLock waiting_guard_;
  static constexpr unsigned kPlaceBits = 20;  // of a waiter's number: its place in waiters_; the others say how many there were before
  std::deque<Waiter> waiters_;
  Waiter* free_ = nullptr;
  std::uint64_t waits_begun_ = 0;
  std::vector<bool> dead_;  // by node; under waiting_guard_
  std::atomic<std::uint32_t> deaths_{0};
  bool mending_ = false;     // under waiting_guard_
  bool mend_again_ = false;  // under waiting_guard_
  TaskGroup menders_;
  SpinLock told_guard_;
  std::vector<std::optional<Bytes>> told_;  // by node: what it told the coherence layer last; under told_guard_
  std::atomic<std::uint64_t> rides_{0};
  static constexpr std::uint32_t kDriveEvery = 16;
  std::atomic<std::uint32_t> fruitless_{0};
  std::atomic<std::uint64_t> dropped_{0};
};

}  // namespace netvm::sync
