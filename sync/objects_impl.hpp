// What sync/objects.cpp and the kinds of objects share. Internal to sync/.
#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <vector>

#include "runtime/env.hpp"
#include "sync/objects.hpp"

namespace netvm::sync {

/// This node's part in a reader-writer lock. Its readers share what the token's state counts as one or more shares; the last to leave gives them back.
struct Objects::Readers {
  std::uint64_t writer = 0;           // the thread that has it alone, or 0
  std::vector<std::uint64_t> inside;  // the threads that read
  std::uint64_t shares = 0;           // not 0 while anybody reads
  std::uint32_t joins = 0;            // readers that came without the token since the last share
};

struct Objects::Object {
  explicit Object(SyncId the_id) : id(the_id) {}

  const SyncId id;
  ObjectState state;                               // of the token's holder
  std::atomic<ObjectKind> kind{ObjectKind::none};  // as last seen here; for messages to people
  SpinLock guard;                                  // of `readers`
  std::unique_ptr<Readers> readers;                // made at first use
};

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
