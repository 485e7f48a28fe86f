// Nic: driving, waiting, parking. See nic.hpp for what "blocks" means.
//
// No wake-up is lost: whoever is about to park announces itself to the fabric, then looks for packets and for local messages, then parks on
// its own word and the fabric's. A sender first makes its packet visible, then looks for sleepers and wakes one. If nobody sleeps, the engine
// is awake and on its way into this same sequence, which looks again. A thread of the application that was woken (or that still counted as a
// sleeper when the sender looked) may have something better to do: its own wait is over, or another thread holds the driver's role and has
// looked at the rings already. So whoever ends a wait looks once more and passes on what it leaves behind (stop_waiting()).
#include <algorithm>
#include <mutex>

#include "nic/nic_impl.hpp"

namespace netvm::nic {

// ---- driving ------------------------------------------------------------------------------------------------------------------------------

bool Nic::drive() { return impl_->drive(); }

bool Nic::Impl::drive() {
  if (forked.load(std::memory_order_relaxed)) [[unlikely]]  // relaxed: set before any thread of this process could run
    return false;
  bool any = false;
  for (bool again = true; again;) {
    if (!driver.role.try_lock()) return any;  // another thread is at it, or this very one is in a handler
    any = fabric.poll() || any;
    any = deliver_local() || any;
    any = finish_faults() || any;
    any = events->fire() || any;
    close_accounts();
    const bool faults = redirects.underway() != 0;
    driver.role.unlock();
    // A host task may have ended after our look and found the role taken: it relies on us. seq_cst, and a modification: either it is
    // before the task's, which then finds the role free, or it sees it.
    again = faults && ended_count.fetch_add(0) != 0;
  }
  return any;
}

bool Nic::Impl::deliver_local() {
  // A handler may send to this node again; bounded, so that a node that talks to itself forever still drives its fabric.
  constexpr int kRounds = 8;
  bool any = false;
  for (int round = 0; round < kRounds && local_count.load(std::memory_order_relaxed) != 0; ++round) {  // relaxed: the lock decides
    std::vector<LocalMessage> batch;
    {
      const std::lock_guard guard(local_lock);
      batch.swap(local_messages);
      local_count.store(0);
    }
    for (const LocalMessage& message : batch) deliver(config.node, static_cast<std::uint8_t>(message.kind), message.body);
    any = any || !batch.empty();
  }
  return any;
}

bool Nic::Impl::work_pending() const {
  return fabric.pending() || local_count.load() != 0 || ended_count.load() != 0 || device.counters().any_marked();
}

// ---- parking ------------------------------------------------------------------------------------------------------------------------------

void Nic::Impl::park(ParkOn word, Nanos deadline) {
  const ParkOn bell = fabric.announce_sleep(Fabric::Sleeper::application);
  if (work_pending()) {
    env.relax();  // the driver is another thread, perhaps preempted
  } else {
    const std::array<ParkOn, 2> both{word, bell};
    env.park(both, deadline);
  }
  fabric.withdraw_sleep(Fabric::Sleeper::application);
}

void Nic::park_for(WaitWord& word, std::uint32_t ticket, Nanos deadline) {
  Impl& impl = *impl_;
  Impl::Parked self{&word, nullptr, nullptr};
  {
    const std::lock_guard guard(impl.parked_lock);
    self.next = impl.parked;
    self.link = &impl.parked;
    if (self.next != nullptr) self.next->link = &self.next;
    impl.parked = &self;
  }
  // shut_down() sets its flag, then announces on the words it finds: either it finds ours (and our ticket is stale), or we see the flag.
  if (!stopping()) impl.park(word.on(ticket), deadline);
  const std::lock_guard guard(impl.parked_lock);
  *self.link = self.next;
  if (self.next != nullptr) self.next->link = self.link;
}

bool Nic::stopping() const { return impl_->stopping.load(); }
bool Nic::may_drive() const { return impl_->work_pending(); }

Status Nic::stop_waiting(Status status) {
  if (impl_->forked.load()) return status;
  if (impl_->fabric.pending()) impl_->fabric.pass_on();
  if (impl_->local_count.load() != 0) impl_->engine_word.announce(env_);
  if (impl_->device.counters().any_marked()) impl_->device.counters().ring(env_);
  return status;
}

// ---- waiting ------------------------------------------------------------------------------------------------------------------------------

Status Nic::wait(Completion& completion, Nanos deadline) {
  if (completion.done()) return completion.status();
  const Nanos spin_until = env_.now() + env_.spin_budget();
  for (;;) {
    const bool progressed = impl_->drive();
    if (completion.done()) return stop_waiting(completion.status());  // shut_down() and declare_dead() end it, too
    if (progressed) continue;
    if (impl_->forked.load()) return Status::forked;  // the parent's
    const Nanos now = env_.now();
    if (now >= deadline) return stop_waiting(Status::timeout);
    if (now < spin_until) {
      env_.relax();
      continue;
    }
    const ParkOn word = completion.prepare_park();
    if (!completion.done()) impl_->park(word, deadline);
  }
}

Status Nic::counter_wait(const RemoteCounter& mine, std::uint64_t threshold, WaitMode mode, Nanos deadline) {
  if (impl_->forked.load()) return Status::forked;
  EventCounters& counters = impl_->device.counters();
  if (mine.node != config_.node || !counters.exists(mine.id)) return Status::counter_range;
  EventCounter& counter = counters.at(mine.id);
  std::atomic<std::uint64_t>& returned = impl_->errors_returned[mine.id.value];
  const std::uint64_t errors_seen = returned.load();

  std::uint64_t errors = errors_seen;
  bool exists = true;
  // seq_cst, all loads: the re-check of a waiter that has registered (EventCounters, invariant 3), and acquires of the increment.
  const auto changed = [&] {
    if (counter.ok.load() >= threshold) return true;
    errors = counter.error.load();
    exists = counters.exists(mine.id);
    return errors > errors_seen || !exists;
  };
  const auto verdict = [&] {
    if (counter.ok.load() >= threshold) return Status::ok;
    if (!exists) return Status::counter_range;
    std::uint64_t known = returned.load();
    while (known < errors && !returned.compare_exchange_weak(known, errors)) {
    }
    return impl_->peer_died.load() ? Status::peer_dead : Status::cancelled;
  };

  if (mode == WaitMode::adaptive) {
    const Status status = wait_until(counter.waiters, changed, deadline);
    return ok(status) ? verdict() : status;
  }
  if (changed()) return verdict();
  const bool looks = mode == WaitMode::spin && env_.spin_budget() > 0;
  if (looks && look_for(changed)) return verdict();
  for (;;) {
    if (stopping()) return Status::cancelled;
    const bool progressed = impl_->drive();
    if (changed()) return stop_waiting(verdict());
    if (progressed) continue;
    if (env_.now() >= deadline) return stop_waiting(Status::timeout);
    if (mode == WaitMode::spin) {
      env_.relax();
      if (looks && look_for(changed)) return stop_waiting(verdict());
      continue;
    }
    const std::uint32_t ticket = counter.waiters.prepare();
    if (!changed()) park_for(counter.waiters, ticket, deadline);
    counter.waiters.finish();
  }
}

// ---- the engine ---------------------------------------------------------------------------------------------------------------------------

void Nic::engine_turn(Nanos spin, Nanos deadline) {
  Impl& impl = *impl_;
  if (impl.forked.load()) return;
  if (!impl.has_engine.load(std::memory_order_relaxed)) impl.has_engine.store(true);  // relaxed: only this thread sets it
  if (impl.drive()) return;
  if (spin > 0) {
    const Nanos until = std::min(env_.now() + spin, deadline);
    while (env_.now() < until) {
      if (impl.drive()) return;
      if (stopping() || impl.nudged.exchange(false)) return;
      env_.relax();
    }
  }
  const ParkOn bell = impl.fabric.announce_sleep(Fabric::Sleeper::engine);
  const std::uint32_t ticket = impl.engine_word.prepare();
  if (impl.nudged.exchange(false)) {
    // Return at once: the caller looks again at what it computed the deadline from.
  } else if (impl.work_pending()) {
    env_.relax();  // the driver is another thread
  } else if (!stopping()) {
    const std::array<ParkOn, 2> both{bell, impl.engine_word.on(ticket)};
    env_.park(both, deadline);
    stats_.add(Stat::engine_wakeups);
  }
  impl.engine_word.finish();
  impl.fabric.withdraw_sleep(Fabric::Sleeper::engine);
  impl.drive();
}

void Nic::nudge_engine() {
  impl_->nudged.store(true);  // for an engine that has computed its deadline and is not parked yet
  impl_->engine_word.announce(env_);
}

}  // namespace netvm::nic
