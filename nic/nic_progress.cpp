// Nic: driving, waiting, parking. See nic.hpp for what "blocks" means.
//
// No wake-up is lost: whoever is about to park announces itself to the fabric, then looks for packets and for local messages, then parks on
// its own word and the fabric's. A sender first makes its packet visible, then looks for sleepers and wakes one. If nobody sleeps, the engine
// is awake and on its way into this same sequence, which looks again. A thread of the application that was woken (or that still counted as a
// sleeper when the sender looked) may have something better to do: its own wait is over, or another thread holds the driver's role and has
// looked at the rings already. So whoever ends a wait looks once more and passes on what it leaves behind (stop_waiting()).
#include <algorithm>
#include <array>
#include <mutex>
#include <span>

#include "nic/nic_impl.hpp"
#include "nic/nic_waits.hpp"

namespace netvm::nic {

namespace {
constexpr Nanos kFirstStandBy = 50'000;  // about ten times what waking a thread costs
// DeviceHeader::processor.
constexpr unsigned kProcessorBits = 16;
constexpr std::uint64_t kProcessorMask = (std::uint64_t{1} << kProcessorBits) - 1;
}  // namespace

// ---- driving ------------------------------------------------------------------------------------------------------------------------------

bool Nic::drive() {
  std::atomic<bool>& driven = impl_->driven_by_application;
  if (!driven.load(std::memory_order_relaxed)) driven.store(true, std::memory_order_relaxed);  // relaxed, both: a hint for the engine
  return impl_->drive();
}

bool Nic::drive_once() { return impl_->drive(); }

bool Nic::Impl::drive() {
  if (forked.load(std::memory_order_relaxed)) [[unlikely]]  // relaxed: set before any thread of this process could run
    return false;
  if (!work_pending()) return false;
  bool any = false;
  for (bool again = true; again;) {
    if (!driver.role.try_lock()) return any;                     // another thread is at it, or this very one is in a handler
    driver.who.store(env.context(), std::memory_order_relaxed);  // relaxed: only a thread that finds itself believes it
    driver.collects = true;
    any = fabric.poll() || any;
    send_answers();
    any = deliver_local() || any;
    any = finish_faults() || any;
    any = events->fire() || any;
    close_accounts();
    send_answers();
    driver.collects = false;
    const bool faults = redirects.underway() != 0;
    driver.who.store(0, std::memory_order_relaxed);  // relaxed: as above
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
  return fabric.pending() || local_count.load() != 0 || ended_count.load() != 0 || deaths.load() || device.counters().any_marked();
}

// ---- parking ------------------------------------------------------------------------------------------------------------------------------

void Nic::Impl::park(ParkOn word, Nanos deadline) {
  const ParkOn bell = fabric.announce_sleep(Fabric::Sleeper::application);
  if (!work_pending()) {
    const std::array<ParkOn, 2> both{word, bell};
    env.park(both, deadline);
  } else if (!drive() && work_pending()) {
    // The driver is another thread. If it was preempted, to spin here could keep it from the very processor: look again soon.
    env.park({&word, 1}, std::min(deadline, env.now() + kFirstStandBy));
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

std::uint64_t Nic::Impl::note_processor() {
  const std::uint64_t here = static_cast<std::uint64_t>(env.processor() + 1) & kProcessorMask;
  std::atomic<std::uint64_t>& noted = device.header().processor;
  // relaxed, both: a hint for shares_processor(); orders nothing, and one that another thread's overwrites is none that matters
  noted.store(((noted.load(std::memory_order_relaxed) >> kProcessorBits) + 1) << kProcessorBits | here, std::memory_order_relaxed);
  return here;
}

bool Nic::Impl::leave_processor() {
  const Nanos now = env.now();
  if (!moves.due(now)) return false;
  constexpr std::size_t kMostTaken = 64;  // of more nodes on one machine some are not looked at
  std::array<int, kMostTaken> taken{};
  std::size_t count = 0;
  for (std::uint32_t node = 0; node < config.nodes && count < taken.size(); ++node) {
    Device* const found = direct(NodeId{node});
    if (found == nullptr) continue;
    const std::uint64_t noted = found->header().processor.load(std::memory_order_relaxed) & kProcessorMask;  // relaxed: a hint
    if (noted != 0) taken[count++] = static_cast<int>(noted) - 1;
  }
  if (!env.move_from(std::span(taken).first(count))) return false;
  moves.moved(now);
  (void)note_processor();
  return true;
}

// Who has done neither since this was asked last is busy with something else, or has long been elsewhere. Of two that meet the higher one moves, once it waits.
bool Nic::shares_processor() {
  const std::uint64_t here = impl_->note_processor();
  if (here == 0) return false;
  for (std::uint32_t node = 0; node < config_.nodes; ++node) {
    Device* const other = impl_->direct(NodeId{node});
    if (other == nullptr || other == &impl_->device) continue;
    const std::uint64_t noted = other->header().processor.load(std::memory_order_relaxed);  // relaxed: a hint
    if ((noted & kProcessorMask) != here || impl_->processors_seen[node].exchange(noted) == noted) continue;
    return node > config_.node.value || !impl_->leave_processor();
  }
  return false;
}

void Nic::announce_poll() { impl_->fabric.announce_poll(); }

void Nic::withdraw_poll() {
  if (!impl_->forked.load()) impl_->fabric.withdraw_poll();  // the device is the parent's
}

Status Nic::stop_waiting(Polling& polling, Status status) {
  polling.stop();
  if (impl_->forked.load()) return status;
  if (impl_->fabric.pending()) impl_->fabric.pass_on();
  if (impl_->local_count.load() != 0) impl_->engine_word.announce(env_);
  if (impl_->device.counters().any_marked()) impl_->device.counters().ring(env_);
  return status;
}

// ---- waiting ------------------------------------------------------------------------------------------------------------------------------

Status Nic::wait(Completion& completion, Nanos deadline) {
  if (completion.done()) return completion.status();
  Polling polling(*this);
  SpinBudget spin(env_, spins_);
  if (spin.any()) polling.start();
  Impl::Waiting waiting(*impl_, {.what = NicWait::What::operation}, &completion);
  for (;;) {
    const bool progressed = impl_->drive();
    if (completion.done()) {  // shut_down() and declare_dead() end it, too
      spin.over();
      return stop_waiting(polling, completion.status());
    }
    if (progressed) {
      spin.renew();
      continue;
    }
    if (spin.turn()) continue;
    if (impl_->forked.load()) return Status::forked;  // the parent's
    const Nanos now = env_.now();
    if (now >= deadline) return stop_waiting(polling, Status::timeout);
    if (spin.begins() && shares_processor()) spin.give_up();
    if (spin.lasts(now)) {
      polling.start();
      continue;
    }
    polling.stop();
    waiting.tell();
    const ParkOn word = completion.prepare_park();
    if (completion.done()) continue;
    spin.sleeps(now);
    impl_->park(word, deadline);
  }
}

Status Nic::counter_wait(const RemoteCounter& mine, std::uint64_t threshold, WaitMode mode, Nanos deadline, std::uint64_t who) {
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

  if (changed()) return verdict();
  Impl::Waiting waiting(*impl_, {.counter = mine.id, .threshold = threshold, .who = who});
  if (mode == WaitMode::adaptive) {
    waiting.tell();
    const Status status = wait_until(counter.waiters, changed, deadline);
    return ok(status) ? verdict() : status;
  }
  const bool looks = mode == WaitMode::spin && env_.spin_budget() > 0;
  // Where increments come without packets, most looks are at the counter alone; a look at all there is to drive takes five lines and as long again.
  const bool comes_directly = config_.mode == ShmMode::direct;
  const auto counted = [&] {
    constexpr int kLooksAtOnce = 4;
    for (int i = 1; comes_directly && i < kLooksAtOnce; ++i) {
      if (counter.ok.load() >= threshold) return true;
      cpu_pause();
    }
    return changed();
  };
  // There, too, the first looks need not be announced to those who send packets.
  if (looks && comes_directly && look_for(counted)) return verdict();
  Polling polling(*this);
  if (mode == WaitMode::spin) polling.start();
  if (looks && look_for(counted)) return stop_waiting(polling, verdict());
  for (;;) {
    if (stopping()) return Status::cancelled;
    const bool progressed = impl_->drive();
    if (changed()) return stop_waiting(polling, verdict());
    if (progressed) continue;
    if (deadline != kForever && env_.now() >= deadline) return stop_waiting(polling, Status::timeout);
    waiting.tell();
    if (mode == WaitMode::spin) {
      env_.relax();
      if (looks && look_for(counted)) return stop_waiting(polling, verdict());
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
  if (impl.driven_by_application.exchange(false)) {
    const Nanos wait = std::max(impl.stand_by_ns, kFirstStandBy);
    impl.stand_by_ns = std::min(2 * wait, kLongestStandBy);
    return stand_by(wait, deadline);
  }
  impl.stand_by_ns = 0;
  if (impl.work_pending()) {
    if (impl.drive()) return;
    if (impl.work_pending()) return stand_by(kFirstStandBy, deadline);  // another thread drives: see Impl::park()
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

// Between two looks of the engine the application has driven by itself, not in a wait: it probably does so again and again, and to be woken for each packet
// would be in its way. So the engine does not listen to the bell for a while, which grows as long as that goes on.
void Nic::stand_by(Nanos wait, Nanos deadline) {
  Impl& impl = *impl_;
  const std::uint32_t ticket = impl.engine_word.prepare();
  if (impl.local_count.load() != 0) impl.drive();
  if (!impl.nudged.exchange(false) && !stopping()) {
    const ParkOn word = impl.engine_word.on(ticket);
    env_.park({&word, 1}, std::min(deadline, env_.now() + wait));
    stats_.add(Stat::engine_wakeups);
  }
  impl.engine_word.finish();
  impl.drive();
}

void Nic::nudge_engine() {
  impl_->nudged.store(true);  // for an engine that has computed its deadline and is not parked yet
  impl_->engine_word.announce(env_);
}

}  // namespace netvm::nic
