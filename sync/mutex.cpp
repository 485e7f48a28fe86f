#include "sync/mutex.hpp"

#include <algorithm>
#include <mutex>
#include <utility>
#include <vector>

#include "runtime/check.hpp"

namespace netvm::sync {

using Guard = std::unique_lock<SpinLock>;
using State = LockWaiter::State;
using Token = LockState::Token;

namespace {
bool looks_changed(const LockWaiter& waiter) {
  return waiter.state.load(std::memory_order_acquire) != State::waiting;  // acquire: partner is the release under the guard
}
bool gives_up(const LockWaiter& waiter) { return waiter.give_up != nullptr && waiter.give_up->load(); }
void set_state(LockWaiter& waiter, State state) {
  waiter.state.store(state, std::memory_order_release);  // release: partner is looks_changed()
}
}  // namespace

Mutexes::Mutexes(const SyncConfig& config, nic::Nic& nic, CoherenceHook& hook, Stats& stats, TokenCargo* cargo)
    : nic_(nic),
      hook_(hook),
      stats_(stats),
      cargo_(cargo),
      cohort_limit_(config.cohort),
      gate_(nic),
      directory_(config, nic),
      table_(cargo),
      lines_(nic),
      census_turn_(nic.env()),
      caretakers_(nic.env()) {
  NETVM_CHECK(nic.nodes() <= ShortNodeId::kNodes, "mutexes of %u nodes", nic.nodes());
  nic_.set_message_handler(nic::MessageKind::sync_lock, this);
}

void Mutexes::end() {
  rests_.store(true);
  caretakers_.drain();
}

Mutexes::~Mutexes() {
  nic_.set_message_handler(nic::MessageKind::sync_lock, nullptr);
  lines_.close();
  caretakers_.close();
  // A job that ended in the middle leaves requests that nobody answers any more.
  for (LockState* state : table_.all()) {
    if (state->extra != nullptr) extras_.give_back(std::exchange(state->extra, nullptr));
  }
}

// ---- lock, unlock ------------------------------------------------------------------------------------------------------

Status Mutexes::lock(LockState& state, std::uint64_t who, Nanos deadline, const std::atomic<bool>* give_up, const Ride* ride) {
  NETVM_CHECK(who != LockState::kNobody && who < LockState::kCaretaker, "%llu does not name a thread", printable(who));
  Guard guard(state.guard);
  if (state.idle()) [[likely]] {
    take_idle(state, who, guard);
    return Status::ok;
  }
  if (state.holder == who) return Status::invalid;
  if (state.lost) return Status::owner_dead;
  LockWaiter* waiter = pool_.take(who);
  waiter->give_up = give_up;
  waiter->ride = ride;
  state.append(waiter);
  if (state.token == Token::absent) {
    state.token = Token::requested;
    set_state(*waiter, State::elected);
  }
  guard.unlock();

  const Nanos begin = nic_.env().now();
  const Waits::Scope waits(waits_, {SyncId{state.offset}.is_object() ? "object's lock" : "mutex", SyncId{state.offset}, who, begin});
  const Status status = wait_for_grant(state, waiter, deadline);
  pool_.give_back(waiter);
  if (ok(status)) {
    apply_payload(state);
    stats_.add(Stat::lock_acquires);
  }
  stats_.add(Stat::lock_wait_ns, static_cast<std::uint64_t>(nic_.env().now() - begin));
  return status;
}

Status Mutexes::wait_for_grant(LockState& state, LockWaiter* waiter, Nanos deadline) {
  for (;;) {
    const auto granted = [&] { return waiter->line != nullptr && lines_.granted(*waiter->line, waiter->line_before) != 0; };
    const auto changed = [&] { return granted() || looks_changed(*waiter) || gives_up(*waiter); };
    WaitWord& place = *waiter->place.load(std::memory_order_relaxed);  // relaxed: only this thread changes it
    Status waited = nic_.wait_until(place, changed, deadline);
    if (ok(waited) && gives_up(*waiter)) waited = Status::timeout;
    Guard guard(state.guard);
    if (waiter->line != nullptr) look_at_line(state, waiter, guard);
    switch (waiter->state.load(std::memory_order_relaxed)) {  // relaxed: under the guard
      case State::granted:
        return Status::ok;
      case State::failed:
        return waiter->status;
      case State::elected:
        if (ok(waited) && gate_.enter_for(state.offset)) {
          set_state(*waiter, State::waiting);
          guard.unlock();
          // A stop request does not end a wait for the home: it is no long one.
          request_token(state, waiter, waiter->give_up == nullptr ? deadline : std::min(deadline, nic_.env().now() + kPatience));
          continue;
        }
        if (ok(waited)) {
          guard.unlock();
          waited = gate_.wait_until_open(state.offset, deadline);  // short: who gives up does so afterwards
          if (ok(waited)) continue;
          guard.lock();
          if (waiter->state.load(std::memory_order_relaxed) == State::failed) return waiter->status;  // relaxed: under the guard
        }
        state.remove(waiter);
        elect_or_forget(state, guard);
        return waited;
      case State::waiting:
      case State::answered:
        if (ok(waited)) continue;  // a wake-up meant for an earlier use of this queue node
        state.remove(waiter);
        watch_line(state, waiter, guard);
        return waited;
    }
  }
}

LockExtra& Mutexes::extra_of(LockState& state) {
  if (state.extra == nullptr) {
    state.extra = extras_.take();
    state.extra->prober = nullptr;
    state.extra->successor_probe = 0;
    state.extra->successor_line = 0;
    state.extra->line = nullptr;
  }
  return *state.extra;
}

void Mutexes::trim(LockState& state) {
  if (state.extra == nullptr || state.has_payload || state.has_successor || state.extra->prober != nullptr || state.extra->line != nullptr)
    return;
  extras_.give_back(std::exchange(state.extra, nullptr));
}

// Only the holder runs this, so has_payload cannot change meanwhile: it is set when the token comes, and the token is here.
void Mutexes::apply_payload(LockState& state) {
  Guard guard(state.guard);
  if (!state.has_payload) return;
  state.has_payload = false;
  const Bytes payload = std::exchange(state.extra->payload, {});
  const NodeId granter = state.extra->granter;
  trim(state);
  guard.unlock();
  hook_.on_acquire(SyncId{state.offset}, granter, payload);
}

// An engine that is woken for a request beside two threads that want the lock all the time takes a processor from one of them, and one that has been
// preempted in the middle keeps the thread that holds from seeing the next request for a time slice: Jain's index of two such nodes was 0.5 to 0.95.
void Mutexes::look() {
  const Nanos now = nic_.env().now();
  const Nanos before = last_look_.exchange(now, std::memory_order_relaxed);  // relaxed: a hint
  (void)(now - before < kOften ? nic_.drive() : nic_.drive_once());
}

Status Mutexes::unlock(LockState& state, std::uint64_t who) {
  hook_.before_unlock(SyncId{state.offset});
  Guard guard(state.guard);
  if (state.holder != who || !state.held_by_thread()) return Status::perm;
  if (state.stay <= kShortStay) ++state.stay;
  if (state.has_waiters() && (!state.has_successor || state.cohort < cohort_limit_)) {
    if (state.has_successor) ++state.cohort;
    state.unreleased = true;
    LockWaiter* next = state.hand_to_first();
    guard.unlock();
    next->announce(nic_.env());
    return Status::ok;
  }
  if (!state.has_successor && !(state.migrates && state.stay <= kShortStay)) [[likely]] {
    state.unreleased = true;
    state.holder = LockState::kNobody;
    return Status::ok;
  }
  state.holder = LockState::kReleasing;
  guard.unlock();
  release(state);
  return Status::ok;
}

void Mutexes::release(LockState& state) {
  hook_.on_release(SyncId{state.offset});
  Guard guard(state.guard);
  state.unreleased = false;
  if (state.has_successor) return grant_to_successor(state, guard);
  keep(state, guard);
}

void Mutexes::keep(LockState& state, Guard& guard) {
  if (!state.has_waiters()) {
    state.holder = LockState::kNobody;
    guard.unlock();
    return;
  }
  LockWaiter* next = state.hand_to_first();
  guard.unlock();
  next->announce(nic_.env());
}

void Mutexes::grant_idle(LockState& state, Guard& guard) {
  const SyncId id{state.offset};
  if (!state.unreleased || !hook_.needs_release(id)) return grant_to_successor(state, guard);
  if (!state.extra->successor_ride.empty()) {  // need not wait for the flush
    state.holder = LockState::kCaretaker;
    const Bytes ride = std::exchange(state.extra->successor_ride, {});
    const NodeId from = state.successor.id();
    guard.unlock();
    cargo_->arrive(id, from, ride);
    guard.lock();
  }
  release_for(state, guard);
}

void Mutexes::release_for(LockState& state, Guard& guard) {
  state.holder = LockState::kCaretaker;
  guard.unlock();
  // Never refused: only the destructor closes the group, after the last message.
  (void)caretakers_.spawn([this, &state] {
    if (rests_.load()) return;  // nobody wants it, nor what came with it. Asked here, so that end() waits for who did not know
    apply_payload(state);
    release(state);
  });
}

void Mutexes::grant_to_successor(LockState& state, Guard& guard) {
  if (!gate_.enter_for(state.offset)) return keep(state, guard);  // resume() or let_go() see to it
  const NodeId to = state.successor.id();
  state.has_successor = false;
  LockExtra* const asked = take_request(state);
  const std::uint64_t line = asked->successor_line;
  state.holder = LockState::kNobody;
  state.cohort = 0;
  state.migrates = state.stay <= kShortStay;
  state.stay = 0;
  state.token = Token::requested;  // nobody asks yet: elect_or_forget() below settles it
  const std::uint64_t epoch = ++state.epoch;
  guard.unlock();

  const SyncId id{state.offset};
  Bytes cargo;
  if (id.is_object()) {
    if (!asked->successor_ride.empty()) cargo_->arrive(id, to, asked->successor_ride);
    cargo_->pack(id, cargo);
  }
  Bytes payload;
  hook_.append_grant(id, to, asked->successor_request, payload);
  const std::uint64_t question = asked->successor_probe;
  const bool is_bare = !id.is_object() && line != 0 && payload.empty() && question == 0 && epoch < GrantLines::kMostEpoch;
  if (!is_bare || !nic_.try_notify({to, CounterId{static_cast<std::uint32_t>(line - 1)}}, epoch)) {
    Bytes body = encode_lock(LockMessageType::grant, state.offset, epoch, cargo);
    body.insert(body.end(), payload.begin(), payload.end());
    nic_.send(to, nic::MessageKind::sync_lock, body);
  }
  if (question != 0) nic_.send(to, nic::MessageKind::sync_lock, encode_lock(LockMessageType::busy, state.offset, question));
  extras_.give_back(asked);

  guard.lock();
  elect_or_forget(state, guard);
  gate_.leave();  // not before: after a recovery the state may be another thread's, who has made the token again
}

LockExtra* Mutexes::take_request(LockState& state) {
  LockExtra* const mine = state.extra;
  if (!state.has_payload && mine->prober == nullptr && mine->line == nullptr) return std::exchange(state.extra, nullptr);
  LockExtra* const asked = extras_.take();
  asked->successor_request.swap(mine->successor_request);
  asked->successor_ride.swap(mine->successor_ride);
  asked->successor_probe = std::exchange(mine->successor_probe, 0);
  asked->successor_line = std::exchange(mine->successor_line, 0);
  return asked;
}

void Mutexes::elect_or_forget(LockState& state, Guard& guard) {
  if (!state.has_waiters()) {
    state.token = Token::absent;
    guard.unlock();
    return;
  }
  LockWaiter* const elected = state.first();
  set_state(*elected, State::elected);
  guard.unlock();
  elected->announce(nic_.env());
}

bool Mutexes::held_here(std::uint64_t offset) const {
  const LockState* state = table_.find(offset);
  if (state == nullptr) return false;
  const Guard guard(state->guard);
  return state->held_by_thread();
}

void Mutexes::look_again(std::uint64_t offset) {
  LockState* const state = table_.find(offset);
  if (state == nullptr) return;
  const Guard guard(state->guard);
  if (!state->has_waiters()) return;
  LockWaiter* waiter = state->last;
  do {
    waiter->announce(nic_.env());
    waiter = waiter->next;
  } while (waiter != state->last);
}

std::vector<Held> Mutexes::held_and_wanted() const {
  std::vector<Held> held;
  for (const LockState* const state : table_.all()) {
    const Guard guard(state->guard);
    if (state->held_by_thread() && (state->has_waiters() || state->has_successor)) held.push_back({SyncId{state->offset}, state->holder});
  }
  return held;
}

std::uint64_t Mutexes::epoch_of(std::uint64_t offset) const {
  const LockState* state = table_.find(offset);
  if (state == nullptr) return 0;
  const Guard guard(state->guard);
  return state->epoch;
}

// ---- asking for the token ----------------------------------------------------------------------------------------------

Result<LockSlot> Mutexes::slot_of(LockState& state, Patience* patience) {
  {
    const Guard guard(state.guard);
    if (state.slot != 0) return LockSlot{directory_.home_of(state.offset), state.slot};
  }
  if (const Status marked = directory_.mark_used(state.offset, patience); !ok(marked)) return marked;
  const Result<LockSlot> slot = directory_.find(state.offset, patience);
  if (!slot) return slot;
  const Guard guard(state.guard);
  state.slot = slot->number;
  return slot;
}

void Mutexes::request_token(LockState& state, LockWaiter* waiter, Nanos deadline) {
  stats_.add(Stat::lock_remote);
  Patience patience{deadline};
  Patience* const limit = deadline == kForever ? nullptr : &patience;
  const Result<LockSlot> slot = slot_of(state, limit);
  const Result<std::uint64_t> tail = slot ? directory_.swap_tail(*slot, limit) : Result<std::uint64_t>(slot.status());
  if (patience.late == nullptr) {
    swapped(state, slot, tail, waiter);
    return gate_.leave();
  }
  settle_late(patience, [this, &state, slot](const Result<std::uint64_t>& answer) {
    if (slot) return swapped(state, slot, answer, nullptr);
    const Result<LockSlot> found = slot_of(state);  // finding it twice is finding it once
    swapped(state, found, found ? directory_.swap_tail(*found) : Result<std::uint64_t>(found.status()), nullptr);
  });
}

void Mutexes::settle_late(const Patience& patience, std::function<void(const Result<std::uint64_t>&)> settle) {
  // Never refused: only the destructor closes the group, after the last call.
  (void)caretakers_.spawn([this, late = patience.late, settle = std::move(settle)] {
    (void)nic_.wait(*late);
    settle(outcome_of(*late));
    gate_.leave();
  });
}

void Mutexes::swapped(LockState& state, const Result<LockSlot>& slot, const Result<std::uint64_t>& tail, LockWaiter* waiter) {
  if (!tail) return (void)came_to_nothing(state, tail.status());
  if (is_lost(state, *tail)) return found_lost(state, *slot, *tail);
  Guard guard(state.guard);
  if (*tail == 0 || is_of_before(*tail)) {
    state.token = Token::here;
    return token_arrived(state, guard);
  }
  NETVM_CHECK(*tail <= nic_.nodes() && *tail != nic_.node().value + 1, "mutex at offset %#llx: its tail at node %u names node %lld",
              printable(state.offset), slot->home.value, static_cast<long long>(*tail) - 1);
  const NodeId predecessor{static_cast<std::uint32_t>(*tail - 1)};
  state.predecessor = predecessor;
  state.asked = true;
  guard.unlock();
  if (GrantLine* const line = waiter == nullptr || SyncId{state.offset}.is_object() ? nullptr : lines_.take(); line != nullptr) {
    guard.lock();
    line->before = nic_.counter_value(line->counter);
    LockExtra& extra = extra_of(state);
    extra.line = waiter->line = line;
    extra.line_watched = false;
    waiter->line_before = line->before;
    waiter->place.store(&nic_.counter_word(line->counter), std::memory_order_relaxed);  // relaxed: under the guard
    guard.unlock();
  }
  send_request(state, predecessor, waiter == nullptr ? nullptr : waiter->ride);
}

Status Mutexes::came_to_nothing(LockState& state, Status status) {
  if (status == Status::cancelled) ended_.store(true);
  if (!gate_.is_dead(directory_.home_of(state.offset))) {
    Guard guard(state.guard);
    fail_waiters(state, status, guard);
    return status;
  }
  Guard guard(state.guard);
  elect_or_forget(state, guard);
  return Status::ok;
}

void Mutexes::send_request(LockState& state, NodeId predecessor, const Ride* ride) {
  Bytes aboard;
  if (ride != nullptr) cargo_->board(SyncId{state.offset}, predecessor, *ride, aboard);
  std::uint64_t line = 0;
  {
    const Guard guard(state.guard);
    if (state.extra != nullptr && state.extra->line != nullptr) line = state.extra->line->counter.id.value + std::uint64_t{1};
  }
  Bytes body = encode_lock(LockMessageType::request, state.offset, line, aboard);
  hook_.append_acquire_request(SyncId{state.offset}, body);
  nic_.send(predecessor, nic::MessageKind::sync_lock, body);
}

// In one go with what the caller has found under the guard: a thread that knew before might recover the lock in between.
void Mutexes::fail_waiters(LockState& state, Status status, Guard& guard) {
  std::vector<LockWaiter*> failed;
  state.token = Token::absent;
  state.asked = false;
  end_line(state);
  const auto fail = [&](LockWaiter* waiter) {
    waiter->status = status;
    set_state(*waiter, State::failed);
    failed.push_back(waiter);
  };
  while (state.has_waiters()) {
    LockWaiter* const waiter = state.first();
    state.remove(waiter);
    fail(waiter);
  }
  LockWaiter* const prober = state.extra == nullptr ? nullptr : state.extra->prober;
  if (prober != nullptr && prober->state.load(std::memory_order_relaxed) != State::failed) fail(prober);  // relaxed: under the guard
  guard.unlock();
  for (LockWaiter* waiter : failed) waiter->announce(nic_.env());
}

void Mutexes::token_arrived(LockState& state, Guard& guard) {
  if (!state.has_waiters()) return release_for(state, guard);  // all waiters' deadlines passed
  LockWaiter* next = state.hand_to_first();
  guard.unlock();
  next->announce(nic_.env());
}

}  // namespace netvm::sync
