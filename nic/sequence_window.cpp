#include "nic/sequence_window.hpp"

#include <utility>

#include "runtime/check.hpp"

namespace netvm::nic {

SequenceWindow::Place SequenceWindow::place(std::uint32_t sequence) const {
  const std::uint32_t here = next();
  if (sequence == here) return held_.empty() || held_.begin()->first != next_ ? Place::next : Place::duplicate;
  if (sequence_before(sequence, here)) return Place::duplicate;
  if (sequence - here > kSpan) return Place::outside;
  return held_.contains(extend(sequence)) ? Place::duplicate : Place::early;
}

void SequenceWindow::hold(HeldPacket packet) {
  const std::uint64_t number = extend(packet.header.sequence);
  NETVM_CHECK(number > next_ && number - next_ <= kSpan, "sequence number %u is not ahead of %u", packet.header.sequence, next());
  const bool fresh = held_.emplace(number, std::move(packet)).second;
  NETVM_CHECK(fresh, "sequence number %u is held already", static_cast<std::uint32_t>(number));
}

void SequenceWindow::advance() { ++next_; }

std::optional<HeldPacket> SequenceWindow::take_next() {
  if (held_.empty() || held_.begin()->first != next_) return std::nullopt;
  std::optional<HeldPacket> packet(std::move(held_.begin()->second));
  held_.erase(held_.begin());
  return packet;
}

}  // namespace netvm::nic
