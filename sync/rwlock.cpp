// Objects: the reader-writer lock. Nodes take shares of it from the token's state, in order of arrival; a node's readers share its share, and the last
// of them to leave gives it back. Readers that find their node reading join without the token, `most_joins` of them at most before one must
// queue again: so a writer that waits elsewhere is not overtaken for ever.
//
// Invariants
//  1. state.limit != 0: a thread of node limit - 1 has it alone, and state.count == 0. Else state.count is the sum of all users' shares.
//  2. A node has shares if, and only if, one of its threads reads or is about to: given by the token's state, not yet entered in Readers.
//  3. Whoever stands in the queue's front cannot be let in yet: let_in() runs after every change.
#include <algorithm>
#include <utility>

#include "sync/objects.hpp"
#include "sync/objects_impl.hpp"

namespace netvm::sync {

using Role = QueuedWaiter::Role;

Objects::Woken Objects::let_in(ObjectState& state) {
  Woken woken;
  while (state.limit == 0 && !state.queue.empty()) {
    const bool writes = state.queue.front().role == Role::writer;
    if (writes && state.count != 0) break;
    if (writes) {
      state.limit = state.queue.front().node.value + 1;
      ++state.phase;
    } else {
      ++state.count;
      ++state.user(state.queue.front().node).shares;
    }
    state.queue.move_first_to(woken);
  }
  return woken;
}

void Objects::leave_lock(Object& object, std::uint64_t who) {
  const Woken woken = let_in(object.state);
  leave(object, who, woken, object.state.phase);
}

namespace {
template <class Readers>
bool has(const std::unique_ptr<Readers>& readers, std::uint64_t who) {
  return readers != nullptr && (readers->writer == who || std::ranges::find(readers->inside, who) != readers->inside.end());
}
}  // namespace

// Nodes' shares and readers change together: a guard is held from the look at the one to the change of the other, unless the token has to be fetched.
Status Objects::lock(std::uint64_t offset, std::uint64_t who, Nanos deadline, const std::atomic<bool>* give_up) {
  Object& object = named(offset);
  std::uint64_t token = 0;
  const auto enter_alone = [&](ObjectState& state) {
    if (state.limit != 0 || state.count != 0 || !state.queue.empty()) return false;
    state.limit = nic_.node().value + 1;
    token = ++state.phase;
    return true;
  };
  {
    const std::lock_guard guard(object.readers_guard);
    if (has(object.readers, who)) return Status::invalid;
    if (object.readers != nullptr && at_rest(object, ObjectKind::rwlock, enter_alone)) {
      object.readers->writer = who;
      object.readers->fencing_token = token;
      return Status::ok;
    }
  }
  const Result<Object*> entered = enter(object, who, ObjectKind::rwlock, deadline, give_up);
  if (!entered) return entered.status();
  if (enter_alone(object.state)) {
    leave(object, who);
  } else if (const Status status = wait_in_line(object, who, deadline, give_up, Role::writer, &token); !ok(status)) {
    return status;
  }
  const std::lock_guard guard(object.readers_guard);
  if (object.readers == nullptr) object.readers = std::make_unique<Readers>();
  object.readers->writer = who;
  object.readers->fencing_token = token;
  return Status::ok;
}

std::uint64_t Objects::phase_of_lost(const Object& object) const {
  constexpr std::uint64_t kLost = std::uint64_t{1} << 62;  // above what anybody counts to
  return kLost + mutexes_.epoch_of(object.offset);
}

Result<std::uint64_t> Objects::fencing_token(std::uint64_t offset, std::uint64_t who) {
  Object& object = named(offset);
  {
    const std::lock_guard guard(object.readers_guard);
    if (object.readers != nullptr && object.readers->writer == who) return object.readers->fencing_token;
  }
  const Result<Object*> entered = enter(object, who, ObjectKind::rwlock);
  if (entered.status() == Status::owner_dead) return phase_of_lost(object);
  if (!entered) return entered.status();
  const std::uint64_t token = object.state.phase + (object.state.broken ? 1 : 0);
  leave(object, who);
  return token;
}

Status Objects::unlock(std::uint64_t offset, std::uint64_t who) {
  Object& object = named(offset);
  {
    const std::lock_guard guard(object.readers_guard);
    if (object.readers == nullptr) return Status::perm;
    if (std::erase(object.readers->orphans, who) != 0) return Status::owner_dead;
    if (object.readers->writer != who) return Status::perm;
    object.readers->writer = 0;
    const bool quick = at_rest(object, ObjectKind::rwlock, [](ObjectState& state) {
      if (!state.queue.empty()) return false;
      state.limit = 0;
      return true;
    });
    if (quick) return Status::ok;
  }
  const Result<Object*> entered = enter(object, who, ObjectKind::rwlock);
  if (!entered) return entered.status();
  object.state.limit = 0;
  leave_lock(object, who);
  return Status::ok;
}

Status Objects::lock_shared(std::uint64_t offset, std::uint64_t who, Nanos deadline, const std::atomic<bool>* give_up) {
  Object& object = named(offset);
  const auto count_in = [&] {
    object.readers->inside.push_back(who);
    ++object.readers->shares;
    object.readers->joins = 0;
  };
  {
    const std::lock_guard guard(object.readers_guard);
    if (has(object.readers, who)) return Status::invalid;
    if (object.readers != nullptr && object.readers->shares != 0 && object.readers->joins < most_joins_) {
      ++object.readers->joins;
      object.readers->inside.push_back(who);
      return Status::ok;
    }
    const bool quick = object.readers != nullptr && at_rest(object, ObjectKind::rwlock, [this](ObjectState& state) {
                         if (state.limit != 0 || !state.queue.empty()) return false;
                         ++state.count;
                         ++state.user(nic_.node()).shares;
                         return true;
                       });
    if (quick) {
      count_in();
      return Status::ok;
    }
  }
  const Result<Object*> entered = enter(object, who, ObjectKind::rwlock, deadline, give_up);
  if (!entered) return entered.status();
  ObjectState& state = object.state;
  if (state.limit == 0 && state.queue.empty()) {
    ++state.count;
    ++state.user(nic_.node()).shares;
    leave(object, who);
  } else if (const Status status = wait_in_line(object, who, deadline, give_up, Role::reader); !ok(status)) {
    return status;
  }
  const std::lock_guard guard(object.readers_guard);
  if (object.readers == nullptr) object.readers = std::make_unique<Readers>();
  count_in();
  return Status::ok;
}

Status Objects::unlock_shared(std::uint64_t offset, std::uint64_t who) {
  Object& object = named(offset);
  std::uint64_t given_back = 0;
  {
    const std::lock_guard guard(object.readers_guard);
    if (object.readers == nullptr) return Status::perm;
    if (std::erase(object.readers->orphans, who) != 0) return Status::owner_dead;
    std::vector<std::uint64_t>& inside = object.readers->inside;
    const auto found = std::ranges::find(inside, who);
    if (found == inside.end()) return Status::perm;
    *found = inside.back();
    inside.pop_back();
    if (!inside.empty()) return Status::ok;
    given_back = std::exchange(object.readers->shares, 0);
    const bool quick = at_rest(object, ObjectKind::rwlock, [this, given_back](ObjectState& state) {
      if (!state.queue.empty()) return false;
      state.count -= given_back;
      state.user(nic_.node()).shares -= static_cast<std::uint32_t>(given_back);
      return true;
    });
    if (quick) return Status::ok;
  }
  const Result<Object*> entered = enter(object, who, ObjectKind::rwlock);
  if (!entered) return entered.status();
  object.state.count -= given_back;
  object.state.user(nic_.node()).shares -= static_cast<std::uint32_t>(given_back);
  leave_lock(object, who);
  return Status::ok;
}

}  // namespace netvm::sync
