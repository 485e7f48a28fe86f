// Objects: what the death of a node means to them. Who has a token notes the deaths that its state does not know of; when the locks have recovered, a mender of each
// node takes the token of every object that threads of its node wait for, and tells those for whom nothing will come.
#include <algorithm>
#include <set>
#include <utility>

#include "runtime/check.hpp"
#include "sync/mutex.hpp"
#include "sync/objects.hpp"
#include "sync/objects_impl.hpp"

namespace netvm::sync {

void Objects::lost(SyncId object) {
  orphan(at(object));
  std::vector<std::uint64_t> told;
  {
    const std::lock_guard guard(waiting_guard_);
    each_waiter([&](const Waiter& waiter) {
      if (waiter.object == object) told.push_back(waiter.id);
    });
  }
  for (const std::uint64_t id : told) tell_lost(id);
}

// Those of this node that have it do not have what takes its place.
void Objects::orphan(Object& object) {
  const std::lock_guard guard(object.readers_guard);
  if (object.readers == nullptr) return;
  Readers& readers = *object.readers;
  readers.orphans.insert(readers.orphans.end(), readers.inside.begin(), readers.inside.end());
  if (readers.writer != 0) readers.orphans.push_back(readers.writer);
  readers.inside.clear();
  readers.writer = 0;
  readers.shares = 0;
}

void Objects::tell_lost(std::uint64_t id) {
  Waiter* waiter = nullptr;
  {
    const std::lock_guard guard(waiting_guard_);
    waiter = find_waiter(id);
    if (waiter == nullptr) return;
    if (waiter->state.load(std::memory_order_relaxed) == Waiter::State::woken) return;  // relaxed: under the guard
    waiter->state.store(Waiter::State::lost, std::memory_order_release);                // release: partner is await()'s look
  }
  waiter->word.announce(nic_.env());
}

void Objects::on_death(NodeId node) {
  const std::lock_guard guard(waiting_guard_);
  dead_[node.value] = true;
  deaths_.fetch_add(1);
}

void Objects::note_deaths(Object& object) {
  const std::uint32_t deaths = deaths_.load(std::memory_order_relaxed);  // relaxed: who looks too early is mended later
  ObjectState& state = object.state;
  if (deaths == state.deaths) [[likely]]
    return;
  state.deaths = deaths;
  const std::lock_guard guard(waiting_guard_);
  const auto is_dead = [this](NodeId node) { return dead_[node.value]; };
  state.queue.remove_if([&](const QueuedWaiter& waiter) { return is_dead(waiter.node); });
  if (state.lists == nullptr) return;
  ObjectLists& lists = *state.lists;
  std::erase_if(lists.answers, [&](const RideAnswer& answer) { return is_dead(answer.node); });
  for (const ObjectUser& user : lists.users) {
    if (!is_dead(user.node)) continue;
    const bool had_it = state.limit == user.node.value + 1;
    if (state.kind == ObjectKind::rwlock) {
      state.count -= user.shares;
      if (had_it) state.broken = true;
    } else if (state.kind == ObjectKind::once) {
      if (had_it && state.count == kOnceRuns) state.count = kOnceNotDone;
    } else {
      state.broken = true;
    }
  }
  std::erase_if(lists.users, [&](const ObjectUser& user) { return is_dead(user.node); });
  std::erase_if(lists.waking, [&](const Waking& one) { return is_dead(one.node); });
}

// Those of this node that have heard.
void Objects::forget_woken(ObjectState& state) {
  if (!state.has_waking()) return;
  const std::lock_guard guard(waiting_guard_);
  std::erase_if(state.lists->waking, [this](const Waking& one) {
    if (one.node != nic_.node()) return false;
    const Waiter* const waiter = find_waiter(one.id);
    return waiter == nullptr || waiter->state.load(std::memory_order_relaxed) == Waiter::State::woken;  // relaxed: under the guard
  });
}

// A dead node's wake-up never comes, unless it is here by now: what it gave with it is taken back, as nobody knows what it had written before.
std::vector<std::uint64_t> Objects::never_woken(ObjectState& state) {
  forget_woken(state);
  std::vector<std::uint64_t> ids;
  if (!state.has_waking()) return ids;
  const std::lock_guard guard(waiting_guard_);
  std::erase_if(state.lists->waking, [&](const Waking& one) {
    if (one.node != nic_.node() || !dead_[one.waker.value]) return false;
    ids.push_back(one.id);
    if (state.kind == ObjectKind::rwlock) {
      state.broken = true;
      if (one.role == QueuedWaiter::Role::writer) {
        state.limit = 0;
      } else {
        --state.count;
        --state.user(one.node).shares;
      }
    } else if (state.kind == ObjectKind::once && state.count == kOnceRuns && state.limit == one.node.value + 1) {
      state.count = kOnceNotDone;
    }
    return true;
  });
  return ids;
}

void Objects::mend() {
  {
    const std::lock_guard guard(waiting_guard_);
    mend_again_ = true;
    if (std::exchange(mending_, true)) return;
  }
  // Refused only when the job has ended for this node.
  (void)menders_.spawn([this] {
    for (;;) {
      std::vector<SyncId> objects;
      {
        const std::lock_guard guard(waiting_guard_);
        if (!std::exchange(mend_again_, false)) {
          mending_ = false;
          return;
        }
        each_waiter([&](const Waiter& waiter) {
          if (std::ranges::find(objects, waiter.object) == objects.end()) objects.push_back(waiter.object);
        });
      }
      for (const SyncId object : objects) mend(at(object));
    }
  });
}

void Objects::mend(Object& object) {
  if (!ok(mutexes_.lock(object, kMender, kForever))) return;  // lost: who waits has been told; or the job ends
  note_deaths(object);
  ObjectState& state = object.state;
  Woken woken;
  const bool was_broken = state.broken;
  std::vector<std::uint64_t> told = never_woken(state);
  std::set<NodeId> others;  // whose menders may have looked before it was broken
  if (state.broken) {
    if (!was_broken) {
      for (const QueuedWaiter& waiter : state.queue) others.insert(waiter.node);
      others.erase(nic_.node());
    }
    state.queue.remove_if([&](const QueuedWaiter& waiter) {
      if (waiter.node == nic_.node()) told.push_back(waiter.id);
      return waiter.node == nic_.node();
    });
  } else if (state.kind == ObjectKind::rwlock) {
    woken = let_in(state);
  } else if (state.kind == ObjectKind::once && state.count == kOnceNotDone && !state.queue.empty()) {
    woken = next_to_run(state);
  }
  leave(object, kMender, woken, state.kind == ObjectKind::rwlock ? state.phase : kOnceNotDone);
  for (const std::uint64_t id : told) tell_lost(id);
  for (const NodeId node : others) nic_.send(node, nic::MessageKind::sync_wake, encode_wake(object.id(), 0, {}));
}

void Objects::close() { menders_.close(); }

}  // namespace netvm::sync
