// What sync/objects.cpp and the kinds of objects share. Internal to sync/.
#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <vector>

#include "runtime/env.hpp"
#include "sync/mutex.hpp"
#include "sync/objects.hpp"

namespace netvm::sync {

/// This node's part in a reader-writer lock. Its readers share what the token's state counts as one or more shares; the last to leave gives them back.
struct Objects::Readers {
  std::uint64_t writer = 0;            // the thread that has it alone, or 0
  std::vector<std::uint64_t> inside;   // the threads that read
  std::uint64_t shares = 0;            // not 0 while anybody reads
  std::uint32_t joins = 0;             // readers that came without the token since the last share
  std::uint64_t fencing_token = 0;     // the writer's
  std::vector<std::uint64_t> orphans;  // threads that had it when it was lost, and have not unlocked it since
};

/// What this node knows of an object: two cache lines, of which one is its lock, and an entry of the mutexes' index. Made at first use, and kept.
struct Objects::Object : LockState {
  [[nodiscard]] SyncId id() const { return {offset}; }

  ObjectState state;                 // of the token's holder
  std::unique_ptr<Readers> readers;  // made at first use
  SpinLock readers_guard;
  std::atomic<ObjectKind> kind{ObjectKind::none};  // as last seen here; for messages to people
};

/// Tasks that take a token, as mutexes know them: the mender, and whoever clears up behind a thread that waited there.
inline constexpr std::uint64_t kMender = LockState::kCaretaker - 1;
inline constexpr std::uint64_t kFirstHeir = kMender - 1;

struct Objects::Table {
  static_assert(sizeof(Object) == 2 * kCacheLine);
  StateBlocks<Object> objects;
};

inline Objects::Object& Objects::at(SyncId id) { return static_cast<Object&>(mutexes_.state_of(id.offset)); }

template <class Act>
bool Objects::at_rest(Object& object, ObjectKind kind, Act&& act, bool may_look) {
  if (deaths_.load(std::memory_order_relaxed) != 0) [[unlikely]]  // relaxed: as in note_deaths()
    return false;
  return mutexes_.try_at_rest(
      object,
      [&] {
        if (object.state.kind != kind || !act(object.state)) return false;
        hook_.before_unlock(object.id());
        return true;
      },
      may_look);
}

/// A thread of this node that waits for a wake-up. Its number is 0 while nobody waits here; its low bits say where it is in waiters_.
struct alignas(kCacheLine) Objects::Waiter {
  enum class State : std::uint32_t { waiting, interrupted, lost, woken };
  WaitWord word;                             // announced on after every change of `state`
  std::atomic<State> state{State::waiting};  // changed under waiting_guard_
  std::uint64_t id = 0;
  SyncId object;
  std::uint64_t value = 0;
  std::shared_ptr<Grant> grant;  // null: woken by a thread of this node
  std::uint32_t place = 0;
  ObjectKind kind = ObjectKind::none;
  QueuedWaiter::Role role = QueuedWaiter::Role::any;
  Waiter* next = nullptr;  // of those that are free
};

template <class Act>
void Objects::each_waiter(Act&& act) {
  for (Waiter& waiter : waiters_) {
    if (waiter.id != 0) act(waiter);
  }
}

/// Applied by the first of those whom it woke; the others wait for that.
struct Objects::Grant {
  Grant(Env& env, SyncId the_object, NodeId from, std::span<const std::byte> bytes)
      : object(the_object), granter(from), payload(bytes.begin(), bytes.end()), lock(env) {}
  const SyncId object;
  const NodeId granter;
  const Bytes payload;
  EnvMutex lock;
  bool applied = false;
};

}  // namespace netvm::sync
