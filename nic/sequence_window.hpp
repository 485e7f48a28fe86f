// Sequence window: the receiving end of a channel. Packets arrive in any order, doubled perhaps; they retire exactly once, in sequence
// (Ong 2003, chapter 4). Writes land when they arrive and leave a mark; everything else waits here, whole, for its turn.
//
// Invariants
//  1. A packet is held or retired at most once: numbers before the next one to retire, and numbers held, are duplicates.
//  2. What is held lies at most kSpan ahead of the next to retire; kSpan is far less than half the sequence space, so the 32-bit numbers
//     are unambiguous around the wrap.
//  3. Memory is bounded by what peers really sent: a number far ahead costs one entry.
// Threads: the driver of the NIC.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <vector>

#include "nic/wire.hpp"

namespace netvm::nic {

/// What waits for its turn.
struct HeldPacket {
  PacketHeader header;
  std::vector<std::byte> payload{};  ///< empty for a write that has landed
  bool landed = false;               ///< a write: its bytes are in place, or its `status` says why not
  bool answered = false;
  Status status = Status::ok;
};

class SequenceWindow final {
 public:
  static constexpr std::uint32_t kSpan = std::uint32_t{1} << 20;

  explicit SequenceWindow(std::uint32_t first = 0) : next_(first) {}

  enum class Place : std::uint8_t { next, early, duplicate, outside };
  /// Where an arriving number stands. `next` may retire at once.
  [[nodiscard]] Place place(std::uint32_t sequence) const;

  /// Keeps an `early` packet.
  void hold(HeldPacket packet);
  /// The packet that was `next` has retired.
  void advance();
  /// The packet that is next now, if it is here. Retire it, then advance().
  std::optional<HeldPacket> take_next();

  [[nodiscard]] std::uint32_t next() const { return static_cast<std::uint32_t>(next_); }
  [[nodiscard]] std::size_t held() const { return held_.size(); }
  void clear() { held_.clear(); }

 private:
  /// The number without wrap, nearest to next_.
  [[nodiscard]] std::uint64_t extend(std::uint32_t sequence) const {
    return next_ +
           static_cast<std::uint64_t>(static_cast<std::int64_t>(static_cast<std::int32_t>(sequence - static_cast<std::uint32_t>(next_))));
  }

  std::uint64_t next_;  // its low 32 bits travel
  std::map<std::uint64_t, HeldPacket> held_;
};

}  // namespace netvm::nic
