// Mutexes: the messages of other nodes, and try_lock of a mutex whose token is elsewhere.
//
// try_lock never waits for a holder. It asks the queue's last node whether the mutex is free there (a round trip that a handler answers);
// if so it puts itself behind that node and asks for the token. Should a thread over there have been faster, the answer to a second
// question, sent right behind the request and answered behind any grant, says so: try_lock gives up, and the token, when it comes, stays at this
// node. Where that node must flush first, it answers when it has granted. An answer that has not come within kPatience is a no: its node may be stopped.
#include <mutex>
#include <optional>
#include <utility>

#include "runtime/check.hpp"
#include "sync/mutex.hpp"

namespace netvm::sync {

using Guard = std::unique_lock<SpinLock>;
using State = LockWaiter::State;
using Token = LockState::Token;

// ---- try_lock ------------------------------------------------------------------------------------------------------------

Result<bool> Mutexes::try_lock(std::uint64_t offset, std::uint64_t who) {
  NETVM_CHECK(who != LockState::kNobody && who < LockState::kCaretaker, "%llu does not name a thread", printable(who));
  LockState& state = table_.at(offset);
  {
    Guard guard(state.guard);
    if (state.idle()) {
      take_idle(state, who, guard);
      return true;
    }
    if (state.lost) return Status::owner_dead;
    if (state.token != Token::absent || !gate_.enter_for(offset)) return false;  // a thread of this node holds it or waits for it
    state.token = Token::requested;
  }
  const Result<bool> got = try_remote(state, who, nic_.env().now() + kPatience);
  if (got && *got) {
    apply_payload(state);
    stats_.add(Stat::lock_acquires);
  }
  return got;
}

// The gate was entered.
Result<bool> Mutexes::try_remote(LockState& state, std::uint64_t who, Nanos deadline) {
  stats_.add(Stat::lock_remote);
  Patience patience{deadline};
  std::uint64_t expected = 0;
  const Result<LockSlot> slot = slot_of(state, &patience);
  Result<std::uint64_t> tail = slot ? directory_.compare_swap_tail(*slot, expected, &patience) : Result<std::uint64_t>(slot.status());
  if (tail && is_of_before(*tail)) {
    expected = *tail;
    tail = directory_.compare_swap_tail(*slot, expected, &patience);
    if (tail && *tail == expected) tail = std::uint64_t{0};
  }
  if (patience.late != nullptr) {
    settle_late(patience, [this, &state, slot, expected](const Result<std::uint64_t>& answer) {
      settle_try(state, slot, expected, std::nullopt, answer);
    });
    return false;
  }
  if (!tail) {
    const Status failed = came_to_nothing(state, tail.status());
    gate_.leave();
    if (!ok(failed)) return failed;
    return false;
  }
  if (is_lost(state, *tail)) {
    found_lost(state, *slot, *tail);
    gate_.leave();
    return Status::owner_dead;
  }
  if (*tail == 0) {  // nobody ever asked
    {
      const Guard guard(state.guard);
      state.token = Token::here;
      state.holder = who;
    }
    gate_.leave();
    return true;
  }
  gate_.leave();
  NETVM_CHECK(*tail <= nic_.nodes() && *tail != nic_.node().value + 1, "mutex at offset %#llx: its tail at node %u names node %lld",
              printable(state.offset), slot->home.value, static_cast<long long>(*tail) - 1);
  const NodeId last{static_cast<std::uint32_t>(*tail - 1)};
  LockWaiter* waiter = pool_.take(who);
  Status status = Status::ok;
  bool got = false;
  const bool is_free = probe(state, waiter, last, deadline);
  const bool inside = is_free && gate_.enter_for(state.offset);
  Guard guard(state.guard);
  end_probe(state);
  if (waiter->state.load(std::memory_order_relaxed) == State::failed) {  // relaxed: under the guard
    // The lock was lost meanwhile: the token, if there is one again, is not for this thread to ask for.
    guard.unlock();
    if (inside) gate_.leave();
    status = waiter->status;
  } else if (inside) {
    guard.unlock();
    got = claim_behind(state, waiter, last, deadline, &status);
  } else {
    elect_or_forget(state, guard);
  }
  pool_.give_back(waiter);
  if (!ok(status)) return status;
  return got;
}

void Mutexes::settle_try(LockState& state, const Result<LockSlot>& slot, std::uint64_t expected, std::optional<NodeId> last,
                         const Result<std::uint64_t>& tail) {
  if (slot && !tail) return (void)came_to_nothing(state, tail.status());
  // What was late may have been the slot: then nothing was swapped.
  const bool swapped = slot && *tail == expected;
  if (swapped && !last && is_lost(state, 0)) return found_lost(state, *slot, 0);
  Guard guard(state.guard);
  if (!swapped) return elect_or_forget(state, guard);
  if (!last) {
    state.token = Token::here;
    return token_arrived(state, guard);
  }
  state.predecessor = *last;
  state.asked = true;
  guard.unlock();
  send_request(state, *last);
}

bool Mutexes::probe(LockState& state, LockWaiter* prober, NodeId last, Nanos deadline) {
  Guard guard(state.guard);
  const std::uint64_t number = probes_.fetch_add(1, std::memory_order_relaxed) + 1;  // relaxed: only uniqueness matters
  extra_of(state).prober = prober;
  state.extra->probe_number = number;
  guard.unlock();
  if (!gate_.is_dead(last)) {  // who dies after this look is followed by forget_questions()
    nic_.send(last, nic::MessageKind::sync_lock, encode_lock(LockMessageType::probe, state.offset, number));
    const auto changed = [prober] {
      return prober->state.load(std::memory_order_acquire) != State::waiting;  // acquire: partner is the release under the guard
    };
    (void)nic_.wait_until(prober->word, changed, deadline);
  }
  guard.lock();
  if (prober->state.load(std::memory_order_relaxed) != State::answered) return false;  // relaxed: under the guard
  prober->state.store(State::waiting, std::memory_order_relaxed);                      // relaxed: under the guard
  return prober->answer_free;
}

void Mutexes::end_probe(LockState& state) {
  state.extra->prober = nullptr;  // a late answer finds nobody
  trim(state);
}

// The gate was entered; it is left here.
bool Mutexes::claim_behind(LockState& state, LockWaiter* waiter, NodeId last, Nanos deadline, Status* status) {
  const std::uint64_t expected = last.value + std::uint64_t{1};
  Patience patience{deadline};
  const Result<LockSlot> slot = slot_of(state, &patience);  // its home may have died since
  const Result<std::uint64_t> tail = slot ? directory_.compare_swap_tail(*slot, expected, &patience) : Result<std::uint64_t>(slot.status());
  if (patience.late != nullptr) {
    settle_late(patience, [this, &state, slot, expected, last](const Result<std::uint64_t>& answer) {
      settle_try(state, slot, expected, last, answer);
    });
    return false;
  }
  if (!tail) {
    *status = came_to_nothing(state, tail.status());
    gate_.leave();
    return false;
  }
  Guard guard(state.guard);
  if (*tail != expected) {  // another node was faster
    elect_or_forget(state, guard);
    gate_.leave();
    return false;
  }
  state.prepend(waiter);
  state.predecessor = last;
  state.asked = true;
  guard.unlock();
  send_request(state, last);
  gate_.leave();
  (void)probe(state, waiter, last, deadline);
  guard.lock();
  end_probe(state);
  switch (waiter->state.load(std::memory_order_relaxed)) {  // relaxed: under the guard
    case State::granted:
      return true;
    case State::failed:
      *status = waiter->status;
      return false;
    case State::elected:  // the request met a lock that had been lost, and recovered since
      state.remove(waiter);
      elect_or_forget(state, guard);
      return false;
    default:
      state.remove(waiter);
      return false;
  }
}

// ---- messages --------------------------------------------------------------------------------------------------------------

void Mutexes::on_message(NodeId from, std::span<const std::byte> body) noexcept {
  const auto message = decode_lock(body);
  if (!message) {
    dropped_.fetch_add(1, std::memory_order_relaxed);  // relaxed: a statistic
    return;
  }
  if (ended_.load() || !gate_.hear(from)) return;
  handle(from, *message);
  gate_.leave();
}

void Mutexes::handle(NodeId from, const LockMessage& message) {
  switch (message.type) {
    case LockMessageType::in_use:
    case LockMessageType::forget:
      return handle_freed(from, message);
    case LockMessageType::hold_still:
      return handle_hold_still(from, message);
    case LockMessageType::placed:
      return handle_placed(from, message);
    case LockMessageType::revived:
      return handle_revived(from, message);
    case LockMessageType::use:
      return handle_use(from, message);
    default:
      break;
  }
  LockState* state = table_.find(message.offset);
  if (message.type == LockMessageType::probe) return handle_probe(state, from, message);
  NETVM_CHECK(state != nullptr, "node %u sent a message about the mutex at offset %#llx, which no thread of this node ever locked",
              from.value, printable(message.offset));
  switch (message.type) {
    case LockMessageType::request:
      return handle_request(*state, from, message);
    case LockMessageType::grant:
      return handle_grant(*state, from, message);
    case LockMessageType::lost:
      return handle_lost(*state, message);
    default:
      return handle_answer(*state, message);
  }
}

void Mutexes::handle_request(LockState& state, NodeId from, const LockMessage& message) {
  const SyncId id{state.offset};
  NETVM_CHECK(id.is_object() || message.cargo.empty(), "node %u sends an operation along with its request for the mutex at offset %#llx",
              from.value, printable(state.offset));
  if (id.is_object()) cargo_->asked(id, from, message.payload);
  Guard guard(state.guard);
  if (state.lost) {
    const std::uint64_t epoch = state.epoch;
    guard.unlock();
    return nic_.send(from, nic::MessageKind::sync_lock, encode_lock(LockMessageType::lost, message.offset, epoch));
  }
  // This node gave up at a home that has died, where its swap had happened all the same: who found it there asks anew after the round.
  if (state.token == Token::absent && !gate_.deaths_if_open()) return;
  NETVM_CHECK(!state.has_successor && state.token != Token::absent,
              "node %u asks this node for the mutex at offset %#llx, which %s: two nodes think they follow this one", from.value,
              printable(state.offset), state.has_successor ? "has a successor already" : "is not here");
  state.has_successor = true;
  state.successor = from;
  LockExtra& extra = extra_of(state);
  extra.successor_request.assign(message.payload.begin(), message.payload.end());
  extra.successor_ride.assign(message.cargo.begin(), message.cargo.end());
  extra.successor_probe = 0;
  extra.successor_line = message.epoch;
  if (state.idle()) grant_idle(state, guard);
}

void Mutexes::handle_grant(LockState& state, NodeId from, const LockMessage& message) {
  // Before anybody can hold: nobody else looks at the cargo of a token that is under way.
  const SyncId id{state.offset};
  NETVM_CHECK(id.is_object() ? cargo_->unpack(id, message.cargo) : message.cargo.empty(),
              "node %u grants this node the token at offset %#llx with a malformed cargo", from.value, printable(state.offset));
  Guard guard(state.guard);
  NETVM_CHECK(state.token == Token::requested && message.epoch > state.epoch,
              "node %u grants this node the mutex at offset %#llx with epoch %llu, which it %s (epoch %llu)", from.value,
              printable(state.offset), printable(message.epoch), state.token == Token::requested ? "has seen" : "did not ask for",
              printable(state.epoch));
  state.has_payload = true;
  take_token(state, message.epoch);
  LockExtra& extra = extra_of(state);
  extra.granter = from;
  extra.payload.assign(message.payload.begin(), message.payload.end());
  token_arrived(state, guard);
}

void Mutexes::take_token(LockState& state, std::uint64_t epoch) {
  state.token = Token::here;
  state.asked = false;
  state.epoch = epoch;
  state.cohort = 0;
  state.stay = 0;
  state.unreleased = false;
  end_line(state);
}

// ---- grant lines -----------------------------------------------------------------------------------------------------------

void Mutexes::end_line(LockState& state) {
  GrantLine* const line = state.extra == nullptr ? nullptr : std::exchange(state.extra->line, nullptr);
  if (line == nullptr) return;
  // Never refused: only the destructor closes the group, after the last message and handler.
  if (state.extra->line_watched || !lines_.give_back(line)) (void)caretakers_.spawn([this, line] { lines_.retire(line); });
  trim(state);
}

bool Mutexes::take_from_line(LockState& state) {
  const GrantLine* const line = state.extra == nullptr ? nullptr : state.extra->line;
  const std::uint64_t epoch = line == nullptr ? 0 : lines_.granted(*line, line->before);
  if (epoch == 0) return false;
  NETVM_CHECK(state.token == Token::requested && epoch > state.epoch,
              "the mutex at offset %#llx was granted to this node with epoch %llu, which it %s (epoch %llu)", printable(state.offset),
              printable(epoch), state.token == Token::requested ? "has seen" : "did not ask for", printable(state.epoch));
  take_token(state, epoch);
  return true;
}

void Mutexes::look_at_line(LockState& state, LockWaiter* waiter, Guard& guard) {
  const bool is_lent = state.extra != nullptr && state.extra->line == waiter->line;
  const bool taken = is_lent && take_from_line(state);
  if (is_lent && !taken) return;
  waiter->line = nullptr;
  waiter->place.store(&waiter->word, std::memory_order_relaxed);  // relaxed: under the guard
  LockWaiter* const next = taken ? state.hand_to_first() : waiter;
  if (next == waiter) return;
  guard.unlock();
  next->announce(nic_.env());
  guard.lock();
}

void Mutexes::watch_line(LockState& state, LockWaiter* waiter, Guard& guard) {
  GrantLine* const line = waiter->line;
  if (line == nullptr) return guard.unlock();
  state.extra->line_watched = true;
  const std::uint64_t before = line->before;
  guard.unlock();
  // Refused where the line has been retired meanwhile, or the job ends.
  (void)nic_.set_handler(line->counter, before + 1, [this, &state, line, before](std::uint64_t, std::uint64_t) -> std::uint64_t {
    Guard hold(state.guard);
    const bool is_lent = state.extra != nullptr && state.extra->line == line;
    if (is_lent && take_from_line(state)) token_arrived(state, hold);
    return is_lent && lines_.granted(*line, before) == 0 ? before + 1 : nic::kErrorsOnly;
  });
}

void Mutexes::handle_probe(LockState* state, NodeId from, const LockMessage& message) {
  bool is_free = false;
  bool is_lost = false;
  std::uint64_t epoch = 0;
  if (state != nullptr) {
    const Guard guard(state->guard);
    if (state->has_successor && state->successor.id() == from && state->holder >= LockState::kCaretaker) {
      state->extra->successor_probe = message.epoch;  // it is about to be granted
      return;
    }
    is_free = state->idle();
    is_lost = state->lost;
    epoch = state->epoch;
  }
  if (is_lost) {
    Bytes lost = encode_lock(LockMessageType::lost, message.offset, epoch);
    const auto number = std::as_bytes(std::span(&message.epoch, 1));
    lost.insert(lost.end(), number.begin(), number.end());
    nic_.send(from, nic::MessageKind::sync_lock, lost);
  }
  const LockMessageType answer = is_free ? LockMessageType::free : LockMessageType::busy;
  nic_.send(from, nic::MessageKind::sync_lock, encode_lock(answer, message.offset, message.epoch));
}

void Mutexes::handle_answer(LockState& state, const LockMessage& message) {
  Guard guard(state.guard);
  LockWaiter* prober = state.extra == nullptr ? nullptr : state.extra->prober;
  // It no longer asks (cancelled), asked another question, or was granted before the answer came.
  if (prober == nullptr || state.extra->probe_number != message.epoch || prober->state.load(std::memory_order_relaxed) != State::waiting)
    return;  // relaxed: under the guard
  prober->answer_free = message.type == LockMessageType::free;
  prober->state.store(State::answered, std::memory_order_release);  // release: partner is probe()'s look
  guard.unlock();
  prober->announce(nic_.env());
}

}  // namespace netvm::sync
