// Mutex table: what one node knows of each mutex that one of its threads ever asked for. Found by offset, made at first use, never removed.
//
// Invariants
//  1. Everything in a LockState is read and written under its guard, which is held for a few instructions: never across a message,
//     a hook, a wait or a system call.
//  2. token == here: no other node has it. token == absent: the local queue is empty and nobody holds. token == requested: exactly one
//     request of this node is under way or queued at a predecessor.
//  3. At most one successor: every node swaps itself into the tail once for each time it gets the token.
//  4. Waiters are recycled, never freed before the table: a late wake-up hits a live word and is spurious at worst.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>

#include "runtime/env.hpp"
#include "runtime/ids.hpp"
#include "sync/coherence_hook.hpp"
#include "sync/lock_directory.hpp"

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
  WaitWord word;                             ///< announced on after every change of `state`
  std::atomic<State> state{State::waiting};  ///< changed under the guard; looked at without it
  std::uint64_t who = 0;
  Status status = Status::ok;
  bool answer_free = false;
  LockWaiter* next = nullptr;  ///< in the mutex's queue, or in the pool
};

struct alignas(kCacheLine) LockState {
  enum class Token : std::uint8_t { absent, requested, here };
  // Holders that are no thread. Both work outside the guard and end in Mutexes::release().
  static constexpr std::uint64_t kNobody = 0;
  static constexpr std::uint64_t kReleasing = UINT64_MAX;      ///< the last holder flushes
  static constexpr std::uint64_t kCaretaker = UINT64_MAX - 1;  ///< the token came when nobody waited any more: a task applies its payload

  explicit LockState(std::uint64_t the_offset) : offset(the_offset) {}

  [[nodiscard]] bool idle() const { return token == Token::here && holder == kNobody; }
  [[nodiscard]] bool held_by_thread() const { return token == Token::here && holder != kNobody && holder < kCaretaker; }

  void append(LockWaiter* waiter);
  void prepend(LockWaiter* waiter);
  /// Takes the head out and makes it the holder. The queue is not empty; the caller announces on the waiter's word afterwards.
  LockWaiter* hand_to_first();
  /// Takes the waiter out wherever it stands.
  void remove(LockWaiter* waiter);

  mutable SpinLock guard;
  const std::uint64_t offset;
  Token token = Token::absent;
  std::uint64_t holder = kNobody;
  std::uint64_t epoch = 0;  ///< fencing token: rises with every hand-over between nodes
  LockWaiter* first = nullptr;
  LockWaiter* last = nullptr;
  std::uint32_t cohort = 0;  ///< hand-overs inside this node since another one waits

  bool has_successor = false;
  NodeId successor{};
  Bytes successor_request;  ///< the coherence payload of its request

  bool has_payload = false;  ///< came with the token; the next holder applies it before it goes on
  NodeId granter{};
  Bytes payload;

  LockWaiter* prober = nullptr;  ///< a try_lock that waits for an answer
  std::uint64_t probe_number = 0;

  bool slot_known = false;
  LockSlot slot;
};

class MutexTable {
 public:
  MutexTable();
  ~MutexTable();
  /// Makes the state if there is none. The reference is valid as long as the table. Any thread; does not block.
  LockState& at(std::uint64_t offset);
  /// Null if no thread of this node ever asked for it.
  [[nodiscard]] LockState* find(std::uint64_t offset) const;

 private:
  struct Map;
  std::unique_ptr<Map> map_;
};

/// Queue nodes for waiting threads.
class WaiterPool {
 public:
  WaiterPool() = default;
  WaiterPool(const WaiterPool&) = delete;
  WaiterPool& operator=(const WaiterPool&) = delete;
  ~WaiterPool();
  LockWaiter* take(std::uint64_t who);
  void give_back(LockWaiter* waiter);

 private:
  SpinLock guard_;
  LockWaiter* free_ = nullptr;
};

}  // namespace netvm::sync
