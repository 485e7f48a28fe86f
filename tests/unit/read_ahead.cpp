// dsm/read_ahead: streams of misses are recognised, windows grow while they pay and stop when they do not.
#include "dsm/read_ahead.hpp"

#include <doctest/doctest.h>

#include "runtime/random.hpp"

using namespace netvm;
using namespace netvm::dsm;

namespace {

Extent extent_of(std::uint64_t pages, std::uint8_t unit_shift = 0, std::uint64_t serial = 1) {
  Extent extent;
  extent.pages = {PageId{1024}, pages};
  extent.serial = serial;
  extent.unit_shift = unit_shift;
  return extent;
}

/// Reads [first, last] in steps of one, all advice being followed. Returns the misses.
std::uint64_t read_all(ReadAhead& ahead, const Extent& extent, std::int64_t first, std::int64_t last) {
  const std::int64_t step = first <= last ? 1 : -1;
  std::uint64_t misses = 0;
  for (std::int64_t at = first; at != last + step;) {
    ++misses;
    const ReadAhead::Advice advice = ahead.on_miss(extent, static_cast<std::uint64_t>(at));
    CHECK((advice.units == 0 || advice.step == step));
    ahead.fetched(extent, static_cast<std::uint64_t>(at), advice.units);
    const std::int64_t left = (last - at) * step;
    CHECK(static_cast<std::int64_t>(advice.units) <= (step > 0 ? static_cast<std::int64_t>(extent.units()) - 1 - at : at));
    at += step * (1 + std::min<std::int64_t>(static_cast<std::int64_t>(advice.units), left));
  }
  return misses;
}

}  // namespace

TEST_CASE("read_ahead: a reader in sequence misses few times, upwards and downwards, with units of any size") {
  for (const std::uint8_t shift : {0, 2, 4}) {
    const Extent extent = extent_of(4096, shift);
    const auto units = static_cast<std::int64_t>(extent.units());
    const std::uint64_t most = ReadAhead::kMostPages >> shift;
    ReadAhead up(2);
    CHECK(read_all(up, extent, 0, units - 1) <= static_cast<std::uint64_t>(units) / (most + 1) + 8);
    ReadAhead down(2);
    CHECK(read_all(down, extent, units - 1, 0) <= static_cast<std::uint64_t>(units) / (most + 1) + 8);
  }
}

TEST_CASE("read_ahead: streams of several threads and of several extents do not disturb each other") {
  ReadAhead ahead(2);
  const Extent a = extent_of(4096, 0, 1);
  const Extent b = extent_of(4096, 0, 2);
  std::uint64_t at[3] = {0, 2000, 0};
  for (int turn = 0; turn < 30; ++turn) {
    for (int who = 0; who < 3; ++who) {
      const Extent& extent = who == 2 ? b : a;
      const ReadAhead::Advice advice = ahead.on_miss(extent, at[who]);
      CHECK(advice.wasted == 0);
      ahead.fetched(extent, at[who], advice.units);
      if (turn > 10) CHECK(advice.units > 0);
      at[who] += 1 + advice.units;
    }
  }
}

TEST_CASE("read_ahead: random misses fetch next to nothing ahead, also where neighbours meet by chance") {
  SplitMix64 random(5);
  ReadAhead ahead(2);
  const Extent extent = extent_of(256);
  std::uint64_t fetched = 0;
  std::uint64_t wasted = 0;
  std::uint64_t early = 0;
  for (int i = 0; i < 4000; ++i) {
    const std::uint64_t index = random.below(extent.units());
    const ReadAhead::Advice advice = ahead.on_miss(extent, index);
    fetched += advice.units;
    wasted += advice.wasted;
    ahead.fetched(extent, index, advice.units);
    if (i == 2000) early = fetched;
  }
  CHECK(fetched < 4000 / 4);
  CHECK(fetched - early <= early + 50);
  CHECK(wasted > fetched / 2);
}

TEST_CASE("read_ahead: who fetched nothing is not believed to have gained, and a miss that comes again asks for nothing") {
  ReadAhead ahead(2);
  const Extent extent = extent_of(100);
  CHECK(ahead.on_miss(extent, 10).units == 0);
  CHECK(ahead.on_miss(extent, 11).units == 2);
  CHECK(ahead.on_miss(extent, 11).units == 0);
  ahead.fetched(extent, 11, 0);
  const ReadAhead::Advice next = ahead.on_miss(extent, 12);
  CHECK(next.hits == 0);
  CHECK(next.units <= 1);
}

TEST_CASE("read_ahead: the last unit of an extent asks for nothing behind it") {
  ReadAhead ahead(1);
  const Extent extent = extent_of(4);
  CHECK(ahead.on_miss(extent, 3).units == 0);
  CHECK(ahead.on_miss(extent, 2).units == 1);
  ReadAhead two(2);
  CHECK(two.on_miss(extent, 1).units == 0);
  CHECK(two.on_miss(extent, 0).units == 0);
}
