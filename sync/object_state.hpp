// The state of one synchronisation object: what its token carries from node to node (token_cargo.hpp). A count or two, and those who wait.
//
// Invariants
//  1. Only the holder of the object's token reads or changes it. No bytes at all are an object that nobody used yet.
//  2. Waiters stand in the order in which they came; each is known by its node and a number that its node uses once.
//  3. Answers are those to changes that rode ahead of a request (object_change.hpp), until the token comes to the node that sent them.
//  4. Users are the nodes that had the token since the object began, and so all that others can wait for. Broken: one of them has died, and nobody can
//     know whether what is waited for would have come from it; who would have to wait is told instead.
//  5. A waiter brings what its coherence layer tells with a request, so whoever wakes it can grant it everything in one message.
#pragma once

#include <cstdint>
#include <list>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "runtime/ids.hpp"
#include "sync/coherence_hook.hpp"

namespace netvm::sync {

enum class ObjectKind : std::uint8_t { none = 0, semaphore = 1, rwlock = 2, wait_queue = 3, barrier = 4, latch = 5, flag = 6, once = 7 };
[[nodiscard]] const char* to_string(ObjectKind kind);

struct QueuedWaiter {
  enum class Role : std::uint8_t { any = 0, reader = 1, writer = 2 };
  std::uint64_t id = 0;
  NodeId node{};
  Role role = Role::any;
  Bytes request;
};

struct RideAnswer {
  NodeId node{};  ///< to whom
  bool refused = false;
  std::uint64_t number = 0;
  std::uint64_t value = 0;
};

/// A waiter that a node has taken out of the queue and is about to send its wake-up, or has sent it. Forgotten where it waited, once the token comes there.
struct Waking {
  std::uint64_t id = 0;
  NodeId node{};  ///< where it waits
  NodeId waker{};
  QueuedWaiter::Role role = QueuedWaiter::Role::any;
};

struct ObjectUser {
  NodeId node{};
  std::uint32_t shares = 0;  ///< of a reader-writer lock
};

struct ObjectState {
  ObjectKind kind = ObjectKind::none;
  /// semaphore: permits. latch and barrier: arrivals that are missing. flag: 1 = set. once: 0, 1 = runs, 2 = done. rwlock: shares that readers have.
  std::uint64_t count = 0;
  std::uint64_t limit = 0;        ///< barrier: arrivals of a phase. rwlock: the writer's node + 1. once: that of who runs it
  std::uint64_t phase = 0;        ///< barrier: phases that have ended
  std::list<QueuedWaiter> queue;  // costs nothing while it is empty, unlike a deque
  std::vector<RideAnswer> answers;
  std::vector<ObjectUser> users;
  std::vector<Waking> waking;
  bool broken = false;

  [[nodiscard]] QueuedWaiter take_first() {
    QueuedWaiter first = std::move(queue.front());
    queue.pop_front();
    return first;
  }
  /// False: it is not there.
  bool remove(NodeId node, std::uint64_t id);
  /// The node is one from now on.
  ObjectUser& user(NodeId node);
  /// Takes it out, if it is there.
  std::optional<RideAnswer> take_answer(NodeId node, std::uint64_t number);
  /// An object that nobody used yet, but for what is on its way.
  void begin_anew();
};

void encode_object(const ObjectState& state, Bytes& out);
/// Nothing if the bytes are not a state, or name nodes beyond `nodes`.
[[nodiscard]] std::optional<ObjectState> decode_object(std::span<const std::byte> bytes, std::uint32_t nodes);

}  // namespace netvm::sync
