// Changes: the operations on objects that let others go on, as data. Who holds the token performs them; or they ride along with a request for the token and
// are performed where that is, before it leaves: so a wake-up reaches a waiter at that node with the first message, instead of the third.
//
// Invariants
//  1. perform() looks at nothing but the state and the change: it does the same wherever it runs.
//  2. A change that rode is performed once: its answer travels with the state until the node that sent it has the token, and is taken out there.
// Threads: none; whoever may change the state.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "sync/object_state.hpp"
#include "sync/token_cargo.hpp"

namespace netvm::sync {

struct Change {
  enum class Op : std::uint8_t { release = 1, wake = 2, set_flag = 3, clear_flag = 4, count_down = 5, arrive = 6 };
  Op op{};
  bool drops = false;        ///< arrive: and so many less from the next phase on
  std::uint64_t amount = 1;  ///< permits, threads to wake, arrivals
  std::uint64_t most = 0;    ///< release: permits that there may be. arrive: if not 0, what the barrier must be of
};
[[nodiscard]] ObjectKind kind_of(Change::Op op);

struct Outcome {
  bool refused = false;     ///< a count that does not fit; nothing was changed
  std::uint64_t value = 0;  ///< wake: how many. arrive: the phase
  WaiterQueue woken;
};

/// Whether it ends a phase of a barrier.
[[nodiscard]] bool completes(const ObjectState& state, const Change& change);
/// How many of those who wait it would let go on: the first ones.
[[nodiscard]] std::size_t wakes(const ObjectState& state, const Change& change);
/// The state is of the change's kind.
Outcome perform(ObjectState& state, const Change& change);

/// A change that goes along with a request for the token.
struct Ride {
  std::uint64_t number = 0;  ///< of this node; names the answer
  Change change;
};

/// A decoded ride; the payload points into the bytes.
struct RideMessage {
  Ride ride;
  std::span<const std::byte> payload;  ///< what those that are woken must know
};
/// The caller appends the payload.
void encode_ride(const Ride& ride, Bytes& out);
/// Nothing if the bytes are not a ride.
[[nodiscard]] std::optional<RideMessage> decode_ride(std::span<const std::byte> bytes);

}  // namespace netvm::sync
