// How long a wait spins before it parks (SpinBudget), and how a node learns how long pays (SpinHistory): competitive spinning whose budget follows the
// waits before (Karlin, Li, Manasse, Owicki 1991).
//
// A budget that is too small can keep itself too small: of two nodes that tell each other at once each finds the other asleep, goes on alone as far as it can,
// and sleeps before the other is awake (decision 0018). So a sleep that a few times as much spinning would have spared makes the next waits spin for longer;
// long sleeps, and waits that ended early while they spun, take that back.
//
// Invariants
//  1. A budget lies between Env::spin_budget() and kMostGrowth times that; where that is 0, it is 0: threads outnumber cores.
//  2. Waits that are always long spin for Env::spin_budget() each, but for the few after which the budget has come back to it.
//  3. The clock is asked where a look at it is due anyway, and around a sleep: a look at the clock costs more than one at the rings.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>

#include "runtime/env.hpp"

namespace netvm::nic {

/// What the waits of one node have in common. Threads: any; a budget that is lost to another thread's is none that matters.
class SpinHistory {
 public:
  static constexpr Nanos kMostGrowth = 8;
  static constexpr Nanos kLongSleep = 4;  ///< a sleep of more than so many times what was spun before it is a long one

  explicit SpinHistory(Nanos least) : least_(least), budget_(least) {}

  [[nodiscard]] Nanos budget() const { return budget_.load(std::memory_order_relaxed); }  // relaxed: a hint
  /// What was awaited came, to a thread that had spun for `spun` and then slept for `slept`, its wake-up included.
  void slept(Nanos spun, Nanos slept) {
    if (slept <= kLongSleep * spun) {
      set(std::min(std::max(budget(), 2 * spun), kMostGrowth * least_));
    } else {
      set(std::max(budget() / 2, least_));
    }
  }
  /// What was awaited came while the thread spun, `spun` after it began to.
  void answered(Nanos spun) {
    const Nanos now = budget();
    if (now > least_ && spun < least_ / 2) set(std::max(now - now / 16, least_));
  }

 private:
  void set(Nanos budget) { budget_.store(budget, std::memory_order_relaxed); }  // relaxed: a hint

  const Nanos least_;
  std::atomic<Nanos> budget_;
};

/// When a thread that finds another node's on its processor may ask to be moved: not every time, and ever more seldom while the system keeps putting it back.
/// Threads: any.
class ProcessorMoves {
 public:
  static constexpr Nanos kFirstPause = 1'000'000;
  static constexpr Nanos kLongestPause = 64 * kFirstPause;

  /// True: now, and the caller tries; who succeeds says so.
  [[nodiscard]] bool due(Nanos now) {
    Nanos next = next_.load();
    return now >= next && next_.compare_exchange_strong(next, now + kFirstPause);
  }
  void moved(Nanos now) {
    const Nanos pause = pause_.load();
    const Nanos since = now - moved_.exchange(now);
    const Nanos longer = since > 2 * pause ? kFirstPause : std::min(2 * pause, kLongestPause);
    pause_.store(longer);
    next_.store(now + longer);
  }

 private:
  std::atomic<Nanos> next_{0};
  std::atomic<Nanos> moved_{0};
  std::atomic<Nanos> pause_{kFirstPause};
};

/// Of one wait.
class SpinBudget {
 public:
  SpinBudget(Env& env, SpinHistory& history) : env_(env), history_(history), budget_(history.budget()), left_(budget_) {}

  [[nodiscard]] bool any() const { return left_ > 0; }
  /// Nothing has happened. True: look again. False: look at the clock first.
  bool turn() {
    if (left_ <= 0) return false;
    env_.relax();
    return ++turns_ % kTurns != 0;
  }
  /// Something has happened, if not what is awaited: somebody is at work, and the next thing is probably near. Where anything is spun at all, all of it again.
  void renew() {
    if (looked_at_ == 0) return;
    left_ = budget_ = history_.budget();
    looked_at_ = asleep_at_ = 0;
  }
  /// Whether the clock has not been looked at yet, since the beginning or renew().
  [[nodiscard]] bool begins() const { return left_ > 0 && looked_at_ == 0; }
  /// To spin would be in vain, whatever the waits before have taught. Until the end of this wait.
  void give_up() { left_ = looked_at_ = 0; }
  /// Whether to go on spinning. Once false, false until renew().
  bool lasts(Nanos now) {
    if (left_ <= 0) return false;
    if (looked_at_ != 0) left_ -= now - looked_at_;
    looked_at_ = now;
    return left_ > 0;
  }
  /// The thread is about to sleep.
  void sleeps(Nanos now) {
    if (asleep_at_ == 0) asleep_at_ = now;
  }
  /// What was awaited is here.
  void over() {
    if (looked_at_ == 0) return;  // at once, or nothing is spun here
    if (asleep_at_ != 0) {
      history_.slept(budget_, env_.now() - asleep_at_);
    } else {
      history_.answered(budget_ - left_);
    }
  }

 private:
  static constexpr std::uint32_t kTurns = 16;

  Env& env_;
  SpinHistory& history_;
  Nanos budget_;
  Nanos left_;
  Nanos looked_at_ = 0;  // 0: not yet
  Nanos asleep_at_ = 0;  // 0: not yet
  std::uint32_t turns_ = 0;
};

}  // namespace netvm::nic
