// Objects: semaphore, wait queue, barrier, latch, flag, once. Each operation is what happens while the token is held.
#include <utility>

#include "runtime/check.hpp"
#include "sync/objects.hpp"
#include "sync/objects_impl.hpp"

namespace netvm::sync {

// ---- semaphore ---------------------------------------------------------------------------------------------------------------

Status Objects::acquire(std::uint64_t offset, std::uint64_t who, const Initial& initial, Nanos deadline, const std::atomic<bool>* give_up) {
  Object& object = named(offset);
  const bool quick = at_rest(object, ObjectKind::semaphore, [](ObjectState& state) {
    if (state.count == 0) return false;
    --state.count;
    return true;
  });
  if (quick) return Status::ok;
  const Result<Object*> entered = enter(object, who, ObjectKind::semaphore, deadline, give_up, &initial);
  if (!entered) return entered.status();
  if (object.state.count == 0) return wait_in_line(object, who, deadline, give_up);  // woken: the permit is ours
  --object.state.count;
  leave(object, who);
  return Status::ok;
}

Result<std::uint64_t> Objects::permits(std::uint64_t offset, std::uint64_t who, const Initial& initial) {
  const Result<Counts> now = counts(offset, who, ObjectKind::semaphore, &initial);
  if (!now) return now.status();
  return now->count;
}

Result<Objects::Counts> Objects::counts(std::uint64_t offset, std::uint64_t who, ObjectKind kind, const Initial* initial) {
  Object& object = named(offset);
  const Result<Object*> entered = enter(object, who, kind, kForever, nullptr, initial);
  if (!entered) return entered.status();
  const Counts now{object.state.count, object.state.limit};
  leave(object, who);
  return now;
}

Status Objects::release(std::uint64_t offset, std::uint64_t who, std::uint64_t permits, std::uint64_t most, const Initial& initial) {
  return make(named(offset), who, {.op = Change::Op::release, .amount = permits, .most = most}, &initial).status();
}

// ---- wait queue --------------------------------------------------------------------------------------------------------------

Result<std::uint64_t> Objects::enqueue(std::uint64_t offset, std::uint64_t who, Nanos deadline) {
  Object& object = named(offset);
  std::uint64_t ticket = 0;
  const bool quick = at_rest(object, ObjectKind::wait_queue, [&](ObjectState& state) {
    if (state.broken) return false;
    ticket = line_up(object)->id;
    return true;
  });
  if (!quick) {
    const Result<Object*> entered = enter(object, who, ObjectKind::wait_queue, deadline);
    if (!entered) return entered.status();
    if (object.state.broken) {
      leave(object, who);
      return Status::owner_dead;
    }
    ticket = line_up(object)->id;
    if (deaths_.load() != object.state.deaths) mend();  // of somebody who died since the state was looked at
    leave(object, who);
  } else if (deaths_.load() != 0) {
    mend();
  }
  return ticket;
}

Status Objects::wait(std::uint64_t offset, std::uint64_t who, std::uint64_t ticket, Nanos deadline, const std::atomic<bool>* give_up) {
  Object& object = named(offset);
  Waiter* waiter = nullptr;
  {
    const std::lock_guard guard(waiting_guard_);
    waiter = find_waiter(ticket);
    if (waiter == nullptr || waiter->object != object.id()) return Status::invalid;            // used up, or a place in another queue
    const bool woken = waiter->state.load(std::memory_order_relaxed) == Waiter::State::woken;  // relaxed: under the guard
    if (woken && waiter->grant == nullptr) {                                                   // by a thread of this node: all is here
      recycle(waiter);
      return Status::ok;
    }
  }
  return await(object, waiter, who, deadline, give_up);
}

Result<std::uint64_t> Objects::wake(std::uint64_t offset, std::uint64_t who, std::uint64_t most) {
  return make(named(offset), who, {.op = Change::Op::wake, .amount = most});
}

// ---- barrier -----------------------------------------------------------------------------------------------------------------

namespace {
Change change_of(const Objects::Arrival& arrival) {
  return {.op = Change::Op::arrive, .drops = arrival.drops, .amount = arrival.arrivals, .most = arrival.must_be_of};
}
}  // namespace

Result<std::uint64_t> Objects::arrive(std::uint64_t offset, std::uint64_t who, const Initial& initial, const Arrival& arrival) {
  return make(named(offset), who, change_of(arrival), &initial, arrival.on_completion);
}

Status Objects::await_phase(std::uint64_t offset, std::uint64_t who, std::uint64_t phase, Nanos deadline,
                            const std::atomic<bool>* give_up) {
  Object& object = named(offset);
  if (at_rest(object, ObjectKind::barrier, [&](ObjectState& state) { return state.phase != phase; })) return Status::ok;
  const Result<Object*> entered = enter(object, who, ObjectKind::barrier, deadline, give_up);
  if (!entered) return entered.status();
  if (object.state.phase == phase) return wait_in_line(object, who, deadline, give_up);
  leave(object, who);
  return Status::ok;
}

Status Objects::arrive_and_wait(std::uint64_t offset, std::uint64_t who, const Initial& initial, const Arrival& arrival, Nanos deadline) {
  Object& object = named(offset);
  const Result<Outcome> outcome = enter_and(object, who, change_of(arrival), &initial, arrival.on_completion);
  if (!outcome) return outcome.status();
  if (!outcome->refused && object.state.phase == outcome->value) return wait_in_line(object, who, deadline);
  leave(object, who, outcome->woken);
  return outcome->refused ? Status::invalid : Status::ok;
}

// ---- latch -------------------------------------------------------------------------------------------------------------------

Status Objects::count_down(std::uint64_t offset, std::uint64_t who, const Initial& initial, std::uint64_t by) {
  return make(named(offset), who, {.op = Change::Op::count_down, .amount = by}, &initial).status();
}

Status Objects::await_latch(std::uint64_t offset, std::uint64_t who, const Initial& initial, Nanos deadline,
                            const std::atomic<bool>* give_up) {
  Object& object = named(offset);
  if (at_rest(object, ObjectKind::latch, [](ObjectState& state) { return state.count == 0; })) return Status::ok;
  const Result<Object*> entered = enter(object, who, ObjectKind::latch, deadline, give_up, &initial);
  if (!entered) return entered.status();
  if (object.state.count != 0) return wait_in_line(object, who, deadline, give_up);
  leave(object, who);
  return Status::ok;
}

// ---- flag --------------------------------------------------------------------------------------------------------------------

Status Objects::set_flag(std::uint64_t offset, std::uint64_t who, bool value) {
  return make(named(offset), who, {.op = value ? Change::Op::set_flag : Change::Op::clear_flag}).status();
}

Status Objects::await_flag(std::uint64_t offset, std::uint64_t who, Nanos deadline, const std::atomic<bool>* give_up) {
  Object& object = named(offset);
  if (at_rest(object, ObjectKind::flag, [](ObjectState& state) { return state.count != 0; })) return Status::ok;
  const Result<Object*> entered = enter(object, who, ObjectKind::flag, deadline, give_up);
  if (!entered) return entered.status();
  if (object.state.count == 0) return wait_in_line(object, who, deadline, give_up);
  leave(object, who);
  return Status::ok;
}

// ---- once --------------------------------------------------------------------------------------------------------------------

Objects::Woken Objects::next_to_run(ObjectState& state) {
  Woken next;
  state.queue.move_first_to(next);
  state.count = kOnceRuns;
  state.limit = next.front().node.value + 1;
  return next;
}

Result<bool> Objects::begin_once(std::uint64_t offset, std::uint64_t who, const std::atomic<bool>* give_up, bool again) {
  Object& object = named(offset);
  if (!again && at_rest(object, ObjectKind::once, [](ObjectState& state) { return state.count == kOnceDone; })) return false;
  const Result<Object*> entered = enter(object, who, ObjectKind::once, kForever, give_up);
  if (!entered) return entered.status();
  ObjectState& state = object.state;
  if (state.count == kOnceRuns) {
    std::uint64_t outcome = kOnceNotDone;
    const Status status = wait_in_line(object, who, kForever, give_up, QueuedWaiter::Role::any, &outcome);
    if (!ok(status)) return status;
    return outcome != kOnceDone;
  }
  const bool mine = again || state.count == kOnceNotDone;
  if (mine) {
    state.count = kOnceRuns;
    state.limit = nic_.node().value + 1;
  }
  leave(object, who);
  return mine;
}

Status Objects::end_once(std::uint64_t offset, std::uint64_t who, bool done) {
  Object& object = named(offset);
  const Result<Object*> entered = enter(object, who, ObjectKind::once);
  if (!entered) return entered.status();
  ObjectState& state = object.state;
  Woken woken;
  if (done) {
    state.count = kOnceDone;
    woken = std::move(state.queue);
  } else if (state.queue.empty()) {
    state.count = kOnceNotDone;
  } else {
    woken = next_to_run(state);
  }
  leave(object, who, woken, done ? kOnceDone : kOnceNotDone);
  return Status::ok;
}

}  // namespace netvm::sync
