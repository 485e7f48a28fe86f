// Acknowledger: the receiving end of a channel over a fabric that loses packets. It knows which numbers have arrived, and when the sender
// should be told: everything that goes back says how far all is there; an ack of its own, with a bitmap of what came beyond, follows when
// something is missing or doubled, after a few packets, or after a short while.
//
// Invariants
//  1. A number is reported after it was noted, never before. Arrived is not retired: a packet that waits for its turn is acknowledged, so
//     a page that is slow to come costs no retransmission.
//  2. What is noted lies less than kSpan ahead of the first missing number; kSpan is twice a sender's window, far less than half the
//     sequence space.
//  3. Once anything has been noted since the last report, deadline() is not kForever.
// Threads: guarded by the lock of the channel that goes back. Run to completion: time is handed in.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "nic/reliability.hpp"
#include "nic/wire.hpp"
#include "runtime/env.hpp"

namespace netvm::nic {

class Acknowledger final {
 public:
  static constexpr std::uint32_t kSpan = kMaxAckBitmap * 8;

  Acknowledger() = default;
  Acknowledger(std::uint32_t first, const Reliability& reliability) : options_(reliability), next_(first), end_(first) {}

  /// Whether the number can be noted: it may be known already, but is not too far ahead.
  [[nodiscard]] bool within(std::uint32_t sequence) const { return sequence_before(sequence, next_) || sequence - next_ < kSpan; }
  /// The number has arrived; perhaps once more.
  void note(std::uint32_t sequence, Nanos now);
  /// The sender wants to hear at once.
  void hurry(Nanos now) { due_at_ = now; }

  /// Every number before this one has arrived.
  [[nodiscard]] std::uint32_t acknowledged() const { return next_; }
  /// Which numbers beyond it have, as the payload of an ack. Returns its length.
  std::size_t bitmap(std::span<std::byte, kMaxAckBitmap> to) const;

  /// When an ack should go; kForever: nothing to tell.
  [[nodiscard]] Nanos deadline() const { return due_at_; }
  /// A packet went back that told acknowledged(), an ack the bitmap, too.
  void reported(bool with_bitmap);

 private:
  [[nodiscard]] bool has(std::uint32_t sequence) const { return (bits_[word(sequence)] >> (sequence % 64) & 1) != 0; }
  [[nodiscard]] static std::size_t word(std::uint32_t sequence) { return sequence % kSpan / 64; }

  Reliability options_;
  std::uint32_t next_ = 0;           // the first that is missing
  std::uint32_t end_ = 0;            // after the last that has arrived
  std::vector<std::uint64_t> bits_;  // of numbers from next_ to end_, by number modulo kSpan; empty until the first gap
  std::uint32_t unreported_ = 0;
  Nanos due_at_ = kForever;
};

}  // namespace netvm::nic
