// Sequence window: the receiving end of a channel. Packets arrive in any order, doubled perhaps; they retire exactly once, in sequence
// (Ong 2003, chapter 4). Writes land when they arrive and leave a mark; everything else waits here, whole, for its turn. What cannot take
// effect in its turn, because a page is on its way, stays at the head and holds back what comes after it.
//
// Invariants
//  1. A packet is held or retired at most once: numbers before the next one to retire, and numbers held, are duplicates.
//  2. What is held lies at most kSpan ahead of the next to retire; kSpan is far less than half the sequence space, so the 32-bit numbers
//     are unambiguous around the wrap.
//  3. Memory is bounded: packets that wait lie in system buffers, of which the source has so many (credit_bank.hpp), and a number that has
//     nothing to do in its turn (an answer) costs one bit.
// Threads: the driver of the NIC.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <vector>

#include "nic/wire.hpp"

namespace netvm::nic {

struct RedirectedWrite;

/// What waits for its turn.
struct HeldPacket {
  PacketHeader header;
  std::vector<std::byte> payload{};  ///< empty for a write
  bool answered = false;
  Status status = Status::ok;                     ///< of a write that has landed
  std::shared_ptr<RedirectedWrite> redirected{};  ///< of a write: not null until its last bytes have left the system buffer
};

class SequenceWindow final {
 public:
  static constexpr std::uint32_t kSpan = std::uint32_t{1} << 20;

  explicit SequenceWindow(std::uint32_t first = 0) : next_(first) {}

  enum class Place : std::uint8_t { next, early, duplicate, outside };
  /// Where an arriving number stands. `next` may retire at once.
  [[nodiscard]] Place place(std::uint32_t sequence) const;

  /// Keeps an `early` packet, or the `next` one if it cannot retire yet.
  void hold(HeldPacket packet);
  /// A packet, `early` or `next`, that has nothing to do in its turn.
  void skip(std::uint32_t sequence);
  /// The packet that is next now, if it is held; else null. Stays where it is until advance().
  HeldPacket* head();
  /// The packet that was `next` has retired; if it was held, it goes.
  void advance();

  [[nodiscard]] std::uint32_t next() const { return static_cast<std::uint32_t>(next_); }
  [[nodiscard]] std::size_t held() const { return held_.size(); }

 private:
  [[nodiscard]] bool skipped(std::uint64_t number) const {
    return skips_ != 0 && (skipped_[number % kSpan / 64] >> (number % 64) & 1) != 0;
  }
  /// The number without wrap, nearest to next_.
  [[nodiscard]] std::uint64_t extend(std::uint32_t sequence) const {
    return next_ +
           static_cast<std::uint64_t>(static_cast<std::int64_t>(static_cast<std::int32_t>(sequence - static_cast<std::uint32_t>(next_))));
  }

  std::uint64_t next_;  // its low 32 bits travel
  std::map<std::uint64_t, HeldPacket> held_;
  std::vector<std::uint64_t> skipped_;  // a bit for each of the next kSpan numbers, by number modulo kSpan; empty until the first early one
  std::uint32_t skips_ = 0;             // bits set
};

}  // namespace netvm::nic
