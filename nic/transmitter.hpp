// Transmitter: the sending end of a channel. It numbers packets, spends credits, keeps what must wait, and over a fabric that loses packets
// keeps each one until the other end has it, measures the round trip, and sends again what was lost (Ong 2003, chapter 4).
//
// Two kinds of loss detection: a packet is lost when one sent later has arrived and it is overdue by more than the reordering seen so far
// (RFC 8985, RACK), and, when nothing comes back at all, after a timeout that doubles (RFC 6298).
//
// Invariants
//  1. Numbers are given when packets leave, so a packet that waits for credit delays none that needs no credit: answers.
//  2. A packet that takes a credit leaves only while the limit has not been reached; packets of one lane leave in the order of queueing.
//  3. At most Reliability::window numbers are unacknowledged, far less than half the sequence space; numbers, limits and acknowledgements
//     are compared around the wrap. Within that as many packets are under way as the path takes without a queue: a round in which even the
//     fastest packet took more than twice the shortest round trip ever seen shrinks their number, any other lets it grow.
//  4. What is kept is the packet itself. A duplicate of a request is therefore never executed to repeat its answer: the answer is kept
//     here until it is acknowledged, which is longer than any reply cache of a window's length.
//  5. Nothing of the other end is believed: acknowledgements of what was never sent change nothing.
// Threads: guarded by the channel's lock. Run to completion: no clock and no fabric in here; time and randomness are handed in.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <span>
#include <vector>

#include "nic/reliability.hpp"
#include "nic/wire.hpp"
#include "runtime/env.hpp"

namespace netvm::nic {

class Transmitter final {
 public:
  struct Options {
    std::uint32_t first_sequence = 0;
    std::uint32_t first_credit = 0;     ///< where the cumulative counters of credits begin
    std::uint32_t initial_credits = 1;  ///< what the target grants before it has said anything
    std::size_t max_payload = 0;        ///< longer messages are cut
    bool keeps = false;                 ///< the fabric loses packets
    Reliability reliability{};
  };

  Transmitter() = default;
  explicit Transmitter(const Options& options);

  // ---- sending -------------------------------------------------------------------------------------------------------
  /// Whether a packet of the opcode may leave at once: none waits before it, and there is credit and room.
  [[nodiscard]] bool may_send(Opcode opcode) const { return may_send(opcode, 1); }
  /// Likewise `packets` of them.
  [[nodiscard]] bool may_send(Opcode opcode, std::uint32_t packets) const;
  /// Gives the packet its number, spends its credit and keeps a copy if need be. It must leave now.
  void number(PacketHeader& header, std::span<const std::byte> payload, Nanos now);
  /// Keeps it until next() hands it out. Of a message `payload` is the whole body: it is cut when it leaves.
  void queue(const PacketHeader& header, std::vector<std::byte> payload, Nanos now);

  struct View {
    PacketHeader* header = nullptr;
    std::span<const std::byte> payload;
  };
  /// The next packet that must leave now: one that was lost, an answer, a request; numbered. False: none may. Valid until the next call
  /// of any function here.
  bool next(Nanos now, View* packet);

  /// Up to `wanted` unspent credits that the target would like back; they count as spent. 0 while packets wait.
  [[nodiscard]] std::uint32_t give_back(std::uint32_t wanted);

  // ---- hearing -------------------------------------------------------------------------------------------------------
  /// The other end lives.
  void on_heard(Nanos now) { heard_at_ = now; }
  /// The target's limit, cumulative. Older ones change nothing.
  void on_credits(std::uint32_t limit) {
    if (sequence_before(limit_, limit)) limit_ = limit;
  }
  /// All numbers before `acknowledged` have arrived, and those of the bitmap (kMaxAckBitmap).
  void on_acknowledged(std::uint32_t acknowledged, std::span<const std::byte> bitmap, Nanos now);

  // ---- time ----------------------------------------------------------------------------------------------------------
  enum class Alarm : std::uint8_t {
    none,
    probe,  ///< packets wait for credit, which may have been lost on its way: the target should say again how much there is
    dead,   ///< the peer has said nothing for Reliability::peer_timeout
  };
  /// When on_time() should be called; kForever: not at all.
  [[nodiscard]] Nanos deadline() const;
  /// Looks for losses; next() hands them out. `random` spreads the timeouts.
  Alarm on_time(Nanos now, std::uint64_t random);

