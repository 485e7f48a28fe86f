// dsm/interval_log: write notices from the wire are accepted whole or not at all, and what is accepted can be merged and told on.
#include <algorithm>
#include <vector>

#include "dsm/interval_log.hpp"
#include "tests/fuzz/fuzz.hpp"

using namespace netvm;
using namespace netvm::dsm;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  constexpr std::uint32_t kNodes = 3;
  constexpr PageRange kShared{PageId{100}, 5000};
  const auto wire = fuzz_bytes(data, size);

  std::vector<PageRange> ranges;
  if (decode_pages(wire, kShared, ranges)) {
    std::uint64_t end = 0;
    for (const PageRange& range : ranges) {
      FUZZ_REQUIRE(range.count > 0 && range.first.value >= end && kShared.contains(range.first) && range.end() <= kShared.end());
      end = range.end();
    }
  } else {
    FUZZ_REQUIRE(ranges.empty());
  }

  IntervalLog log(NodeId{0}, kNodes);
  VectorClock clock;
  static_cast<void>(log.decode_clock(wire, &clock));

  std::vector<IntervalView> intervals;
  if (!decode_intervals(wire, kNodes, kShared, intervals)) return 0;
  const VectorClock before = log.clock();
  if (!log.add(intervals)) FUZZ_REQUIRE(log.clock() == before);
  std::vector<std::byte> told;
  log.encode_lacking(VectorClock(kNodes, 0), told);
  std::vector<IntervalView> again;
  FUZZ_REQUIRE(decode_intervals(told, kNodes, kShared, again));
  std::vector<std::byte> sum(wire.begin(), wire.end());
  merge_interval_sets(sum, told);
  FUZZ_REQUIRE(decode_intervals(sum, kNodes, kShared, again));
  return 0;
}
