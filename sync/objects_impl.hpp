// What sync/objects.cpp and the kinds of objects share. Internal to sync/.
#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <vector>

#include "runtime/env.hpp"
#include "sync/mutex.hpp"
#include "sync/objects.hpp"
#include "sync/offset_table.hpp"

namespace netvm::sync {

/// This node's part in a reader-writer lock. Its readers share what the token's state counts as one or more shares; the last to leave gives them back.
struct Objects::Readers {
  std::uint64_t writer = 0;           // the thread that has it alone, or 0
  std::vector<std::uint64_t> inside;  // the threads that read
  std::uint64_t shares = 0;           // not 0 while anybody reads
  std::uint32_t joins = 0;            // readers that came without the token since the last share
};

struct Objects::Object {
  [[nodiscard]] SyncId id() const { return {offset}; }

  std::uint64_t offset = 0;  // with SyncId::kObjectBit
  LockState* lock = nullptr;
  std::uint32_t deaths = 0;                        // that its state knows of; of the token's holder
  ObjectState state;                               // of the token's holder
  std::atomic<ObjectKind> kind{ObjectKind::none};  // as last seen here; for messages to people
  SpinLock guard;                                  // of `readers`
  std::unique_ptr<Readers> readers;                // made at first use
};

struct Objects::Table {
  OffsetTable<Object> objects;
};

inline Objects::Object& Objects::at(SyncId id) {
  return table_->objects.at(id.offset, [&](Object& object) { object.lock = &mutexes_.state_of(id.offset); });
}

template <class Act>
bool Objects::at_rest(Object& object, ObjectKind kind, Act&& act) {
  if (deaths_.load(std::memory_order_relaxed) != 0) [[unlikely]]  // relaxed: as in note_deaths()
    return false;
  return mutexes_.try_at_rest(*object.lock, [&] {
    if (object.state.kind != kind || !act(object.state)) return false;
    hook_.before_unlock(object.id());
    return true;
  });
}

/// A queue node for a thread of this node that waits for a wake-up.
struct alignas(kCacheLine) Objects::Waiter {
  enum class State : std::uint32_t { waiting, interrupted, lost, woken };
  WaitWord word;                             // announced on after every change of `state`
  std::atomic<State> state{State::waiting};  // changed under waiting_guard_
  std::uint64_t id = 0;
  SyncId object;
  std::uint64_t value = 0;
  std::shared_ptr<Grant> grant;  // null: woken by a thread of this node
  Waiter* next = nullptr;        // in the pool
};

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
