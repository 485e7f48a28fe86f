// Everybody wants the same page at once: each access goes through in the end, under all protocols.
#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <string_view>

#include "runtime/random.hpp"
#include "tests/support/seeds.hpp"
#include "tests/support/thread_cluster.hpp"

namespace netvm::test {
namespace {

// Words of their own on one page, each written and read back again and again.
void hammer_page(std::string_view protocol, std::uint32_t nodes, std::uint32_t threads) {
  ClusterOptions options;
  options.nodes = nodes;
  options.threads = threads;
  options.protocol = protocol;
  options.pages = 512;
  ThreadCluster cluster(options);
  const Place page = cluster.allocate(kPageSize, {});
  std::atomic<std::uint64_t> wrong{0};
  const Ending ending = cluster.run([&](Worker& me) {
    const Place mine = page + me.rank() * 8;
    for (std::uint64_t i = 1; i <= 300; ++i) {
      me.store<std::uint64_t>(mine, i);
      if (me.load<std::uint64_t>(mine) != i) ++wrong;
    }
    me.barrier();
    for (std::uint32_t rank = 0; rank < me.count(); ++rank) {
      if (me.load<std::uint64_t>(page + rank * 8) != 300) ++wrong;
    }
  });
  CHECK(ending.well);
  CHECK(wrong == 0);
}

// One counter, in a lock.
void hammer_counter(std::string_view protocol) {
  ClusterOptions options;
  options.nodes = 4;
  options.protocol = protocol;
  options.pages = 512;
  ThreadCluster cluster(options);
  const Place counter = cluster.allocate(8, {});
  const Place mutex = cluster.allocate(8, {});
  const Ending ending = cluster.run([&](Worker& me) {
    me.bind(mutex, counter, 8);
    for (int i = 0; i < 100; ++i) {
      me.lock(mutex);
      me.store(counter, me.load<std::uint64_t>(counter) + 1);
      me.unlock(mutex);
    }
    me.barrier();
    CHECK(me.load<std::uint64_t>(counter) == 400);
  });
  CHECK(ending.well);
}

// Runs of pages, read or written in sequence from anywhere: each thread has a byte of every page.
void hammer_runs(std::string_view protocol, std::uint32_t nodes, std::uint32_t threads) {
  constexpr std::uint64_t kPages = 64;
  constexpr std::uint64_t kLongest = 40;
  ClusterOptions options;
  options.nodes = nodes;
  options.threads = threads;
  options.protocol = protocol;
  options.pages = 512;
  ThreadCluster cluster(options);
  dsm::AllocOptions dealt;
  dealt.placement = dsm::Placement::cyclic;
  const Place pages = cluster.allocate(kPages * kPageSize, dealt);
  std::atomic<std::uint64_t> wrong{0};
  const Ending ending = cluster.run([&](Worker& me) {
    SplitMix64 random(me.rank() + 1);
    std::array<std::uint8_t, kPages> mine{};
    for (int i = 0; i < 400; ++i) {
      const std::uint64_t first = random.below(kPages);
      const std::uint64_t end = std::min(kPages, first + random.below(kLongest));
      const bool writes = random.below(3) == 0;
      for (std::uint64_t page = first; page < end; ++page) {
        const Place place = pages + page * kPageSize + me.rank();
        if (me.load<std::uint8_t>(place) != mine[page]) ++wrong;
        if (writes) me.store<std::uint8_t>(place, ++mine[page]);
      }
    }
  });
  CHECK(ending.well);
  CHECK(wrong == 0);
}

TEST_CASE("four nodes hammer one page") {
  for_each_protocol([](std::string_view protocol) { hammer_page(protocol, 4, 1); });
}
TEST_CASE("two nodes of three threads hammer one page") {
  for_each_protocol([](std::string_view protocol) { hammer_page(protocol, 2, 3); });
}
// sc-fixed: a manager that read ahead hung here, in one of two runs.
TEST_CASE("three nodes read and write runs of pages") {
  for_each_protocol([](std::string_view protocol) {
    hammer_runs(protocol, 3, 1);
    hammer_runs(protocol, 3, 2);
  });
}
TEST_CASE("four nodes count in a lock") { for_each_protocol(hammer_counter); }

}  // namespace
}  // namespace netvm::test
