// Mutex table: what one node knows of each mutex that one of its threads ever asked for. Found by offset, made at first use, never removed.
//
// Invariants
//  1. Everything in a LockState but its offset is read and written under its guard, which is held for a few instructions: never across a message,
//     a hook, a wait or a system call.
//  2. token == here: no other node has it. token == absent: the local queue is empty and nobody holds. token == requested: exactly one
//     request of this node is under way or queued at a predecessor.
//  3. At most one successor: every node swaps itself into the tail once for each time it gets the token.
//  4. Waiters are recycled, never freed before the table: a late wake-up hits a live word and is spurious at worst.
//  5. A mutex that is used costs one cache line, another object two (objects_impl.hpp); what only a hand-over between nodes needs (LockExtra) is lent to it for as long.
#pragma once

#include <atomic>
#include <cstdint>
#include <mutex>
#include <utility>
#include <vector>

#include "runtime/cpu.hpp"
#include "runtime/env.hpp"
#include "runtime/ids.hpp"
#include "runtime/status.hpp"
#include "sync/coherence_hook.hpp"
#include "sync/grant_line.hpp"
#include "sync/offset_table.hpp"
#include "sync/token_cargo.hpp"

namespace netvm::sync {

/// A thread that waits for a mutex: its queue node.
struct alignas(kCacheLine) LockWaiter {
  enum class State : std::uint32_t {
    waiting,
    granted,   ///< it holds the mutex
    elected,   ///< it must ask for the token on behalf of its node
    failed,    ///< the request came to nothing; see `status`
    answered,  ///< a probe of its try_lock was answered; see `answer_free`
  };
  WaitWord word;                             ///< where it waits, as a rule
  std::atomic<State> state{State::waiting};  ///< changed under the guard; looked at without it
  std::uint64_t who = 0;
  Status status = Status::ok;
  const std::atomic<bool>* give_up = nullptr;  ///< see Mutexes::lock()
  const Ride* ride = nullptr;                  ///< goes along with the request, if this waiter makes one
  bool answer_free = false;
  GrantLine* line = nullptr;      ///< this thread made a request, and looks at where the grant may come
  std::uint64_t line_before = 0;  ///< its `before`
  std::atomic<WaitWord*> place{
      &word};  ///< where it waits; of the line where it has one. Changed under the guard, before a change of `state` or after
  LockWaiter* next = nullptr;  ///< in the mutex's queue (a ring), or in the pool

  /// After every change of `state`, and where it shall look whether to give up.
  void announce(Env& env) {
    place.load(std::memory_order_relaxed)->announce(env);  // relaxed: who has changed `state` since has left the guard before
  }
};

/// What a mutex needs while its token travels.
struct LockExtra {
  NodeId granter{};
  Bytes payload;                      ///< came with the token; the next holder applies it before it goes on
  Bytes successor_request;            ///< the coherence payload of the successor's request
  Bytes successor_ride;               ///< what came along with it, and has not been done
  LockWaiter* prober = nullptr;       ///< a try_lock that waits for an answer
  std::uint64_t probe_number = 0;     ///< of its question
  std::uint64_t successor_probe = 0;  ///< the successor's question, to be answered behind the grant; 0: none
  std::uint64_t successor_line = 0;   ///< its counter, where the grant may go if it is nothing but that, plus 1; 0: none
  GrantLine* line = nullptr;          ///< lent to this node's request
  bool line_watched = false;          ///< by a handler: who looked at it has given up
  LockExtra* next = nullptr;          ///< in the pool
};

/// A node in two bytes.
struct ShortNodeId {
  static constexpr std::uint32_t kNodes = std::uint32_t{1} << 16;
  ShortNodeId& operator=(NodeId node) {
    value = static_cast<std::uint16_t>(node.value);
    return *this;
  }
  [[nodiscard]] NodeId id() const { return NodeId{value}; }
  std::uint16_t value = 0;
};

struct alignas(kCacheLine) LockState {
  enum class Token : std::uint8_t { absent, requested, here };
  // Holders that are no thread. Both work outside the guard and end in Mutexes::release().
  static constexpr std::uint64_t kNobody = 0;
  static constexpr std::uint64_t kReleasing = UINT64_MAX;      ///< a thread that unlocked flushes
  static constexpr std::uint64_t kCaretaker = UINT64_MAX - 1;  ///< a task applies a payload, or flushes for a node that asks

