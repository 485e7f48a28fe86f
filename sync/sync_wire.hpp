// The messages of sync/: bodies of MessageKind::sync_lock, sync_wake and sync_collective. Little-endian, validated once, in decode.
//
//   lock         LockHeader (24 bytes), then `cargo_bytes` of what the token carries or of what goes along with a request, then the coherence payload
//   wake         WakeHeader (24 bytes), then the waiters' numbers (8 bytes each), then the coherence payload. No waiters: a death has broken the object after
//                the receiver may have looked, and threads of it wait there
//   collective   CollectiveHeader (40 bytes), then `value_bytes` of value, then the coherence payload
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "runtime/dead_nodes.hpp"
#include "sync/coherence_hook.hpp"

namespace netvm::sync {

enum class LockMessageType : std::uint8_t {
  request = 1,  ///< to the predecessor: grant me when you are done; payload: what the acquirer tells
  grant = 2,    ///< to the successor: yours, with the epoch (fencing token); payload: what the releaser knows
  probe = 3,    ///< to the queue's last node: is the lock free at your place? epoch: the prober's number for this question
  free = 4,     ///< answer to probe
  busy = 5,     ///< answer to probe
  lost =
      6,  ///< answer to request, or in front of one to probe: the token died with a node; epoch: the fencing token. payload: the number of the probe
  in_use =
      7,  ///< to all: does anybody hold, or wait for, what lies at the offset? payload: how many bytes; epoch: the asker's number for this question
  forget = 8,  ///< to all: the memory is freed; the same
  use =
      9,  ///< answer to these and those below; offset: what is in use; ~0: nothing; ~1: nothing, but a token is on its way; payload: LockTails
  hold_still = 10,  ///< to all: as in_use, but of what is on its way between nodes; if nothing is, it stays where it is until `placed`
  placed = 11,      ///< to all: where the memory's tails are from now on; payload: Placed. epoch: the placer's number for this question
  revived = 12,     ///< to all: the lock at the offset, which was lost, has a token again; payload: its fencing token
};

[[nodiscard]] constexpr bool has_cargo(LockMessageType type) { return type == LockMessageType::request || type == LockMessageType::grant; }

struct LockHeader {
  std::uint8_t type = 0;
  std::uint8_t reserved[3] = {};
  std::uint32_t cargo_bytes = 0;  // of a grant or a request, else 0
  std::uint64_t offset = 0;
  std::uint64_t epoch = 0;
};
static_assert(sizeof(LockHeader) == 24);

/// The tail of a lock, as a node knows it that has its token, or knows that it is lost.
struct LockTail {
  std::uint64_t offset = 0;
  std::uint64_t tail = 0;
};
static_assert(sizeof(LockTail) == 16);

struct Placed {
  std::uint64_t bytes = 0;
  std::uint64_t stride = 0;
  std::uint64_t number = 0;  ///< of the placer's placements
  std::uint32_t node = 0;
  std::uint32_t placer = 0;
  std::uint8_t kind = 0;  ///< HomeRule::Kind
  std::uint8_t aborted = 0;
  std::uint8_t passed_on = 0;  ///< by another node, as the placer has died: to be answered by nobody
  std::uint8_t reserved[5] = {};
  DeadNodes dead = {};  ///< of the rule
};
static_assert(sizeof(Placed) == 40 + sizeof(DeadNodes));

/// A decoded message; cargo and payload point into the body.
struct LockMessage {
  LockMessageType type{};
  std::uint64_t offset = 0;
  std::uint64_t epoch = 0;
  std::span<const std::byte> cargo;  ///< what an object's token carries from holder to holder, or what rides ahead of it (token_cargo.hpp)
  std::span<const std::byte> payload;
};

/// A body with its header and the cargo; the caller appends the payload.
[[nodiscard]] Bytes encode_lock(LockMessageType type, std::uint64_t offset, std::uint64_t epoch, std::span<const std::byte> cargo = {});
/// Nothing if the payload is not a Placed of a job of so many nodes.
[[nodiscard]] std::optional<Placed> decode_placed(std::span<const std::byte> payload, std::uint32_t nodes);
/// Nothing if the body is not one of ours.
[[nodiscard]] std::optional<LockMessage> decode_lock(std::span<const std::byte> body);

/// To a node whose threads wait for an object: these go on.
struct WakeHeader {
  std::uint64_t object = 0;  // with SyncId::kObjectBit
  std::uint64_t value = 0;   // means what the operation makes of it
  std::uint32_t waiters = 0;
  std::uint32_t reserved = 0;
};
static_assert(sizeof(WakeHeader) == 24);

/// A decoded message; the payload points into the body.
struct WakeMessage {
  SyncId object;
  std::uint64_t value = 0;
  std::vector<std::uint64_t> waiters;
  std::span<const std::byte> payload;
};

/// A body; the caller appends the payload.
[[nodiscard]] Bytes encode_wake(SyncId object, std::uint64_t value, std::span<const std::uint64_t> waiters);
/// Nothing if the body is not one of ours.
[[nodiscard]] std::optional<WakeMessage> decode_wake(std::span<const std::byte> body);

enum class CollectiveKind : std::uint8_t { barrier = 1, all_reduce = 2, broadcast = 3, farewell = 4 };
/// Whether the call carries bytes from the threads.
[[nodiscard]] constexpr bool carries_value(CollectiveKind kind) {
  return kind == CollectiveKind::all_reduce || kind == CollectiveKind::broadcast;
}
[[nodiscard]] const char* to_string(CollectiveKind kind);

/// What a thread called: the same on all threads of all nodes.
struct CollectiveCall {
  CollectiveKind kind = CollectiveKind::barrier;
  std::uint32_t root = 0;         ///< of a broadcast, else 0
  std::uint64_t value_bytes = 0;  ///< of each thread
  friend bool operator==(const CollectiveCall&, const CollectiveCall&) = default;
};

/// What a thread called, for people.
[[nodiscard]] std::string to_text(const CollectiveCall& call);

/// refusal: the program has made a mistake; the value says which, for people. across: between the roots of the two trees.
enum class CollectiveDirection : std::uint8_t { up = 1, down = 2, refusal = 3, across = 4 };

struct CollectiveHeader {
  std::uint8_t direction = 0;
  std::uint8_t kind = 0;
  std::uint8_t has_value = 0;
  std::uint8_t reserved = 0;
  std::uint32_t root = 0;
  std::uint64_t number = 0;
  std::uint64_t value_bytes = 0;
  std::uint64_t least_wait_ns = 0;  // in the collective before: up, of the subtree; down, of all nodes
  std::uint32_t counter = 0;        // where the sender looks for marks of the receiver's, plus 1; 0: nowhere
  std::uint32_t reserved_too = 0;
};
static_assert(sizeof(CollectiveHeader) == 40);

/// A decoded message; value and payload point into the body.
struct CollectiveMessage {
  CollectiveDirection direction{};
  CollectiveCall call;
  std::uint64_t number = 0;         ///< of the collective, counted from 0 on each node
  std::uint64_t least_wait_ns = 0;  ///< see CollectiveHeader: a statistic that travels along
  std::uint32_t counter = 0;        ///< see CollectiveHeader
  bool has_value = false;
  std::span<const std::byte> value;  ///< call.value_bytes of it, if has_value
  std::span<const std::byte> payload;
};

[[nodiscard]] Bytes encode_collective(CollectiveDirection direction, const CollectiveCall& call, std::uint64_t number, bool has_value,
                                      std::span<const std::byte> value, std::span<const std::byte> payload, std::uint64_t least_wait_ns = 0,
                                      std::uint32_t counter = 0);
/// Nothing if the body is not one of ours.
[[nodiscard]] std::optional<CollectiveMessage> decode_collective(std::span<const std::byte> body);

}  // namespace netvm::sync
