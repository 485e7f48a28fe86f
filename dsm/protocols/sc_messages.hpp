// What the nodes of the sequentially consistent protocols say to each other, and a page's state at a node in one word.
//
// sc-directory
//   requester -> home   get_shared, get_exclusive (kHasCopy: an upgrade)      confirm: the right is installed
//   home -> requester   grant (kExclusive, kClean: the only copy; kWithData: pull the bytes from the home's frame first)
//   home -> owner       recall_to_shared, recall_to_invalid                   answered by written_back; before it the bytes, if they changed
//   home -> sharer      invalidate                                            answered by invalidated
// sc-fixed, sc-dynamic
//   requester -> manager or probable owner -> ... -> owner                    get_shared, get_exclusive; `node` is the requester
//   owner -> requester  grant (kWithData: read the bytes from the granter's frame first). With kExclusive the ownership, and after the message the copyset
//   new owner -> sharer invalidate                                            answered by invalidated
//   any -> requester    chased: the read met too many nodes that are not the owner any more
//   to itself           resume: a right has been kept for long enough
// get_shared, grant and confirm may be about a run: neighbouring units of which the same is to be said (Message::more).
#pragma once

#include <cstdint>
#include <cstring>
#include <span>

#include "runtime/check.hpp"
#include "runtime/ids.hpp"

namespace netvm::dsm::sc {

enum class Kind : std::uint8_t {
  get_shared = 1,
  get_exclusive,
  recall_to_shared,
  recall_to_invalid,
  invalidate,
  invalidated,
  written_back,
  grant,
  confirm,
  chased,
  resume,
};

inline constexpr std::uint8_t kHasCopy = 1;    // of get_exclusive: the requester believes that its copy is current
inline constexpr std::uint8_t kExclusive = 1;  // of grant: the right to write
inline constexpr std::uint8_t kWithData = 2;   // of grant: the requester's copy is not current
inline constexpr std::uint8_t kClean = 4;      // of grant: the right to read, and to write without asking

inline constexpr std::uint32_t kMostUnits = 64;  // of a run
inline constexpr std::uint32_t kMostStride = 16;

struct Message {
  Kind kind{};
  std::uint8_t flags = 0;
  std::uint16_t hops = 0;  ///< of a request that is passed on: by how many nodes
  NodeId node{};           ///< of a request that is passed on: whose it is
  std::uint64_t page = 0;
  std::uint64_t transaction = 0;  ///< sc-directory: the home's number of what it serves; repeated by answers. 0 in requests
  std::uint32_t more = 0;         ///< it is about so many units behind `page`, too; their transactions follow that one
  std::uint32_t stride = 0;       ///< of a run: how many pages a unit has

  /// What it says of its `i`-th unit.
  [[nodiscard]] Message at(std::uint32_t i) const {
    return {kind, flags, hops, node, page + std::uint64_t{i} * stride, transaction == 0 ? 0 : transaction + i};
  }
  /// Takes `next`, about one unit, in, if it says the same of the unit behind. False: it does not.
  [[nodiscard]] bool join(const Message& next, std::uint32_t unit_pages) {
    Message expected = *this;
    expected.stride = unit_pages;
    expected = expected.at(more + 1);
    const bool same =
        expected.kind == next.kind && expected.flags == next.flags && expected.hops == next.hops && expected.node == next.node;
    if (!same || expected.page != next.page || expected.transaction != next.transaction || more + 1 == kMostUnits) return false;
    if (more != 0 && stride != unit_pages) return false;
    ++more;
    stride = unit_pages;
    return true;
  }
};
static_assert(sizeof(Message) == 32);

/// What follows the message goes to *more; null: nothing may. False if malformed.
[[nodiscard]] inline bool try_decode(std::span<const std::byte> body, Message* message, std::span<const std::byte>* more = nullptr) {
  if (more == nullptr ? body.size() != sizeof *message : body.size() < sizeof *message) return false;
  std::memcpy(message, body.data(), sizeof *message);
  if (more != nullptr) *more = body.subspan(sizeof *message);
  if (message->kind < Kind::get_shared || message->kind > Kind::resume) return false;
  if (message->more == 0) return message->stride == 0;
  const bool may_run = message->kind == Kind::get_shared || message->kind == Kind::grant || message->kind == Kind::confirm;
  const bool behind = more != nullptr && !more->empty();
  return may_run && !behind && message->more < kMostUnits && message->stride != 0 && message->stride <= kMostStride;
}

/// A node of the same job sent it: anything malformed is a broken invariant.
inline Message decode(std::span<const std::byte> body, const char* protocol, std::span<const std::byte>* more = nullptr) {
  Message message;
  NETVM_CHECK(try_decode(body, &message, more), "%s: a malformed message of %zu bytes", protocol, body.size());
  return message;
}

/// Invalid, Shared, Exclusive (the only copy, clean), Modified; and on the way from the first letter to the second.
enum class Phase : std::uint8_t { I = 0, S, E, M, IS, IM, SM };
[[nodiscard]] constexpr bool in_transit(Phase phase) { return phase >= Phase::IS; }

/// What a node knows of its own copy. Fits PageEntry::state; zero is an invalid copy.
struct Copy {
  Phase phase = Phase::I;
  bool granted = false;      ///< the grant has come, the faulting thread may go on
  bool with_data = false;    ///< of that grant
  bool clean = false;        ///< granted: it is E. Else (sc-directory): this copy came from the home and was not written since
  std::uint8_t losses = 0;   ///< how often in a row the right was taken away soon after the grant; at most 7
  bool dropped = false;      ///< sc-directory: the copy was evicted, and the directory lists it all the same
  std::uint64_t number = 0;  ///< granted: the transaction. Else: when the last right was installed, in ns. 54 bits

  static Copy unpack(std::uint64_t word) {
    return {static_cast<Phase>(word & 7),
            (word & 8) != 0,
            (word & 16) != 0,
            (word & 32) != 0,
            static_cast<std::uint8_t>((word >> 6) & 7),
            (word & 512) != 0,
            word >> 10};
  }
  [[nodiscard]] std::uint64_t pack() const {
    return static_cast<std::uint64_t>(phase) | std::uint64_t{granted} << 3 | std::uint64_t{with_data} << 4 | std::uint64_t{clean} << 5 |
           std::uint64_t{losses} << 6 | std::uint64_t{dropped} << 9 | number << 10;
  }
};

}  // namespace netvm::dsm::sc
