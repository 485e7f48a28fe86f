#include "sync/mutex_table.hpp"

#include "runtime/check.hpp"

namespace netvm::sync {

void LockState::prepend(LockWaiter* waiter) {
  waiter->next = last == nullptr ? waiter : last->next;
  (last == nullptr ? last : last->next) = waiter;
}

void LockState::append(LockWaiter* waiter) {
  prepend(waiter);
  last = waiter;
}

LockWaiter* LockState::hand_to_first() {
  NETVM_CHECK(has_waiters() && token == Token::here, "mutex at offset %#llx: handed to nobody", static_cast<unsigned long long>(offset));
  LockWaiter* waiter = first();
  remove(waiter);
  holder = waiter->who;
  waiter->state.store(LockWaiter::State::granted, std::memory_order_release);  // release: partner is the waiter's acquire look
  return waiter;
}

void LockState::remove(LockWaiter* waiter) {
  LockWaiter* before = last;
  while (before != nullptr && before->next != waiter) before = before->next == last ? nullptr : before->next;
  NETVM_CHECK(before != nullptr, "mutex at offset %#llx: a waiter is not in its queue", static_cast<unsigned long long>(offset));
  before->next = waiter->next;
  if (last == waiter) last = before == waiter ? nullptr : before;
  waiter->next = nullptr;
}

// ---- the pool ----------------------------------------------------------------------------------------------------------------

LockWaiter* WaiterPool::take(std::uint64_t who) {
  LockWaiter* waiter = pool_.take();
  waiter->who = who;
  waiter->status = Status::ok;
  waiter->give_up = nullptr;
  waiter->ride = nullptr;
  waiter->next = nullptr;
  waiter->line = nullptr;
  waiter->place.store(&waiter->word, std::memory_order_relaxed);               // relaxed: published under a guard
  waiter->state.store(LockWaiter::State::waiting, std::memory_order_relaxed);  // relaxed: published under a guard
  return waiter;
}

}  // namespace netvm::sync
