#include "nic/transmitter.hpp"

#include <algorithm>
#include <bit>
#include <cstring>
#include <utility>

#include "runtime/check.hpp"

namespace netvm::nic {

namespace {
constexpr std::uint32_t kFirstSlots = 64;
constexpr std::uint32_t kMostDoublings = 16;
constexpr Nanos kMostTripsLate = 4;
}  // namespace

Transmitter::Transmitter(const Options& options)
    : options_(options),
      next_(options.first_sequence),
      base_(options.first_sequence),
      limit_(options.first_credit + options.initial_credits),
      spent_(options.first_credit),
      round_end_(options.first_sequence) {
  NETVM_CHECK(std::has_single_bit(options.reliability.window) && options.reliability.window >= kFirstSlots &&
                  options.reliability.window <= kMaxAckBitmap * 8 / 2,
              "a window of %u packets; it must be a power of two from %u to %zu", options.reliability.window, kFirstSlots,
              kMaxAckBitmap * 8 / 2);
}

// ---- sending ------------------------------------------------------------------------------------------------------------------------------

bool Transmitter::may_send(Opcode opcode, std::uint32_t packets) const {
  if (!takes_credit(opcode)) return answers_.empty() && has_room(packets);
  return requests_.empty() && limit_ - spent_ >= packets && has_room(packets);
}

void Transmitter::number(PacketHeader& header, std::span<const std::byte> payload, Nanos now) {
  header.sequence = next_++;
  if (takes_credit(header.opcode)) ++spent_;
  if (options_.keeps) keep(header, payload, now);
}

void Transmitter::queue(const PacketHeader& header, std::vector<std::byte> payload, Nanos now) {
  std::deque<Waiting>& lane = takes_credit(header.opcode) ? requests_ : answers_;
  lane.push_back({header, std::move(payload)});
  watch_starvation(now);
}

bool Transmitter::next(Nanos now, View* packet) {
  if (next_lost(now, packet)) return true;
  if (!answers_.empty() && has_room(1)) {
    next_waiting(answers_, now, packet);
    return true;
  }
  const bool may = !requests_.empty() && limit_ != spent_ && has_room(1);
  if (may) next_waiting(requests_, now, packet);
  watch_starvation(now);
  return may;
}

void Transmitter::next_waiting(std::deque<Waiting>& lane, Nanos now, View* packet) {
  Waiting& first = lane.front();
  const bool message = first.header.opcode == Opcode::message;
  const std::size_t done = message ? static_cast<std::size_t>(first.header.offset) : 0;
  if (message && first.payload.size() - done > options_.max_payload) {
    leaving_.header = first.header;
    packet->payload = std::span(first.payload).subspan(done, options_.max_payload);
    first.header.offset += options_.max_payload;
  } else {
    leaving_ = std::move(first);
    lane.pop_front();
    packet->payload = std::span(leaving_.payload).subspan(done);
  }
  if (message) leaving_.header.bytes = static_cast<std::uint32_t>(packet->payload.size());
  packet->header = &leaving_.header;
  number(leaving_.header, packet->payload, now);
}

void Transmitter::watch_starvation(Nanos now) {
  if (!options_.keeps) return;
  if (!starved()) {
    probe_at_ = kForever;
    probes_ = 0;
  } else if (probe_at_ == kForever) {
    if (unacknowledged() == 0) heard_at_ = now;  // silence counts from here
    probe_at_ = now + timeout();
  }
}

std::uint32_t Transmitter::give_back(std::uint32_t wanted) {
  if (!requests_.empty() || limit_ == spent_) return 0;
  const std::uint32_t given = std::min(wanted, limit_ - spent_ - 1);
  spent_ += given;
  return given;
}

// ---- what is kept ---------------------------------------------------------------------------------------------------------------------------

void Transmitter::grow() {
  std::vector<Slot> larger(slots_.empty() ? kFirstSlots : slots_.size() * 2);
  for (std::uint32_t number = base_; number != next_; ++number) {
    larger[number & (larger.size() - 1)] = std::move(slot(number));
  }
  slots_ = std::move(larger);
}

void Transmitter::keep(const PacketHeader& header, std::span<const std::byte> payload, Nanos now) {
  const std::uint32_t sequence = header.sequence;
  if (sequence - base_ >= slots_.size()) {
    --next_;  // the new number has no slot to move
    grow();
    ++next_;
  }
  NETVM_CHECK(sequence - base_ < slots_.size(), "%u packets on their way; the window has %zu", sequence - base_, slots_.size());
  if (sequence == base_) {  // nothing was on its way: silence and the timeout count from here
    heard_at_ = now;
    timeout_at_ = now + timeout();
  }
  Slot& kept = slot(sequence);
  kept.header = header;
  kept.payload.assign(payload.begin(), payload.end());
  kept.sent_at = kept.first_sent_at = now;
  kept.transmissions = 1;
  kept.delivered = false;
  link(sequence);
}

void Transmitter::link(std::uint32_t sequence) {
  Slot& added = slot(sequence);
  added.linked = true;
  if (linked_++ == 0) {
    oldest_ = newest_ = sequence;
    return;
  }
  slot(newest_).newer = sequence;
  added.older = newest_;
  newest_ = sequence;
}

void Transmitter::unlink(std::uint32_t sequence) {
  Slot& removed = slot(sequence);
  removed.linked = false;
  if (--linked_ == 0) return;
  if (sequence == oldest_) {
    oldest_ = removed.newer;
  } else if (sequence == newest_) {
    newest_ = removed.older;
  } else {
    slot(removed.older).newer = removed.newer;
    slot(removed.newer).older = removed.older;
  }
}

void Transmitter::mark_lost(std::uint32_t sequence) {
  unlink(sequence);
  lost_.push_back(sequence);
}

bool Transmitter::next_lost(Nanos now, View* packet) {
  while (!lost_.empty()) {
    const std::uint32_t sequence = lost_.front();
    lost_.pop_front();
    if (sequence - base_ >= next_ - base_) continue;  // acknowledged meanwhile
    Slot& again = slot(sequence);
    if (again.delivered || again.linked) continue;
    again.sent_at = now;
    ++again.transmissions;
    ++retransmitted_;
    link(sequence);
    *packet = {&again.header, again.payload};
    return true;
  }
  return false;
}

// ---- acknowledgements -----------------------------------------------------------------------------------------------------------------------

void Transmitter::on_acknowledged(std::uint32_t acknowledged, std::span<const std::byte> bitmap, Nanos now) {
  if (!options_.keeps || acknowledged - base_ > next_ - base_) return;  // older than one that was here, or of what was never sent
  bool progress = false;
  for (std::uint32_t sequence = base_; sequence != acknowledged; ++sequence) {
    progress = deliver(sequence, now) || progress;
    std::vector<std::byte>& payload = slot(sequence).payload;
    if (payload.capacity() > kKeptCapacity) std::vector<std::byte>().swap(payload);
  }
  for (std::size_t word = 0; word < bitmap.size() / sizeof(std::uint64_t); ++word) {
    std::uint64_t bits = 0;
    std::memcpy(&bits, bitmap.data() + word * sizeof bits, sizeof bits);
    for (; bits != 0; bits &= bits - 1) {
      const std::uint32_t sequence =
          acknowledged + 1 + static_cast<std::uint32_t>(word * 64 + static_cast<std::size_t>(std::countr_zero(bits)));
      if (sequence - base_ < next_ - base_) progress = deliver(sequence, now) || progress;
    }
  }
  base_ = acknowledged;
  if (progress) {
    backoff_ = 0;
    timeout_at_ = base_ == next_ ? kForever : now + timeout();
    lateness_ -= lateness_ / 256;
    if (!sequence_before(base_, round_end_)) end_round();
  }
  detect_losses(now);
}

bool Transmitter::deliver(std::uint32_t sequence, Nanos now) {
  Slot& arrived = slot(sequence);
  if (arrived.delivered) return false;
  arrived.delivered = true;
  if (arrived.linked) unlink(sequence);
  const Nanos elapsed = now - arrived.sent_at;
  if (arrived.transmissions > 1 && elapsed < shortest_) {
    // Sent again too early: this is the first one's acknowledgement. Such packets have more time from now on.
    if (arrived.transmissions == 2) note_lateness(now - arrived.first_sent_at - latest_trip_);
    return true;
  }
  if (arrived.transmissions == 1) measure(elapsed);
  if (arrived.sent_at >= latest_sent_) {
    latest_sent_ = arrived.sent_at;
    latest_trip_ = elapsed;
  } else if (arrived.transmissions == 1) {
    note_lateness(elapsed - latest_trip_);
  }
  return true;
}

void Transmitter::note_lateness(Nanos sample) {
  // Bounded: an answer to a second packet may be taken for one to the first, and a timeout that learns from timeouts would grow for ever.
  lateness_ = std::max(lateness_, std::min(sample, kMostTripsLate * smoothed_ + options_.reliability.ack_delay));
}

void Transmitter::end_round() {
  const Nanos most = 2 * shortest_ + options_.reliability.ack_delay;
  if (round_shortest_ != kForever) {
    if (round_shortest_ > most) {
      doubling_ = false;
      path_window_ = std::max(kFirstPathWindow, static_cast<std::uint32_t>(static_cast<Nanos>(path_window_) * most / round_shortest_));
    } else {
      path_window_ = std::min(options_.reliability.window, path_window_ + (doubling_ ? path_window_ : path_window_ / 8));
    }
  }
  round_end_ = next_;
  round_shortest_ = kForever;
}

void Transmitter::measure(Nanos elapsed) {
  round_shortest_ = std::min(round_shortest_, elapsed);
  if (smoothed_ == 0) {
    smoothed_ = shortest_ = std::max<Nanos>(elapsed, 1);
    variation_ = elapsed / 2;
    return;
  }
  shortest_ = std::min(shortest_, std::max<Nanos>(elapsed, 1));
  variation_ += (std::abs(elapsed - smoothed_) - variation_) / 4;
  smoothed_ = std::max<Nanos>(smoothed_ + (elapsed - smoothed_) / 8, 1);
}

Nanos Transmitter::timeout() const {
  const Reliability& r = options_.reliability;
  const Nanos base = smoothed_ == 0 ? r.initial_timeout : std::max(smoothed_ + 4 * variation_, smoothed_ + lateness_) + r.ack_delay;
  return std::min(std::max(base, r.min_timeout) << std::min(backoff_, kMostDoublings), r.max_timeout);
}

Nanos Transmitter::overdue_after() const { return std::max(latest_trip_, smoothed_) + std::max(shortest_ / 4, lateness_ + lateness_ / 4); }

void Transmitter::detect_losses(Nanos now) {
  while (linked_ != 0) {
    const Slot& first = slot(oldest_);
    if (first.sent_at >= latest_sent_ || now < first.sent_at + overdue_after()) return;
    mark_lost(oldest_);
  }
}

// ---- time ---------------------------------------------------------------------------------------------------------------------------------

Nanos Transmitter::deadline() const {
  Nanos when = std::min(timeout_at_, probe_at_);
  if (linked_ != 0 && slot(oldest_).sent_at < latest_sent_) when = std::min(when, slot(oldest_).sent_at + overdue_after());
  return when;
}

Transmitter::Alarm Transmitter::on_time(Nanos now, std::uint64_t random) {
  detect_losses(now);
  const bool silent = now - heard_at_ >= options_.reliability.peer_timeout;
  Alarm alarm = Alarm::none;
  if (now >= timeout_at_) {
    if (silent) return Alarm::dead;
    // One packet asks; what comes back tells about the others.
    if (linked_ != 0) mark_lost(oldest_);
    ++backoff_;
    const Nanos wait = timeout();
    timeout_at_ = now + wait + static_cast<Nanos>(random % (static_cast<std::uint64_t>(wait) / 8 + 1));
  }
  if (now >= probe_at_) {
    if (silent) return Alarm::dead;
    ++probes_;
    const Reliability& r = options_.reliability;
    const Nanos wait = std::min(timeout() << std::min(probes_, kMostDoublings), r.max_timeout);
    probe_at_ = now + wait + static_cast<Nanos>(random % (static_cast<std::uint64_t>(wait) / 8 + 1));
    alarm = Alarm::probe;
  }
  return alarm;
}

void Transmitter::clear() {
  requests_.clear();
  answers_.clear();
  lost_.clear();
  slots_.clear();
  linked_ = 0;
  base_ = next_;
  timeout_at_ = probe_at_ = kForever;
}

}  // namespace netvm::nic
