// ReadAhead: notices that a node reads coherence units one after the other, and says how many more to fetch at once.
//
// A stream is a run of read misses in one extent, each beside the one before, upwards or downwards. It is known by where it goes on, not by whose it is:
// so several threads in one region, and one thread in several, are several streams. What was fetched ahead is mapped, and nobody is told when it is
// used; that the stream goes on exactly behind it is the proof that it paid, and the window doubles. A stream that nobody continues has wasted its last
// window: the extent's next streams must run longer before they are believed, until one pays again.
// (Streams found by position as in the file prefetcher of ZFS; the doubling window as in Linux's page cache.)
//
// Invariants
//  1. A window never leaves the extent, and never has more than kMostPages pages.
//  2. All that is here is a guess: any answer is correct, and none costs more than what was asked for.
// Threads: any; never blocks.
#pragma once

#include <array>
#include <cstdint>

#include "dsm/extent.hpp"
#include "runtime/env.hpp"
#include "runtime/ids.hpp"

namespace netvm::dsm {

class ReadAhead {
 public:
  static constexpr std::uint64_t kMostPages = 64;

  /// `first`: which miss of a run in a row is the first to fetch ahead; 2 needs a neighbour to know the direction, 1 guesses upwards.
  explicit ReadAhead(std::uint32_t first) : first_(first) {}

  struct Advice {
    std::int64_t step = 1;     ///< 1 or -1: where the stream goes
    std::uint64_t units = 0;   ///< how many units behind the missing one to fetch; 0: none
    std::uint64_t hits = 0;    ///< units fetched ahead earlier that paid ...
    std::uint64_t wasted = 0;  ///< ... and that did not: for the statistics
  };
  /// A thread missed that unit, the extent's `index`-th, for reading.
  Advice on_miss(const Extent& extent, std::uint64_t index);
  /// Of the advice given for that miss, so many units were fetched.
  void fetched(const Extent& extent, std::uint64_t index, std::uint64_t units);

 private:
  struct Stream {
    std::uint64_t serial = 0;  // of the extent; 0: free
    std::uint64_t last = 0;    // the newest miss
    std::int64_t step = 0;     // 0: not known yet
    std::uint64_t window = 0;  // units advised at the newest miss
    std::uint64_t fetched = 0;
    std::uint32_t run = 0;      // misses in a row
    std::uint64_t used_at = 0;  // of turn_
  };
  Stream* find(std::uint64_t serial, std::uint64_t index);
  Stream& replace(Advice& advice);
  void continue_stream(Stream& stream, const Extent& extent, std::uint64_t index, Advice& advice);
  std::uint8_t& doubt_of(std::uint64_t serial) { return doubts_[serial % doubts_.size()]; }

  static constexpr std::uint8_t kMostDoubt = 6;
  const std::uint32_t first_;
  SpinLock lock_;
  std::array<Stream, 16> streams_{};
  std::array<std::uint8_t, 64> doubts_{};  // by extent: how many misses in a row more it takes
  std::uint64_t turn_ = 0;
};

}  // namespace netvm::dsm
