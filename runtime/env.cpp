#include "runtime/env.hpp"

#include <sched.h>

#include <array>

#include "runtime/check.hpp"
#include "runtime/cpu.hpp"

namespace netvm {
namespace {

constexpr std::uint32_t kFree = 0;
constexpr std::uint32_t kHeld = 1;
constexpr std::uint32_t kContended = 2;  // held, and somebody may be parked

}  // namespace

bool EnvMutex::try_lock() {
  std::uint32_t expected = kFree;
  // acquire: partner is unlock()'s exchange. relaxed on failure: nothing was taken, nothing is read.
  return state_.compare_exchange_strong(expected, kHeld, std::memory_order_acquire, std::memory_order_relaxed);
}

void EnvMutex::lock() {
  if (try_lock()) return;
  const Nanos budget = env_->spin_budget();
  if (budget > 0) {
    const Nanos give_up = env_->now() + budget;
    do {
      env_->relax();
      if (try_lock()) return;
    } while (env_->now() < give_up);
  }
  // From here on the word says "contended": whoever takes the lock this way may leave a waiter behind and must wake it.
  while (state_.exchange(kContended, std::memory_order_acquire) != kFree) {  // acquire: partner is unlock()'s exchange
    const ParkOn word{&state_, kContended};
    env_->park({&word, 1}, kForever);
  }
}

void EnvMutex::unlock() {
  const std::uint32_t before = state_.exchange(kFree, std::memory_order_release);  // release: partner is lock()'s acquire
  NETVM_CHECK(before != kFree, "an EnvMutex was unlocked that nobody held");
  if (before == kContended) env_->wake(state_, 1);
}

void SpinLock::pause() {
  // The holder keeps the lock for some tens of instructions. If it takes longer it was preempted, and spinning keeps it so.
  constexpr std::uint32_t kPausesBeforeYield = 64;
  thread_local std::uint32_t pauses = 0;
  if (++pauses % kPausesBeforeYield == 0) {
    ::sched_yield();
  } else {
    cpu_pause();
  }
}

}  // namespace netvm
