#include "sync/mutex_table.hpp"

#include <oneapi/tbb/concurrent_unordered_map.h>

#include <mutex>

#include "runtime/check.hpp"
#include "runtime/random.hpp"

namespace netvm::sync {

void LockState::append(LockWaiter* waiter) {
  waiter->next = nullptr;
  (first == nullptr ? first : last->next) = waiter;
  last = waiter;
}

void LockState::prepend(LockWaiter* waiter) {
  waiter->next = first;
  first = waiter;
  if (last == nullptr) last = waiter;
}

LockWaiter* LockState::hand_to_first() {
  NETVM_CHECK(first != nullptr && token == Token::here, "mutex at offset %#llx: handed to nobody", static_cast<unsigned long long>(offset));
  LockWaiter* waiter = first;
  remove(waiter);
  holder = waiter->who;
  waiter->state.store(LockWaiter::State::granted, std::memory_order_release);  // release: partner is the waiter's acquire look
  return waiter;
}

void LockState::remove(LockWaiter* waiter) {
  LockWaiter* before = nullptr;
  LockWaiter* at = first;
  while (at != nullptr && at != waiter) {
    before = at;
    at = at->next;
  }
  NETVM_CHECK(at == waiter, "mutex at offset %#llx: a waiter is not in its queue", static_cast<unsigned long long>(offset));
  (before == nullptr ? first : before->next) = waiter->next;
  if (last == waiter) last = before;
  waiter->next = nullptr;
}

namespace {
struct OffsetHash {
  std::size_t operator()(std::uint64_t offset) const { return mix64(offset); }
};
}  // namespace

struct MutexTable::Map {
  oneapi::tbb::concurrent_unordered_map<std::uint64_t, std::unique_ptr<LockState>, OffsetHash> states;  // lookup only: never iterated
};

MutexTable::MutexTable() : map_(std::make_unique<Map>()) {}
MutexTable::~MutexTable() = default;

LockState& MutexTable::at(std::uint64_t offset) {
  const auto found = map_->states.find(offset);
  if (found != map_->states.end()) return *found->second;
  return *map_->states.emplace(offset, std::make_unique<LockState>(offset)).first->second;
}

LockState* MutexTable::find(std::uint64_t offset) const {
  const auto found = map_->states.find(offset);
  return found == map_->states.end() ? nullptr : found->second.get();
}

WaiterPool::~WaiterPool() {
  while (free_ != nullptr) {
    LockWaiter* waiter = free_;
    free_ = waiter->next;
    delete waiter;
  }
}

LockWaiter* WaiterPool::take(std::uint64_t who) {
  LockWaiter* waiter = nullptr;
  {
    const std::lock_guard guard(guard_);
    if (free_ != nullptr) {
      waiter = free_;
      free_ = waiter->next;
    }
  }
  if (waiter == nullptr) waiter = new LockWaiter;
  waiter->who = who;
  waiter->status = Status::ok;
  waiter->next = nullptr;
  waiter->state.store(LockWaiter::State::waiting, std::memory_order_relaxed);  // relaxed: published under a guard
  return waiter;
}

void WaiterPool::give_back(LockWaiter* waiter) {
  const std::lock_guard guard(guard_);
  waiter->next = free_;
  free_ = waiter;
}

}  // namespace netvm::sync
