#include "dsm/read_ahead.hpp"

#include <algorithm>
#include <mutex>

namespace netvm::dsm {

// Distances below are modulo 2^64: a unit on the wrong side is very far away.
ReadAhead::Stream* ReadAhead::find(std::uint64_t serial, std::uint64_t index) {
  for (Stream& stream : streams_) {
    if (stream.serial != serial) continue;
    if (index == stream.last) return &stream;
    const std::uint64_t up = index - stream.last;
    const std::uint64_t down = stream.last - index;
    if (stream.step == 0 && (up == 1 || down == 1)) return &stream;
    const std::uint64_t ahead = stream.step > 0 ? up : down;
    // Somewhere in its window: what was not fetched, or was lost again, is missed there.
    if (stream.step != 0 && ahead <= stream.window + 1) return &stream;
  }
  return nullptr;
}

ReadAhead::Stream& ReadAhead::replace(Advice& advice) {
  Stream& oldest =
      *std::min_element(streams_.begin(), streams_.end(), [](const Stream& a, const Stream& b) { return a.used_at < b.used_at; });
  if (oldest.fetched != 0) {
    advice.wasted = oldest.fetched;
    std::uint8_t& doubt = doubt_of(oldest.serial);
    doubt = std::min<std::uint8_t>(static_cast<std::uint8_t>(doubt + 1), kMostDoubt);
  }
  oldest = Stream{};
  return oldest;
}

void ReadAhead::continue_stream(Stream& stream, const Extent& extent, std::uint64_t index, Advice& advice) {
  const bool up = stream.step == 0 ? index > stream.last : stream.step > 0;
  const std::uint64_t distance = up ? index - stream.last : stream.last - index;
  advice.hits = std::min(stream.fetched, distance - 1);
  advice.wasted = stream.fetched - advice.hits;
  std::uint8_t& doubt = doubt_of(extent.serial);
  if (advice.hits > 0 && doubt > 0) --doubt;
  stream.step = up ? 1 : -1;
  stream.last = index;
  stream.fetched = 0;
  ++stream.run;
  const std::uint64_t most = kMostPages >> extent.unit_shift;
  const std::uint64_t left = up ? extent.units() - 1 - index : index;
  // It passed all that was fetched: more of it. Else what was fetched did not stay until it was wanted: less.
  std::uint64_t window = 0;
  if (advice.hits > 0 || stream.window == 0) {
    window = advice.wasted == 0 ? std::max<std::uint64_t>(2 * stream.window, 2) : std::max<std::uint64_t>(stream.window / 2, 1);
  } else {
    window = stream.window / 2;
  }
  if (stream.run < first_ + doubt) window = 0;
  stream.window = std::min({window, most, left});
}

ReadAhead::Advice ReadAhead::on_miss(const Extent& extent, std::uint64_t index) {
  Advice advice;
  const std::scoped_lock guard(lock_);
  Stream* stream = find(extent.serial, index);
  if (stream == nullptr) {
    stream = &replace(advice);
    stream->serial = extent.serial;
    stream->last = index;
    stream->run = 1;
    if (first_ <= 1) {
      stream->step = 1;
      stream->window = std::min<std::uint64_t>({2, kMostPages >> extent.unit_shift, extent.units() - 1 - index});
    }
  } else if (stream->last == index) {
    return advice;  // it was taken away before it was used: let the thread get on
  } else {
    continue_stream(*stream, extent, index, advice);
  }
  stream->used_at = ++turn_;
  advice.step = stream->step < 0 ? -1 : 1;
  advice.units = stream->window;
  return advice;
}

void ReadAhead::fetched(const Extent& extent, std::uint64_t index, std::uint64_t units) {
  const std::scoped_lock guard(lock_);
  for (Stream& stream : streams_) {
    if (stream.serial == extent.serial && stream.last == index) stream.fetched = units;
  }
}

}  // namespace netvm::dsm
