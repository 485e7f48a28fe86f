#include "nic/acknowledger.hpp"

#include <algorithm>
#include <cstring>

#include "runtime/check.hpp"

namespace netvm::nic {

void Acknowledger::note(std::uint32_t sequence, Nanos now) {
  ++unreported_;
  due_at_ = std::min(due_at_, unreported_ >= options_.packets_per_ack ? now : now + options_.ack_delay);
  if (sequence_before(sequence, next_)) return hurry(now);  // the sender does not know that it is here
  NETVM_CHECK(within(sequence), "number %u is too far ahead of %u", sequence, next_);
  if (sequence == next_ && end_ == next_) {
    end_ = ++next_;
    return;
  }
  if (bits_.empty()) bits_.resize(kSpan / 64);
  if (!sequence_before(sequence, end_)) {
    if (sequence != end_) hurry(now);  // a new gap
    end_ = sequence + 1;
  } else if (has(sequence)) {
    hurry(now);
  }
  bits_[word(sequence)] |= std::uint64_t{1} << (sequence % 64);
  while (next_ != end_ && has(next_)) {
    bits_[word(next_)] &= ~(std::uint64_t{1} << (next_ % 64));
    ++next_;
  }
}

std::size_t Acknowledger::bitmap(std::span<std::byte, kMaxAckBitmap> to) const {
  if (end_ == next_) return 0;
  const std::uint32_t first = next_ + 1;  // next_ itself is missing
  const std::uint32_t count = end_ - first;
  const std::size_t words = (count + 63) / 64;
  for (std::size_t i = 0; i < words; ++i) {
    // 64 numbers from `at` on: the upper part of one word of bits_ and the lower part of the one after it. Numbers from end_ on are not set.
    const std::uint32_t at = first + static_cast<std::uint32_t>(i) * 64;
    const std::uint32_t shift = at % 64;
    std::uint64_t bits = bits_[word(at)] >> shift;
    if (shift != 0) bits |= bits_[word(at + 64)] << (64 - shift);
    if (count - i * 64 < 64) bits &= (std::uint64_t{1} << (count - i * 64)) - 1;
    std::memcpy(to.data() + i * sizeof bits, &bits, sizeof bits);
  }
  return words * sizeof(std::uint64_t);
}

void Acknowledger::reported(bool with_bitmap) {
  if (!with_bitmap && end_ != next_) return;  // what is missing has to be told, too
  unreported_ = 0;
  due_at_ = kForever;
}

}  // namespace netvm::nic