  [[nodiscard]] bool idle() const { return token == Token::here && holder == kNobody; }
  [[nodiscard]] bool held_by_thread() const { return token == Token::here && holder != kNobody && holder < kCaretaker; }

  [[nodiscard]] bool has_waiters() const { return last != nullptr; }
  /// The queue's head. It is not empty.
  [[nodiscard]] LockWaiter* first() const { return last->next; }
  void append(LockWaiter* waiter);
  void prepend(LockWaiter* waiter);
  /// Takes the head out and makes it the holder. The queue is not empty; the caller announces on the waiter's word afterwards.
  LockWaiter* hand_to_first();
  /// Takes the waiter out wherever it stands.
  void remove(LockWaiter* waiter);

  mutable SpinLock guard;
  Token token = Token::absent;
  bool has_successor : 1 = false;
  bool has_payload : 1 = false;
  bool unreleased : 1 = false;  ///< a thread unlocked, and on_release() has not run since
  bool asked : 1 = false;       ///< this node is in the queue, behind `predecessor`
  bool lost : 1 = false;        ///< its token died with a node
  bool migrates : 1 = false;    ///< the last stay of the token was a short one: the next probably is, too
  std::uint8_t stay = 0;        ///< unlocks since the token came, as far as they matter
  std::uint32_t slot = 0;       ///< where the tail lies: LockSlot::number; 0: not known
  std::uint16_t cohort =
      0;  ///< hand-overs inside this node since another one waits, and locks of the idle token since somebody looked whether one does
  ShortNodeId successor;
  ShortNodeId predecessor;
  std::uint64_t offset = 0;
  std::atomic<LockState*> chained{nullptr};  ///< of the table
  std::uint64_t holder = kNobody;
  std::uint64_t epoch = 0;     ///< fencing token: rises with every hand-over between nodes
  LockWaiter* last = nullptr;  ///< of the ring of waiters
  LockExtra* extra = nullptr;
};
static_assert(sizeof(LockState) == kCacheLine);

/// Every mutex, and every other object's lock, that a thread of this node ever used.
class MutexTable {
 public:
  /// `cargo`: makes the states of objects, and keeps them. Null if only mutexes are used.
  explicit MutexTable(TokenCargo* cargo) : cargo_(cargo) {}
  LockState& at(std::uint64_t offset) {
    return index_.at(offset, [&]() -> LockState& { return SyncId{offset}.is_object() ? cargo_->make_state() : mutexes_.make(); });
  }
  [[nodiscard]] LockState* find(std::uint64_t offset) const { return index_.find(offset); }
  [[nodiscard]] std::size_t size() const { return index_.size(); }
  [[nodiscard]] std::vector<LockState*> all() const { return index_.all(); }

 private:
  TokenCargo* const cargo_;
  OffsetTable<LockState> index_;
  StateBlocks<LockState> mutexes_;
};

/// Things of one kind that are lent and come back; they are freed with the pool. T has a member `next`.
template <class T>
class RecyclingPool {
 public:
  RecyclingPool() = default;
  RecyclingPool(const RecyclingPool&) = delete;
  RecyclingPool& operator=(const RecyclingPool&) = delete;
  ~RecyclingPool() {
    while (free_ != nullptr) delete std::exchange(free_, free_->next);
  }
  T* take() {
    {
      const std::lock_guard guard(guard_);
      if (free_ != nullptr) return std::exchange(free_, free_->next);
    }
    return new T;
  }
  void give_back(T* thing) {
    const std::lock_guard guard(guard_);
    thing->next = free_;
    free_ = thing;
  }

 private:
  SpinLock guard_;
  T* free_ = nullptr;
};

/// Queue nodes for waiting threads.
class WaiterPool {
 public:
  LockWaiter* take(std::uint64_t who);
  void give_back(LockWaiter* waiter) { pool_.give_back(waiter); }

 private:
  RecyclingPool<LockWaiter> pool_;
};

}  // namespace netvm::sync
