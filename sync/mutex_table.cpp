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

// ---- the table -----------------------------------------------------------------------------------------------------------

namespace {
constexpr unsigned kFirstBits = 8;
}  // namespace

std::unique_ptr<MutexTable::Index> MutexTable::make_index(unsigned bits) {
  auto index = std::make_unique<Index>();
  index->mask = (std::uint64_t{1} << bits) - 1;
  index->shift = 64 - bits;
  index->places = std::make_unique<std::atomic<LockState*>[]>(std::size_t{1} << bits);
  return index;
}

MutexTable::MutexTable() {
  indices_.push_back(make_index(kFirstBits));
  index_.store(indices_.back().get());
}

MutexTable::~MutexTable() = default;

void MutexTable::put(Index& index, LockState* state) {
  std::uint64_t at = hash(state->offset) >> index.shift;
  while (index.places[at].load(std::memory_order_relaxed) != nullptr) at = (at + 1) & index.mask;  // relaxed: changed under making_ only
  index.places[at].store(state, std::memory_order_release);                                        // release: partner is find()
}

LockState& MutexTable::make(std::uint64_t offset) {
  const std::lock_guard guard(making_);
  if (LockState* const made_meanwhile = find(offset)) return *made_meanwhile;
  if (states_.size() * 2 > indices_.back()->mask) grow();
  LockState& state = states_.emplace_back();
  state.offset = offset;
  put(*indices_.back(), &state);
  return state;
}

void MutexTable::grow() {
  auto larger = make_index(64 - indices_.back()->shift + 1);
  for (LockState& state : states_) put(*larger, &state);
  index_.store(larger.get(), std::memory_order_release);  // release: partner is find()
  indices_.push_back(std::move(larger));
}

std::vector<LockState*> MutexTable::all() const {
  const std::lock_guard guard(making_);
  std::vector<LockState*> states;
  states.reserve(states_.size());
  for (const LockState& state : states_) states.push_back(const_cast<LockState*>(&state));
  return states;
}

// ---- the pool ----------------------------------------------------------------------------------------------------------------

LockWaiter* WaiterPool::take(std::uint64_t who) {
  LockWaiter* waiter = pool_.take();
  waiter->who = who;
  waiter->status = Status::ok;
  waiter->give_up = nullptr;
  waiter->next = nullptr;
  waiter->state.store(LockWaiter::State::waiting, std::memory_order_relaxed);  // relaxed: published under a guard
  return waiter;
}

}  // namespace netvm::sync
