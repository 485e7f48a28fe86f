#include "nic/sequence_window.hpp"

#include <utility>

#include "runtime/check.hpp"

namespace netvm::nic {

SequenceWindow::Place SequenceWindow::place(std::uint32_t sequence) const {
  const std::uint32_t here = next();
  if (sequence == here) return held_.empty() || held_.begin()->first != next_ ? Place::next : Place::duplicate;
  if (sequence_before(sequence, here)) return Place::duplicate;
  if (sequence - here >= kSpan) return Place::outside;
  const std::uint64_t number = extend(sequence);
  return skipped(number) || held_.contains(number) ? Place::duplicate : Place::early;
}

void SequenceWindow::hold(HeldPacket packet) {
  const std::uint64_t number = extend(packet.header.sequence);
  NETVM_CHECK(number >= next_ && number - next_ < kSpan, "sequence number %u is not ahead of %u", packet.header.sequence, next());
  const bool fresh = held_.emplace(number, std::move(packet)).second;
  NETVM_CHECK(fresh, "sequence number %u is held already", static_cast<std::uint32_t>(number));
}

void SequenceWindow::skip(std::uint32_t sequence) {
  if (sequence == next()) return advance();
  const std::uint64_t number = extend(sequence);
  NETVM_CHECK(number > next_ && number - next_ < kSpan && !skipped(number), "sequence number %u cannot be skipped at %u", sequence, next());
  if (skipped_.empty()) skipped_.resize(kSpan / 64);
  skipped_[number % kSpan / 64] |= std::uint64_t{1} << (number % 64);
  ++skips_;
}

HeldPacket* SequenceWindow::head() { return held_.empty() || held_.begin()->first != next_ ? nullptr : &held_.begin()->second; }

void SequenceWindow::advance() {
  if (head() != nullptr) held_.erase(held_.begin());
  for (++next_; skipped(next_); ++next_) {
    skipped_[next_ % kSpan / 64] &= ~(std::uint64_t{1} << (next_ % 64));
    --skips_;
  }
}

}  // namespace netvm::nic
