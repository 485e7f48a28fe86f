// Env: time, randomness, parking and tasks, as seen by nic/, sync/ and dsm/. Two worlds implement it:
// RealEnv (threads, futexes, CLOCK_MONOTONIC) and SimEnv (one thread, a virtual clock, fibers, a seed).
//
// Invariants
//  1. Code that takes an Env touches no other clock, thread, sleep or random source.
//  2. In the simulator nothing but relax(), park() and the functions built on them switches fibers; between two of those
//     calls a fiber runs alone.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <span>

#include "runtime/sanitizers.hpp"

namespace netvm {

/// Nanoseconds since an arbitrary start; a duration or a moment.
using Nanos = std::int64_t;
inline constexpr Nanos kForever = INT64_MAX;

/// One word to park on, with the value at which parking makes sense.
struct ParkOn {
  const std::atomic<std::uint32_t>* word;
  std::uint32_t expected;
};

inline constexpr std::size_t kMaxParkWords = 2;

class Env {
 public:
  Env() = default;
  Env(const Env&) = delete;
  Env& operator=(const Env&) = delete;
  virtual ~Env() = default;

  /// Monotone; virtual in the simulator.
  [[nodiscard]] virtual Nanos now() const = 0;

  /// 64 random bits; from the seed in the simulator, from the kernel on real machines.
  virtual std::uint64_t random() = 0;

  /// Blocks while every word still has its expected value, until a wake() on one of them or the deadline (absolute).
  /// May return spuriously. At most kMaxParkWords words (the first is the one that must be honoured; a real machine without
  /// futex_waitv parks on the first alone). Words may lie in memory shared between processes.
  virtual void park(std::span<const ParkOn> words, Nanos deadline) = 0;

  /// Whether the caller may park() and relax() here: not in the simulator's loop, nor outside of its run().
  [[nodiscard]] virtual bool can_park() const { return true; }

  /// Names the context that calls: its thread, or its fiber. Two that exist at the same time have different names; never 0.
  [[nodiscard]] virtual std::uintptr_t context() const = 0;

  /// Wakes up to `count` of those parked on the word. Safe from message handlers and from signal handlers.
  virtual void wake(const std::atomic<std::uint32_t>& word, int count) = 0;

  /// One step of a spin loop: a pause instruction, or on a crowded machine a yield of the processor; a fiber switch in the simulator.
  virtual void relax() = 0;

  /// How long it pays to spin before parking. 0 where threads outnumber cores and in the simulator.
  [[nodiscard]] virtual Nanos spin_budget() const = 0;

  /// The processor on which the caller runs at this moment; -1 if there is no such thing.
  [[nodiscard]] virtual int processor() const { return -1; }
  /// Has the system go on with the calling thread on a processor that is none of these, now; later it moves it as it likes. Some microseconds. False: there is
  /// none that the thread may use.
  virtual bool move_from(std::span<const int> /*processors*/) { return false; }

  /// Runs the task at the given moment, in a context that must not block (the engine's thread, or the simulator's loop).
  virtual void at(Nanos when, std::function<void()> task) = 0;

  /// Runs the task soon in a context of its own that may block.
  virtual void spawn(std::function<void()> task) = 0;
};

/// A place to wait for a change that somebody else announces; no lost wake-up. Lies in private or in shared memory,
/// zero-initialised is valid. Usage: waiter: `auto k = w.prepare(); if (!changed()) env.park(w.on(k), deadline); w.finish();`
/// announcer: change the state, then `w.announce(env)`.
class WaitWord {
 public:
  /// Registers as a waiter and returns the ticket; the state must be re-checked after this and before parking.
  std::uint32_t prepare() {
    waiters_.fetch_add(1, std::memory_order_seq_cst);
    return sequence_.load(std::memory_order_seq_cst);
  }
  void finish() { waiters_.fetch_sub(1, std::memory_order_seq_cst); }
  [[nodiscard]] ParkOn on(std::uint32_t ticket) const { return {&sequence_, ticket}; }
  /// Costs one fence and one load when nobody waits.
  void announce(Env& env) {
    if (anybody_registered()) {
      sequence_.fetch_add(1, std::memory_order_seq_cst);
      env.wake(sequence_, INT32_MAX);
    }
  }
  [[nodiscard]] bool has_waiters() const { return waiters_.load(std::memory_order_seq_cst) != 0; }

 private:
  // Orders the caller's state change before the look at waiters_; partner: prepare().
  bool anybody_registered() {
#if NETVM_TSAN
    return waiters_.fetch_add(0, std::memory_order_seq_cst) != 0;  // ThreadSanitizer does not understand fences
#else
    std::atomic_thread_fence(std::memory_order_seq_cst);
    return waiters_.load(std::memory_order_relaxed) != 0;  // relaxed: the fence above orders it
#endif
  }

  std::atomic<std::uint32_t> sequence_{0};
  std::atomic<std::uint32_t> waiters_{0};
};

/// A mutex for code that runs in both worlds: inside one node, between its threads (or fibers). Not recursive.
/// Satisfies *Lockable*. Blocks by spinning for env.spin_budget(), then parking.
class EnvMutex {
 public:
  explicit EnvMutex(Env& env) : env_(&env) {}
  void lock();
  bool try_lock();
  void unlock();

 private:
  Env* env_;
  std::atomic<std::uint32_t> state_{0};  // 0 free, 1 held, 2 held and somebody may be parked
};

/// Guards a few instructions that never block or switch fibers. In the simulator it is never contended.
class SpinLock {
 public:
  void lock() {
    while (flag_.exchange(true, std::memory_order_acquire)) {  // acquire: partner is unlock()'s release
      while (flag_.load(std::memory_order_relaxed)) {          // relaxed: only a hint, the exchange decides
        pause();
      }
    }
  }
  bool try_lock() { return !flag_.exchange(true, std::memory_order_acquire); }  // acquire: partner is unlock()'s release
  void unlock() { flag_.store(false, std::memory_order_release); }              // release: partner is lock()'s acquire

 private:
  static void pause();  // after a while it yields the processor: the holder may have been preempted
  std::atomic<bool> flag_{false};
};

}  // namespace netvm
