// Objects: semaphore, wait queue, barrier, latch, flag, once. Each operation is what happens while the token is held.
#include <utility>

#include "runtime/check.hpp"
#include "sync/objects.hpp"
#include "sync/objects_impl.hpp"

namespace netvm::sync {

// ---- semaphore ---------------------------------------------------------------------------------------------------------------

Status Objects::acquire(std::uint64_t offset, std::uint64_t who, const Initial& initial, Nanos deadline) {
  const Result<Object*> object = enter(offset, who, ObjectKind::semaphore, deadline, &initial);
  if (!object) return object.status();
  ObjectState& state = (*object)->state;
  if (state.count == 0) return wait_in_line(**object, who, deadline);  // woken: the permit is ours
  --state.count;
  leave(**object, who);
  return Status::ok;
}

Result<std::uint64_t> Objects::permits(std::uint64_t offset, std::uint64_t who, const Initial& initial) {
  const Result<Object*> object = enter(offset, who, ObjectKind::semaphore, kForever, &initial);
  if (!object) return object.status();
  const std::uint64_t count = (*object)->state.count;
  leave(**object, who);
  return count;
}

Status Objects::release(std::uint64_t offset, std::uint64_t who, std::uint64_t permits, std::uint64_t most, const Initial& initial) {
  const Result<Object*> object = enter(offset, who, ObjectKind::semaphore, kForever, &initial);
  if (!object) return object.status();
  ObjectState& state = (*object)->state;
  // While anybody waits there are none, so those that wait and those that fit bound what may be released.
  if (permits > most || state.count > most - permits) {
    leave(**object, who);
    return Status::invalid;
  }
  Woken woken;
  while (permits > 0 && !state.queue.empty()) {
    woken.push_back(state.take_first());
    --permits;
  }
  state.count += permits;
  leave(**object, who, woken);
  return Status::ok;
}

// ---- wait queue --------------------------------------------------------------------------------------------------------------

Result<std::uint64_t> Objects::enqueue(std::uint64_t offset, std::uint64_t who) {
  const Result<Object*> object = enter(offset, who, ObjectKind::wait_queue);
  if (!object) return object.status();
  const std::uint64_t ticket = line_up(**object)->id;
  leave(**object, who);
  return ticket;
}

Status Objects::wait(std::uint64_t offset, std::uint64_t who, std::uint64_t ticket, Nanos deadline) {
  Waiter* waiter = nullptr;
  {
    const std::lock_guard guard(waiting_guard_);
    const auto found = waiting_.find(ticket);
    if (found == waiting_.end()) return Status::invalid;
    waiter = found->second;
  }
  return await(at(SyncId::of_object(offset)), waiter, who, deadline);
}

Result<std::uint64_t> Objects::wake(std::uint64_t offset, std::uint64_t who, std::uint64_t most) {
  const Result<Object*> object = enter(offset, who, ObjectKind::wait_queue);
  if (!object) return object.status();
  ObjectState& state = (*object)->state;
  Woken woken;
  while (woken.size() < most && !state.queue.empty()) woken.push_back(state.take_first());
  leave(**object, who, woken);
  return woken.size();
}

// ---- barrier -----------------------------------------------------------------------------------------------------------------

// True: the phase has ended.
Result<bool> Objects::arrive_at(ObjectState& state, const Arrival& arrival) {
  if (arrival.arrivals == 0 || arrival.arrivals > state.count) return Status::invalid;
  if (arrival.must_be_of != 0 && arrival.must_be_of != state.limit) return Status::invalid;
  if (arrival.drops) state.limit -= arrival.arrivals;
  state.count -= arrival.arrivals;
  if (state.count != 0) return false;
  if (arrival.on_completion != nullptr) (*arrival.on_completion)();
  state.count = state.limit;
  ++state.phase;
  return true;
}

Result<std::uint64_t> Objects::arrive(std::uint64_t offset, std::uint64_t who, const Initial& initial, const Arrival& arrival) {
  const Result<Object*> object = enter(offset, who, ObjectKind::barrier, kForever, &initial);
  if (!object) return object.status();
  ObjectState& state = (*object)->state;
  const std::uint64_t phase = state.phase;
  const Result<bool> ended = arrive_at(state, arrival);
  leave(**object, who, ended && *ended ? all_of(state) : Woken{});
  if (!ended) return ended.status();
  return phase;
}

Status Objects::await_phase(std::uint64_t offset, std::uint64_t who, std::uint64_t phase, Nanos deadline) {
  const Result<Object*> object = enter(offset, who, ObjectKind::barrier, deadline);
  if (!object) return object.status();
  if ((*object)->state.phase == phase) return wait_in_line(**object, who, deadline);
  leave(**object, who);
  return Status::ok;
}

Status Objects::arrive_and_wait(std::uint64_t offset, std::uint64_t who, const Initial& initial, const Arrival& arrival, Nanos deadline) {
  const Result<Object*> object = enter(offset, who, ObjectKind::barrier, kForever, &initial);
  if (!object) return object.status();
  ObjectState& state = (*object)->state;
  const Result<bool> ended = arrive_at(state, arrival);
  if (ended && !*ended) return wait_in_line(**object, who, deadline);
  leave(**object, who, ended ? all_of(state) : Woken{});
  return ended ? Status::ok : ended.status();
}

// ---- latch -------------------------------------------------------------------------------------------------------------------

Status Objects::count_down(std::uint64_t offset, std::uint64_t who, const Initial& initial, std::uint64_t by) {
  const Result<Object*> object = enter(offset, who, ObjectKind::latch, kForever, &initial);
  if (!object) return object.status();
  ObjectState& state = (*object)->state;
  const bool too_many = by > state.count;
  if (!too_many) state.count -= by;
  leave(**object, who, state.count == 0 ? all_of(state) : Woken{});
  return too_many ? Status::invalid : Status::ok;
}

Status Objects::await_latch(std::uint64_t offset, std::uint64_t who, const Initial& initial, Nanos deadline) {
  const Result<Object*> object = enter(offset, who, ObjectKind::latch, deadline, &initial);
  if (!object) return object.status();
  if ((*object)->state.count != 0) return wait_in_line(**object, who, deadline);
  leave(**object, who);
  return Status::ok;
}

// ---- flag --------------------------------------------------------------------------------------------------------------------

Status Objects::set_flag(std::uint64_t offset, std::uint64_t who, bool value) {
  const Result<Object*> object = enter(offset, who, ObjectKind::flag);
  if (!object) return object.status();
  ObjectState& state = (*object)->state;
  state.count = value ? 1 : 0;
  leave(**object, who, value ? all_of(state) : Woken{});
  return Status::ok;
}

Status Objects::await_flag(std::uint64_t offset, std::uint64_t who, Nanos deadline) {
  const Result<Object*> object = enter(offset, who, ObjectKind::flag, deadline);
  if (!object) return object.status();
  if ((*object)->state.count == 0) return wait_in_line(**object, who, deadline);
  leave(**object, who);
  return Status::ok;
}

// ---- once --------------------------------------------------------------------------------------------------------------------

namespace {
constexpr std::uint64_t kNotDone = 0;
constexpr std::uint64_t kRuns = 1;
constexpr std::uint64_t kDone = 2;
}  // namespace

Result<bool> Objects::begin_once(std::uint64_t offset, std::uint64_t who) {
  const Result<Object*> object = enter(offset, who, ObjectKind::once);
  if (!object) return object.status();
  ObjectState& state = (*object)->state;
  if (state.count == kRuns) {
    std::uint64_t outcome = kNotDone;
    const Status status = wait_in_line(**object, who, kForever, QueuedWaiter::Role::any, &outcome);
    if (!ok(status)) return status;
    return outcome != kDone;
  }
  const bool mine = state.count == kNotDone;
  if (mine) state.count = kRuns;
  leave(**object, who);
  return mine;
}

Status Objects::end_once(std::uint64_t offset, std::uint64_t who, bool done) {
  const Result<Object*> object = enter(offset, who, ObjectKind::once);
  if (!object) return object.status();
  ObjectState& state = (*object)->state;
  Woken woken;
  if (done) {
    state.count = kDone;
    woken = all_of(state);
  } else if (state.queue.empty()) {
    state.count = kNotDone;
  } else {
    woken.push_back(state.take_first());  // it runs now
  }
  leave(**object, who, woken, done ? kDone : kNotDone);
  return Status::ok;
}

}  // namespace netvm::sync
