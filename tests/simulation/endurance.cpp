// Long runs: what a protocol remembers is bounded. After very many barriers, or lock hand-overs, the heap holds hardly more than after a few.
#include <doctest/doctest.h>
#include <malloc.h>

#include <algorithm>
#include <string>

#include "runtime/sanitizers.hpp"
#include "tests/support/seeds.hpp"
#include "tests/support/sim_cluster.hpp"

namespace netvm::test {
namespace {

constexpr bool kSlow = NETVM_TSAN || NETVM_ASAN;
constexpr std::uint64_t kBarriers = kSlow ? 3'000 : 100'000;
constexpr std::uint64_t kHandOvers = kSlow ? 1'000 : 20'000;
constexpr std::uint64_t kSettled = 500;  // rounds after which everything has reached its size
constexpr std::uint64_t kPages = 4;
constexpr std::size_t kMostGrowth = 256 << 10;

// Bytes allocated in this process, whose simulation is its only work. 0 where a sanitizer keeps the heap.
std::size_t heap_in_use() {
  const struct mallinfo2 info = mallinfo2();
  return info.uordblks + info.hblkhd;
}

struct Watch {
  std::size_t settled = 0;
  std::size_t most = 0;
  void look(std::uint64_t round) {
    if (round == kSettled) settled = heap_in_use();
    if (round >= kSettled && round % 100 == 0) most = std::max(most, heap_in_use());
  }
};

SimClusterOptions small_cluster(std::string_view protocol) {
  SimClusterOptions options;
  options.protocol = protocol;
  options.nodes = 2;
  options.pages = 64;
  options.mode = ShmMode::direct;
  options.max_events = 2'000'000'000;
  return options;
}

TEST_CASE("memory stays bounded over very many barriers") {
  for_each_protocol([](std::string_view protocol) {
    SimCluster cluster(small_cluster(protocol));
    const Place area = cluster.allocate(kPages * kPageSize, {});
    Watch watch;
    std::uint64_t wrong = 0;
    const Ending ending = cluster.run([&](Worker& me) {
      for (std::uint64_t round = 1; round <= kBarriers; ++round) {
        // Each writes a page that the other has read, and reads one that the other has written.
        const Place mine = area + (round + me.rank()) % kPages * kPageSize + 8 * me.rank();
        const Place theirs = area + (round + 1 - me.rank()) % kPages * kPageSize + 8 * (1 - me.rank());
        if (round % 8 == 0) me.store(mine, round);
        me.barrier();
        if (round % 8 == 0 && me.load<std::uint64_t>(theirs) != round) ++wrong;
        if (me.rank() == 0) watch.look(round);
      }
    });
    CHECK_MESSAGE(ending.well, ending.text);
    CHECK(wrong == 0);
    MESSAGE(std::string(protocol), ": ", watch.settled, " bytes after ", kSettled, " barriers, at most ", watch.most, " later");
    CHECK(watch.most <= watch.settled + kMostGrowth);
  });
}

TEST_CASE("memory stays bounded over very many hand-overs of a lock, without a barrier") {
  for_each_protocol([](std::string_view protocol) {
    SimCluster cluster(small_cluster(protocol));
    const Place area = cluster.allocate(kPages * kPageSize, {});
    const Place lock = cluster.allocate(8, {});
    Watch watch;
    std::uint64_t sum = 0;
    const Ending ending = cluster.run([&](Worker& me) {
      if (me.local() == 0) me.bind(lock, area, kPages * kPageSize);
      me.barrier();
      for (std::uint64_t round = 1; round <= kHandOvers / me.count(); ++round) {
        me.lock(lock);
        const Place at = area + round % kPages * kPageSize;
        me.store(at, me.load<std::uint64_t>(at) + 1);
        me.unlock(lock);
        if (me.rank() == 0) watch.look(round);
        me.pause(20'000);  // so that the other gets it
      }
      me.barrier();
      if (me.rank() != 0) return;
      for (std::uint64_t p = 0; p < kPages; ++p) sum += me.load<std::uint64_t>(area + p * kPageSize);
    });
    CHECK_MESSAGE(ending.well, ending.text);
    CHECK(sum == kHandOvers);
    MESSAGE(std::string(protocol), ": ", watch.settled, " bytes after ", kSettled, " rounds, at most ", watch.most, " later");
    CHECK(watch.most <= watch.settled + kMostGrowth);
  });
}

}  // namespace
}  // namespace netvm::test