  /// Forgets everything that is kept or waits: the channel has ended.
  void clear();

  [[nodiscard]] std::size_t waiting() const { return requests_.size() + answers_.size(); }
  [[nodiscard]] std::uint32_t unacknowledged() const { return options_.keeps ? next_ - base_ : 0; }
  /// Whether everything has left and, where packets are lost, has arrived.
  [[nodiscard]] bool idle() const { return waiting() == 0 && unacknowledged() == 0; }
  /// Whether requests wait for nothing but credit.
  [[nodiscard]] bool starved() const { return !requests_.empty() && limit_ == spent_; }
  [[nodiscard]] std::uint32_t credits() const { return limit_ - spent_; }
  [[nodiscard]] std::uint64_t retransmitted() const { return retransmitted_; }
  [[nodiscard]] Nanos round_trip() const { return smoothed_; }

 private:
  struct Waiting {
    PacketHeader header;
    std::vector<std::byte> payload;
  };
  /// A packet on its way. Those of which nothing is known are linked in the order of (their last) sending.
  struct Slot {
    PacketHeader header;
    std::vector<std::byte> payload;
    Nanos sent_at = 0;
    Nanos first_sent_at = 0;
    std::uint32_t transmissions = 0;
    bool delivered = false;
    bool linked = false;
    std::uint32_t older = 0, newer = 0;  // sequence numbers; meaningful while linked and not at an end
  };
  static constexpr std::uint32_t kFirstPathWindow = 32;
  static constexpr std::size_t kKeptCapacity = 8192;  // larger buffers are given back after use

  [[nodiscard]] Slot& slot(std::uint32_t sequence) { return slots_[sequence & (slots_.size() - 1)]; }
  [[nodiscard]] const Slot& slot(std::uint32_t sequence) const { return slots_[sequence & (slots_.size() - 1)]; }
  [[nodiscard]] bool has_room(std::uint32_t packets) const {
    return !options_.keeps || (next_ - base_ + packets <= options_.reliability.window && linked_ + packets <= path_window_);
  }
  [[nodiscard]] Nanos timeout() const;
  [[nodiscard]] Nanos overdue_after() const;
  void watch_starvation(Nanos now);
  void grow();
  void keep(const PacketHeader& header, std::span<const std::byte> payload, Nanos now);
  void link(std::uint32_t sequence);
  void unlink(std::uint32_t sequence);
  bool deliver(std::uint32_t sequence, Nanos now);
  void measure(Nanos elapsed);
  void note_lateness(Nanos sample);
  void end_round();
  void mark_lost(std::uint32_t sequence);
  void detect_losses(Nanos now);
  bool next_lost(Nanos now, View* packet);
  void next_waiting(std::deque<Waiting>& lane, Nanos now, View* packet);

  Options options_;
  std::uint32_t next_ = 0;   // number of the next packet
  std::uint32_t base_ = 0;   // oldest that is not acknowledged
  std::uint32_t limit_ = 0;  // credits, cumulative
  std::uint32_t spent_ = 0;
  std::deque<Waiting> requests_;
  std::deque<Waiting> answers_;
  Waiting leaving_;  // what next() has handed out last

  // Over a fabric that loses:
  std::vector<Slot> slots_;  // by number, modulo its size, which is a power of two and grows to the window
  std::deque<std::uint32_t> lost_;
  std::uint32_t linked_ = 0;
  std::uint32_t oldest_ = 0, newest_ = 0;  // ends of the list, while linked_ != 0
  Nanos heard_at_ = 0;
  Nanos timeout_at_ = kForever;
  Nanos probe_at_ = kForever;
  std::uint32_t backoff_ = 0;
  std::uint32_t probes_ = 0;
  Nanos smoothed_ = 0;  // round trip; 0: not known yet
  Nanos variation_ = 0;
  Nanos shortest_ = 0;
  Nanos latest_trip_ = 0;  // of the packet that was sent last among those that have arrived
  Nanos latest_sent_ = -1;
  Nanos lateness_ = 0;  // by how much packets arrive after ones that were sent later
  std::uint64_t retransmitted_ = 0;
  std::uint32_t path_window_ = kFirstPathWindow;  // packets of which nothing is known, at most
  bool doubling_ = true;                          // no queue has been seen yet
  std::uint32_t round_end_ = 0;                   // the round ends when everything before this number is acknowledged
  Nanos round_shortest_ = kForever;
};

}  // namespace netvm::nic
