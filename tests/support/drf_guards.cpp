#include "tests/support/drf_guards.hpp"

#include <algorithm>

#include "runtime/check.hpp"

namespace netvm::test {

namespace {

void require(Status status, const char* what) { NETVM_CHECK(ok(status), "%s failed: %s", what, to_string(status).data()); }

/// False: given up.
bool has(Status status, const char* what) {
  if (status == Status::timeout) return false;
  require(status, what);
  return true;
}

std::uint64_t one() { return 1; }
std::uint64_t none() { return 0; }

}  // namespace

void Guards::bind(Worker& me) {
  for (const Object& object : plan_.objects) {
    const Place lock = plan_.lock_place(object.lock);
    for (std::uint32_t page = 0; page < object.pages; ++page) {
      const Place data = object.place + page * kPageSize;
      if (guard_of(plan_, options_, object.lock) == Guard::rwlock) {
        me.bind_rwlock(lock, data, object.bytes);
      } else {
        me.bind(lock, data, object.bytes);
      }
    }
  }
}

void Guards::begin(Worker& me) {
  using sync::ObjectKind;
  const auto begin = [&me](Place place, ObjectKind kind, std::uint64_t count) {
    require(me.objects().init(me.sync_offset(place), me.who(), kind, count), "initialising an object");
  };
  for (std::uint32_t lock = 0; lock < plan_.lock_count; ++lock) {
    const Guard guard = guard_of(plan_, options_, lock);
    if (guard == Guard::semaphore) begin(plan_.lock_place(lock), ObjectKind::semaphore, 1);
    if (guard == Guard::rwlock) begin(plan_.lock_place(lock), ObjectKind::rwlock, 0);
    if (guard == Guard::monitor) begin(plan_.lock_place(lock), ObjectKind::wait_queue, 0);
  }
  for (std::uint32_t phase = 0; phase < options_.phases; ++phase) {
    const Place places = plan_.separators + phase * kPlacesOfPhase * 8;
    const Separator separator = separator_of(plan_, options_, phase);
    if (separator == Separator::latch) begin(places, ObjectKind::latch, me.count());
    if (separator == Separator::flag) {
      begin(places, ObjectKind::semaphore, 0);
      begin(places + 8, ObjectKind::flag, 0);
    }
    if (separator == Separator::barriers_of_some) {
      for (const std::uint64_t parity : {0, 1}) begin(places + 8 * parity, ObjectKind::barrier, (me.count() + 1 - parity) / 2);
      begin(places + 16, ObjectKind::barrier, std::min(me.count(), 2U));
    }
  }
}

// ---- locks -----------------------------------------------------------------------------------------------------------------

Nanos Guards::soon(Worker& me, SplitMix64& random) const {
  return me.now() + 1 + static_cast<Nanos>(random.below(30 * static_cast<std::uint64_t>(options_.longest_pause)));
}

Guards::Patience Guards::choose_patience(Worker& me, std::uint32_t lock, SplitMix64& random) {
  const std::uint64_t kind = random.below(8);
  if (kind < 2) return {.deadline = 0};
  if (kind < 4) return {.deadline = soon(me, random)};
  if (kind > 5 || !options_.beside || me.local() >= me.threads()) return {};
  Stop& stop = stop_of(me, me.local());
  stop.asked.store(false);
  stop.behind.store(lock + 1);
  return {.give_up = &stop.asked};
}

void Guards::stop_somebody(Worker& me, SplitMix64& random) {
  Stop& stop = stop_of(me, static_cast<std::uint32_t>(random.below(me.threads())));
  const std::uint32_t behind = stop.behind.load();
  if (behind == 0) return;
  stop.asked.store(true);  // perhaps too late: then its next wait clears it
  const std::uint64_t at = me.sync_offset(plan_.lock_place(behind - 1));
  const Guard guard = guard_of(plan_, options_, behind - 1);
  if (guard == Guard::mutex || guard == Guard::monitor) me.sync().look_again(at);
  if (guard != Guard::mutex) me.objects().look_again(at);
}

Guards::Hold Guards::take(Worker& me, std::uint32_t lock, SplitMix64& random, bool patient) {
  if (!options_.impatient || patient) return take_with(me, lock, {}, random);
  const Patience patience = choose_patience(me, lock, random);
  const Hold hold = take_with(me, lock, patience, random);
  if (patience.give_up != nullptr) stop_of(me, me.local()).behind.store(0);
  if (hold == Hold::none) given_up_.fetch_add(1);
  return hold;
}

bool Guards::lock_mutex(Worker& me, std::uint32_t lock, const Patience& patience) {
  const Place place = plan_.lock_place(lock);
  if (patience.deadline == 0) {
    const Result<bool> had = me.sync().try_lock(me.sync_offset(place), me.who());
    require(had.status(), "trying a mutex");
    return had.value();
  }
  if (patience.deadline != kForever || patience.give_up != nullptr)
    return has(me.sync().lock(me.sync_offset(place), me.who(), patience.deadline, patience.give_up), "locking a mutex for a time");
  me.lock(place);
  return true;
}

Guards::Hold Guards::take_monitor(Worker& me, std::uint32_t lock, const Patience& patience) {
  const std::uint64_t at = me.sync_offset(plan_.lock_place(lock));
  if (!lock_mutex(me, lock, patience)) return Hold::none;
  while (me.load<std::uint8_t>(plan_.busy + lock) != 0) {
    const Result<std::uint64_t> ticket = me.objects().enqueue(at, me.who(), patience.deadline);
    me.unlock(plan_.lock_place(lock));
    if (!has(ticket.status(), "coming into a queue")) return Hold::none;
    if (!has(me.objects().wait(at, me.who(), ticket.value(), patience.deadline, patience.give_up), "waiting in a queue")) return Hold::none;
    me.lock(plan_.lock_place(lock));
  }
  me.store<std::uint8_t>(plan_.busy + lock, 1);
  me.unlock(plan_.lock_place(lock));
  return Hold::writes;
}

Guards::Hold Guards::take_with(Worker& me, std::uint32_t lock, const Patience& patience, SplitMix64& random) {
  const std::uint64_t at = me.sync_offset(plan_.lock_place(lock));
  switch (guard_of(plan_, options_, lock)) {
    case Guard::mutex:
      return lock_mutex(me, lock, patience) ? Hold::writes : Hold::none;
    case Guard::semaphore:
      return has(me.objects().acquire(at, me.who(), one, patience.deadline, patience.give_up), "acquiring a semaphore") ? Hold::writes
                                                                                                                        : Hold::none;
    case Guard::rwlock:
      if (random.below(2) == 0)
        return has(me.objects().lock_shared(at, me.who(), patience.deadline, patience.give_up), "sharing a lock") ? Hold::reads
                                                                                                                  : Hold::none;
      return has(me.objects().lock(at, me.who(), patience.deadline, patience.give_up), "taking a reader-writer lock") ? Hold::writes
                                                                                                                      : Hold::none;
    case Guard::monitor:
      return take_monitor(me, lock, patience);
  }
  return Hold::none;
}

void Guards::give_back(Worker& me, std::uint32_t lock, Hold hold) {
  const std::uint64_t at = me.sync_offset(plan_.lock_place(lock));
  switch (guard_of(plan_, options_, lock)) {
    case Guard::mutex:
      return me.unlock(plan_.lock_place(lock));
    case Guard::semaphore:
      return require(me.objects().release(at, me.who(), 1, 1, one), "releasing a semaphore");
    case Guard::rwlock:
      return require(hold == Hold::reads ? me.objects().unlock_shared(at, me.who()) : me.objects().unlock(at, me.who()),
                     "leaving a reader-writer lock");
    case Guard::monitor:
      me.lock(plan_.lock_place(lock));
      me.store<std::uint8_t>(plan_.busy + lock, 0);
      me.unlock(plan_.lock_place(lock));
      return require(me.objects().wake(at, me.who(), 1).status(), "waking from a queue");
  }
}

// ---- ends of phases --------------------------------------------------------------------------------------------------------

template <class Wait>
void Guards::keep_waiting(Worker& me, SplitMix64& random, const char* what, Wait&& wait) {
  for (;;) {
    const bool gives_up = options_.impatient && random.below(2) == 0;
    if (has(wait(gives_up ? soon(me, random) : kForever), what)) return;
  }
}

void Guards::meet(Worker& me, std::uint64_t barrier, std::uint64_t count, SplitMix64& random) {
  const auto initial = [count] { return count; };
  if (!options_.impatient)
    return require(me.objects().arrive_and_wait(barrier, me.who(), initial, {.must_be_of = count}), "meeting at a barrier");
  const Result<std::uint64_t> phase = me.objects().arrive(barrier, me.who(), initial, {.must_be_of = count});
  require(phase.status(), "arriving at a barrier");
  keep_waiting(me, random, "waiting at a barrier",
               [&](Nanos deadline) { return me.objects().await_phase(barrier, me.who(), phase.value(), deadline); });
}

bool Guards::meet_all(Worker& me, std::uint32_t phase, SplitMix64& random) {
  const std::uint64_t places = me.sync_offset(plan_.separators + phase * kPlacesOfPhase * 8);
  const auto all = [&me] { return std::uint64_t{me.count()}; };
  switch (separator_of(plan_, options_, phase)) {
    case Separator::barrier:
      return false;
    case Separator::latch:
      require(me.objects().count_down(places, me.who(), all, 1), "counting a latch down");
      keep_waiting(me, random, "waiting for a latch",
                   [&](Nanos deadline) { return me.objects().await_latch(places, me.who(), all, deadline); });
      return true;
    case Separator::flag:
      if (me.rank() != 0) {
        require(me.objects().release(places, me.who(), 1, UINT64_MAX, none), "releasing a semaphore");
        keep_waiting(me, random, "waiting for a flag",
                     [&](Nanos deadline) { return me.objects().await_flag(places + 8, me.who(), deadline); });
        return true;
      }
      for (std::uint32_t i = 1; i < me.count(); ++i) {
        keep_waiting(me, random, "acquiring a semaphore",
                     [&](Nanos deadline) { return me.objects().acquire(places, me.who(), none, deadline); });
      }
      require(me.objects().set_flag(places + 8, me.who(), true), "setting a flag");
      return true;
    case Separator::barriers_of_some: {
      // Ranks of one parity, then the first two, then those of one parity again.
      const std::uint64_t parity = me.rank() % 2;
      const std::uint64_t of_parity = (me.count() + 1 - parity) / 2;
      meet(me, places + 8 * parity, of_parity, random);
      if (me.rank() < 2) meet(me, places + 16, std::min<std::uint64_t>(me.count(), 2), random);
      meet(me, places + 8 * parity, of_parity, random);
      return true;
    }
  }
  return false;
}

}  // namespace netvm::test
