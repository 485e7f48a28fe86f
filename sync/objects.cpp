// Objects: what all kinds have in common. Taking and letting go of the token, waiting, waking.
#include "sync/objects.hpp"

#include <algorithm>
#include <utility>

#include "runtime/check.hpp"
#include "sync/objects_impl.hpp"
#include "sync/sync_wire.hpp"
#include "sync/waits.hpp"

namespace netvm::sync {

namespace {
// For the watchdog.
const char* short_name(ObjectKind kind) {
  return kind == ObjectKind::rwlock ? "rw lock" : kind == ObjectKind::wait_queue ? "condition" : to_string(kind);
}
}  // namespace

Objects::Objects(Mutexes& mutexes, nic::Nic& nic, CoherenceHook& hook, Stats& stats, std::uint32_t most_joins)
    : mutexes_(mutexes),
      nic_(nic),
      hook_(hook),
      stats_(stats),
      most_joins_(most_joins),
      table_(std::make_unique<Table>()),
      dead_(nic.nodes(), false),
      menders_(nic.env()),
      told_(nic.nodes()) {
  nic_.set_message_handler(nic::MessageKind::sync_wake, this);
}

Objects::~Objects() { nic_.set_message_handler(nic::MessageKind::sync_wake, nullptr); }

std::vector<Held> Objects::wanted() {
  std::vector<Held> wanted;
  mutexes_.each_at_rest([&](LockState& lock) {
    if (!SyncId{lock.offset}.is_object()) return;
    const ObjectState& state = static_cast<const Object&>(lock).state;
    if (state.queue.empty()) return;
    const bool counts = state.kind == ObjectKind::semaphore || state.kind == ObjectKind::wait_queue;
    wanted.push_back({SyncId{lock.offset}, Held::kState, state.count, counts ? state.queue.size() : state.limit});
  });
  return wanted;
}

LockState& Objects::make_state() { return table_->objects.make(); }

Objects::Object& Objects::named(std::uint64_t offset) {
  NETVM_CHECK((offset & SyncId::kObjectBit) == 0, "%#llx is no offset in shared memory", printable(offset));
  return at(SyncId::of_object(offset));
}

ObjectKind Objects::kind_of(std::uint64_t offset) const {
  const LockState* const found = mutexes_.find(SyncId::of_object(offset).offset);
  if (found == nullptr) return ObjectKind::none;
  return static_cast<const Object*>(found)->kind.load(std::memory_order_relaxed);  // relaxed: for messages to people
}

// ---- the token -------------------------------------------------------------------------------------------------------------

// Who does not want to wait for others waits for the token all the same: nobody has it for longer than an operation takes, unless its node stands still.
Status Objects::take_token(Object& object, std::uint64_t who, Nanos deadline, const std::atomic<bool>* give_up, const Ride* ride) {
  if (deadline == kForever && give_up == nullptr) return mutexes_.lock(object, who, kForever, nullptr, ride);
  const Nanos now = nic_.env().now();
  const Nanos soon = now + kPatience;
  const Nanos end = deadline <= now ? soon : deadline;
  const Status status = mutexes_.lock(object, who, give_up == nullptr ? end : std::min(end, soon), nullptr, ride);
  return status == Status::timeout && give_up != nullptr && end > soon ? mutexes_.lock(object, who, end, give_up, ride) : status;
}

Result<Objects::Object*> Objects::enter(Object& object, std::uint64_t who, ObjectKind kind, Nanos deadline,
                                        const std::atomic<bool>* give_up, const Initial* initial, const Ride* ride,
                                        std::optional<RideAnswer>* answer) {
  const Status status = take_token(object, who, deadline, give_up, ride);
  if (!ok(status)) return status;
  ObjectState& state = object.state;
  note_deaths(object);
  if (ride != nullptr && state.has_answers()) {
    *answer = state.take_answer(nic_.node(), ride->number);
    if (*answer) return &object;
  }
  // What leaves nothing behind when nobody is at it makes room for what the memory is used as now.
  const bool leaves_nothing =
      state.kind == ObjectKind::wait_queue || (state.kind == ObjectKind::rwlock && state.count == 0 && state.limit == 0);
  if (state.kind == ObjectKind::none || (state.kind != kind && leaves_nothing && state.queue.empty())) {
    state.begin_anew();
    state.kind = kind;
    if (initial != nullptr) state.count = (*initial)();
    if (kind == ObjectKind::barrier) state.limit = state.count;
  }
  object.kind.store(state.kind, std::memory_order_relaxed);  // relaxed: for messages to people
  if (state.kind == kind) return &object;
  leave(object, who);
  return Status::invalid;
}

// ---- changes ---------------------------------------------------------------------------------------------------------------

Result<Outcome> Objects::enter_and(Object& object, std::uint64_t who, const Change& change, const Initial* initial,
                                   const std::function<void()>* on_completion) {
  const ObjectKind kind = sync::kind_of(change.op);
  Ride ride;
  const bool rides = on_completion == nullptr && Mutexes::is_away(object) && hook_.tells_ahead();
  if (rides) {
    ride = {rides_.fetch_add(1, std::memory_order_relaxed) + 1, change};  // relaxed: only uniqueness matters
    hook_.on_release(object.id());
  }
  std::optional<RideAnswer> answer;
  const Result<Object*> entered = enter(object, who, kind, kForever, nullptr, initial, rides ? &ride : nullptr, &answer);
  if (!entered) return entered.status();
  if (answer) return Outcome{answer->refused, answer->value, {}};
  if (object.state.broken && kind == ObjectKind::barrier) {  // its phase will not end
    leave(object, who);
    return Status::owner_dead;
  }
  if (on_completion != nullptr && completes(object.state, change)) (*on_completion)();
  return perform(object.state, change);
}

Result<std::uint64_t> Objects::make(Object& object, std::uint64_t who, const Change& change, const Initial* initial,
                                    const std::function<void()>* on_completion) {
  Outcome outcome;
  const bool done = at_rest(
      object, sync::kind_of(change.op),
      [&](ObjectState& state) {
        if (!are_here(state, wakes(state, change)) || (on_completion != nullptr && completes(state, change))) return false;
        outcome = perform(state, change);
        return true;
      },
      change.op == Change::Op::release);
  if (done) {
    for (const QueuedWaiter& waiter : outcome.woken) (void)wake_local(waiter.id, 0, nullptr);
  } else {
    Result<Outcome> made = enter_and(object, who, change, initial, on_completion);
    if (!made) return made.status();
    outcome = std::move(*made);
    leave(object, who, outcome.woken);
  }
  if (outcome.refused) return Status::invalid;
  if (change.op == Change::Op::wake && outcome.value == 0) found_nothing();
  return outcome.value;
}

bool Objects::are_here(const ObjectState& state, std::size_t count) const {
  auto waiter = state.queue.begin();
  for (std::size_t i = 0; i < count; ++i, ++waiter) {
    if (waiter->node != nic_.node()) return false;
  }
  return true;
}

void Objects::found_nothing() {
  if (fruitless_.fetch_add(1, std::memory_order_relaxed) % kDriveEvery == 0) mutexes_.look();  // relaxed: only how often matters
}

void Objects::asked(SyncId, NodeId from, std::span<const std::byte> request) {
  const std::lock_guard guard(told_guard_);
  told_[from.value].emplace(request.begin(), request.end());
}

void Objects::board(SyncId id, NodeId predecessor, const Ride& ride, Bytes& out) {
  std::optional<Bytes> told;
  {
    const std::lock_guard guard(told_guard_);
    told = told_[predecessor.value];
  }
  if (!told) return;
  encode_ride(ride, out);
  hook_.append_grant(id, predecessor, *told, out);
}

void Objects::arrive(SyncId id, NodeId from, std::span<const std::byte> bytes) {
  const auto message = decode_ride(bytes);
  NETVM_CHECK(message, "node %u sends along with its request for the object at offset %#llx what is no operation", from.value,
              printable(id.offset));
  Object& object = at(id);
  ObjectState& state = object.state;
  const Change& change = message->ride.change;
  note_deaths(object);
  if (state.kind != sync::kind_of(change.op) || state.broken) return;
  // Those of other nodes are woken by who comes: it sends them what they lack.
  if (!are_here(state, wakes(state, change))) return;
  const Outcome outcome = perform(state, change);
  state.more().answers.push_back({from, outcome.refused, message->ride.number, outcome.value});
  if (outcome.woken.empty()) return;
  const auto grant = std::make_shared<Grant>(nic_.env(), id, from, message->payload);
  for (const QueuedWaiter& waiter : outcome.woken) (void)wake_local(waiter.id, 0, grant);
}

// ---- letting the token go ----------------------------------------------------------------------------------------------------

void Objects::leave(Object& object, std::uint64_t who, const Woken& woken, std::uint64_t value) {
  struct Group {
    NodeId node;
    std::vector<std::uint64_t> ids;
    const Bytes* request;  // of the first; a later one's tells of no less
  };
  std::vector<Group> groups;
  for (const QueuedWaiter& waiter : woken) {
    if (waiter.node == nic_.node()) continue;
    auto group = std::ranges::find_if(groups, [&](const Group& g) { return g.node == waiter.node; });
    if (group == groups.end()) group = groups.insert(groups.end(), Group{waiter.node, {}, &waiter.request});
    group->ids.push_back(waiter.id);
    object.state.more().waking.push_back({waiter.id, waiter.node, nic_.node(), waiter.role});
  }
  std::vector<Bytes> bodies;
  if (!groups.empty()) {
    hook_.before_unlock(object.id());
    hook_.on_release(object.id());
  }
  for (const Group& group : groups) {
    bodies.push_back(encode_wake(object.id(), value, group.ids));
    hook_.append_grant(object.id(), group.node, *group.request, bodies.back());
  }
  const Status unlocked = mutexes_.unlock(object, who);
  NETVM_CHECK(ok(unlocked), "the token of the object at offset %#llx was not held", printable(object.offset));
  for (std::size_t i = 0; i < groups.size(); ++i) nic_.send(groups[i].node, nic::MessageKind::sync_wake, bodies[i]);
  for (const QueuedWaiter& waiter : woken) {
    if (waiter.node == nic_.node()) (void)wake_local(waiter.id, value, nullptr);
  }
}

bool Objects::in_use(SyncId id) {
  Object& object = at(id);
  {
    const std::lock_guard guard(object.readers_guard);
    if (object.readers != nullptr && (object.readers->writer != 0 || !object.readers->inside.empty())) return true;
  }
  bool waited_for = false;
  const std::lock_guard guard(waiting_guard_);
  each_waiter([&](const Waiter& waiter) { waited_for = waited_for || waiter.object == id; });
  return waited_for;
}

bool Objects::at_work(SyncId id) {
  const ObjectState& state = at(id).state;
  return state.kind == ObjectKind::once && state.count == kOnceRuns;
}

void Objects::forget(SyncId id, bool here) {
  Object& object = at(id);
  object.kind.store(ObjectKind::none, std::memory_order_relaxed);  // relaxed: for messages to people
  if (here) object.state.begin_anew();
}

void Objects::pack(SyncId id, Bytes& out) {
  ObjectState& state = at(id).state;
  if (state.kind != ObjectKind::none) (void)state.user(nic_.node());
  for (QueuedWaiter& waiter : state.queue) {
    if (waiter.node != nic_.node()) continue;
    waiter.request.clear();
    hook_.append_acquire_request(id, waiter.request);
  }
  encode_object(state, out);
  state = {};
}

bool Objects::unpack(SyncId id, std::span<const std::byte> cargo) {
  std::optional<ObjectState> state = decode_object(cargo, nic_.nodes());
  if (!state) return false;
  Object& object = at(id);
  object.state = std::move(*state);
  object.kind.store(object.state.kind, std::memory_order_relaxed);  // relaxed: for messages to people
  if (object.state.has_waking()) forget_woken(object.state);
  return true;
}

// Of a state that died nothing is left but what the lock's epoch is above.
Status Objects::lock_or_recover(Object& object, std::uint64_t who) {
  for (;;) {
    const Status status = mutexes_.lock(object, who, kForever);
    if (status != Status::owner_dead) return status;
    const Result<bool> recovered = mutexes_.recover(object, who);
    if (!recovered) return recovered.status();
    if (!*recovered) continue;
    object.state = {};
    object.state.phase = phase_of_lost(object);
    return Status::ok;
  }
}

bool Objects::is_held(const ObjectState& state) {
  if (state.kind != ObjectKind::rwlock) return false;
  if (state.count != 0 || state.limit == 0) return state.count != 0;
  const std::lock_guard guard(waiting_guard_);
  return !dead_[state.limit - 1];
}

Status Objects::init(std::uint64_t offset, std::uint64_t who, ObjectKind kind, std::uint64_t count) {
  Object& object = named(offset);
  if (const Status status = lock_or_recover(object, who); !ok(status)) return status;
  ObjectState& state = object.state;
  note_deaths(object);
  const bool busy = is_held(state) || !state.queue.empty();
  if (!busy) {
    const std::uint64_t phase = state.phase;
    state.begin_anew();
    state.phase = phase;
    state.kind = kind;
    state.count = count;
    state.limit = kind == ObjectKind::barrier ? count : 0;
    ++state.phase;  // nobody waits for a phase of before
  }
  object.kind.store(state.kind, std::memory_order_relaxed);  // relaxed: for messages to people
  leave(object, who);
  return busy ? Status::invalid : Status::ok;
}

// ---- waiting ---------------------------------------------------------------------------------------------------------------

Objects::Waiter* Objects::line_up(Object& object, QueuedWaiter::Role role) {
  Waiter* waiter = nullptr;
  {
    const std::lock_guard guard(waiting_guard_);
    waiter = free_;
    if (waiter != nullptr) {
      free_ = waiter->next;
    } else {
      const auto place = static_cast<std::uint32_t>(waiters_.size());
      NETVM_CHECK(place < 1U << kPlaceBits, "%u threads of this node wait at once", place);
      waiter = &waiters_.emplace_back();
      waiter->place = place;
    }
    waiter->state.store(Waiter::State::waiting, std::memory_order_relaxed);  // relaxed: published under the guard
    waiter->id = ++waits_begun_ << kPlaceBits | waiter->place;
    waiter->object = object.id();
    waiter->kind = object.state.kind;
    waiter->role = role;
  }
  object.state.queue.push_back({waiter->id, nic_.node(), role});
  return waiter;
}

Objects::Waiter* Objects::find_waiter(std::uint64_t id) {
  const std::size_t place = id & ((std::uint64_t{1} << kPlaceBits) - 1);
  return id != 0 && place < waiters_.size() && waiters_[place].id == id ? &waiters_[place] : nullptr;
}

void Objects::recycle(Waiter* waiter) {
  waiter->id = 0;
  waiter->next = free_;
  free_ = waiter;
}

Status Objects::await(Object& object, Waiter* waiter, std::uint64_t who, Nanos deadline, const std::atomic<bool>* give_up,
                      std::uint64_t* value) {
  const auto state = [waiter] { return waiter->state.load(std::memory_order_acquire); };  // acquire: partner is wake_local()'s release
  const Nanos begin = nic_.env().now();
  const Waits::Scope waits(mutexes_.waits(), {short_name(waiter->kind), object.id(), who, begin});
  Status status = nic_.wait_until(
      waiter->word, [&] { return state() != Waiter::State::waiting || (give_up != nullptr && give_up->load()); }, deadline);
  if (state() == Waiter::State::lost) {
    status = Status::owner_dead;
  } else if (state() != Waiter::State::woken && status != Status::cancelled) {
    const Nanos soon = nic_.env().now() + kPatience;
    const Result<bool> withdrawn = withdraw(object, waiter->id, who, soon);
    status = !withdrawn ? withdrawn.status() : Status::timeout;
    const bool is_out = withdrawn && *withdrawn;
    if (withdrawn && !is_out)
      status = nic_.wait_until(
          waiter->word, [&] { return state() >= Waiter::State::lost; }, soon);
    if (status == Status::timeout && !is_out && leave_behind(object, waiter)) {
      stats_.add(Stat::lock_wait_ns, static_cast<std::uint64_t>(nic_.env().now() - begin));
      return status;
    }
    if (state() == Waiter::State::lost) status = Status::owner_dead;
  }
  if (state() == Waiter::State::woken) {
    status = Status::ok;
    if (value != nullptr) *value = waiter->value;
    if (waiter->grant != nullptr) apply(*waiter->grant);
  }
  forget(waiter);
  stats_.add(Stat::lock_wait_ns, static_cast<std::uint64_t>(nic_.env().now() - begin));
  return status;
}

Result<bool> Objects::withdraw(Object& object, std::uint64_t waiter_id, std::uint64_t who, Nanos deadline) {
  if (const Status status = mutexes_.lock(object, who, deadline); !ok(status)) return status;
  note_deaths(object);
  const bool was_there = object.state.remove(nic_.node(), waiter_id);
  // Others may have stood behind it only.
  if (was_there && object.state.kind == ObjectKind::rwlock) {
    leave_lock(object, who);
  } else {
    leave(object, who);
  }
  return was_there;
}

bool Objects::leave_behind(Object& object, Waiter* waiter) {
  {
    const std::lock_guard guard(waiting_guard_);
    if (waiter->state.load(std::memory_order_relaxed) >= Waiter::State::lost) return false;  // relaxed: under the guard
  }
  // Refused only when the job has ended for this node.
  return menders_.spawn([this, &object, waiter] { clear_up(object, waiter); });
}

void Objects::clear_up(Object& object, Waiter* waiter) {
  const auto state = [waiter] { return waiter->state.load(std::memory_order_acquire); };  // acquire: partner is wake_local()'s release
  const std::uint64_t who = kFirstHeir - waiter->place;
  const Result<bool> withdrawn = withdraw(object, waiter->id, who, kForever);
  if (withdrawn && !*withdrawn) (void)nic_.wait_until(waiter->word, [&] { return state() >= Waiter::State::lost; });
  if (state() == Waiter::State::woken) {
    if (waiter->grant != nullptr) apply(*waiter->grant);
    pass_on(object, *waiter, who);
  }
  forget(waiter);
}

// As if it had come to a thread that gives it up at once. What is open, or over, for all was not for that one.
void Objects::pass_on(Object& object, const Waiter& waiter, std::uint64_t who) {
  switch (waiter.kind) {
    case ObjectKind::semaphore:
      (void)make(object, who, {.op = Change::Op::release, .amount = 1, .most = UINT64_MAX});
      return;
    case ObjectKind::wait_queue:
      (void)make(object, who, {.op = Change::Op::wake, .amount = 1});
      return;
    case ObjectKind::rwlock: {
      const Result<Object*> entered = enter(object, who, ObjectKind::rwlock);
      if (!entered) return;
      ObjectState& state = object.state;
      if (waiter.role == QueuedWaiter::Role::writer) {
        state.limit = 0;
      } else if (ObjectUser& user = state.user(nic_.node()); user.shares != 0) {
        --state.count;
        --user.shares;
      }
      return leave_lock(object, who);
    }
    case ObjectKind::once:
      if (waiter.value != kOnceDone) (void)end_once(SyncId{object.offset}.address(), who, false);
      return;
    default:
      return;
  }
}

Status Objects::wait_in_line(Object& object, std::uint64_t who, Nanos deadline, const std::atomic<bool>* give_up, QueuedWaiter::Role role,
                             std::uint64_t* value) {
  if ((deadline != kForever && deadline <= nic_.env().now()) || (give_up != nullptr && give_up->load())) {
    leave(object, who);
    found_nothing();
    return Status::timeout;
  }
  if (object.state.broken) {
    leave(object, who);
    return Status::owner_dead;
  }
  Waiter* waiter = line_up(object, role);
  if (deaths_.load() != object.state.deaths) mend();  // of somebody who died since the state was looked at
  leave(object, who);
  return await(object, waiter, who, deadline, give_up, value);
}

void Objects::forget(Waiter* waiter) {
  waiter->grant.reset();
  const std::lock_guard guard(waiting_guard_);
  recycle(waiter);
}

bool Objects::wake_local(std::uint64_t id, std::uint64_t value, const std::shared_ptr<Grant>& grant) {
  Waiter* waiter = nullptr;
  {
    const std::lock_guard guard(waiting_guard_);
    waiter = find_waiter(id);
    if (waiter == nullptr) return false;
    waiter->value = value;
    waiter->grant = grant;
    waiter->state.store(Waiter::State::woken, std::memory_order_release);  // release: partner is await()'s look
  }
  waiter->word.announce(nic_.env());
  return true;
}

void Objects::look_again(std::uint64_t offset) {
  const SyncId object = SyncId::of_object(offset);
  mutexes_.look_again(object.offset);
  std::vector<Waiter*> told;
  {
    const std::lock_guard guard(waiting_guard_);
    each_waiter([&](Waiter& waiter) {
      if (waiter.object == object) told.push_back(&waiter);
    });
  }
  for (Waiter* waiter : told) waiter->word.announce(nic_.env());
}

void Objects::interrupt(std::uint64_t ticket) {
  Waiter* waiter = nullptr;
  {
    const std::lock_guard guard(waiting_guard_);
    waiter = find_waiter(ticket);
    if (waiter == nullptr || waiter->state.load(std::memory_order_relaxed) != Waiter::State::waiting) return;  // relaxed: under the guard
    waiter->state.store(Waiter::State::interrupted, std::memory_order_release);  // release: partner is await()'s look
  }
  waiter->word.announce(nic_.env());
}

void Objects::apply(Grant& grant) {
  const std::lock_guard guard(grant.lock);
  if (std::exchange(grant.applied, true)) return;
  hook_.on_acquire(grant.object, grant.granter, grant.payload);
}

void Objects::on_message(NodeId from, std::span<const std::byte> body) noexcept {
  const auto message = decode_wake(body);
  bool woke = false;
  if (message && message->waiters.empty()) return mend();
  if (message) {
    const auto grant = std::make_shared<Grant>(nic_.env(), message->object, from, message->payload);
    for (const std::uint64_t id : message->waiters) woke = wake_local(id, message->value, grant) || woke;
  }
  if (!woke) dropped_.fetch_add(1, std::memory_order_relaxed);  // relaxed: a statistic
}

}  // namespace netvm::sync
