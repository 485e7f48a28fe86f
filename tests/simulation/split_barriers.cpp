// Barriers in two halves, for every protocol: what a thread does between them may be known to a node that has yet to arrive, and is then known to everybody after the barrier.
#include <doctest/doctest.h>

#include <string>

#include "tests/support/seeds.hpp"
#include "tests/support/sim_cluster.hpp"

namespace netvm::test {
namespace {

constexpr std::uint64_t kRounds = 4;

TEST_CASE("what happened before a late arrival is seen after the barrier, also what its maker did after its own arrival") {
  for_each_protocol([](std::string_view protocol) {
    CAPTURE(protocol);
    for (std::uint64_t seed = 1; seed <= 3; ++seed) {
      SimClusterOptions options;
      options.nodes = 4;
      options.seed = seed;
      options.protocol = protocol;
      SimCluster cluster(options);
      const Place at = cluster.allocate(2 * kPageSize, {});
      const Place relayed = at + kPageSize;
      const Place lock = cluster.allocate(8, {});
      std::uint64_t ahead = 0;  // rounds in which node 0 has let the lock go
      std::uint64_t wrong = 0;
      const Ending ending = cluster.run([&](Worker& me) {
        me.bind(lock, at, 2 * kPageSize);
        for (std::uint64_t round = 1; round <= kRounds; ++round) {
          wrong += me.load<std::uint64_t>(at) != round - 1 ? 1 : 0;  // everybody has a copy
          wrong += me.load<std::uint64_t>(relayed) != round - 1 ? 1 : 0;
          me.barrier();
          if (me.node() == 0) {
            me.arrive();
            me.lock(lock);
            me.store(at, round);
            me.unlock(lock);
            ahead = round;
            me.wait();
          } else {
            // Node 2 is told by node 0 before it arrives. Node 3 may be, by node 2.
            while (me.node() != 1 && ahead != round) me.pause(1000);
            if (me.node() != 1) me.lock(lock);
            if (me.node() == 2) wrong += me.load<std::uint64_t>(at) != round ? 1 : 0;
            if (me.node() == 2) me.store(relayed, me.load<std::uint64_t>(at));
            if (me.node() != 1) me.unlock(lock);
            me.barrier();
          }
          wrong += me.load<std::uint64_t>(at) != round ? 1 : 0;
          wrong += me.load<std::uint64_t>(relayed) != round ? 1 : 0;
          me.barrier();
        }
      });
      CHECK_MESSAGE(ending.well, ending.text);
      CHECK(wrong == 0);
    }
  });
}

// Its lock comes from a node that has left the barrier, which this node's protocol knows nothing of.
TEST_CASE("memory is used for the first time between a node's arrival and its wait") {
  for_each_protocol([](std::string_view protocol) {
    CAPTURE(protocol);
    for (std::uint64_t seed = 1; seed <= 3; ++seed) {
      SimClusterOptions options;
      options.seed = seed;
      options.protocol = protocol;
      SimCluster cluster(options);
      const Place at = cluster.allocate(8, {});
      const Place lock = cluster.allocate(8, {});
      bool left = false;
      const Ending ending = cluster.run([&](Worker& me) {
        const auto replace = [&](std::uint64_t from, std::uint64_t to) {
          me.lock(lock);
          CHECK(me.load<std::uint64_t>(at) == from);
          me.store(at, to);
          me.unlock(lock);
        };
        if (me.node() == 0) {
          me.bind(lock, at, 8);
          replace(0, 1);
          me.barrier();
          replace(1, 2);
          left = true;
        } else {
          me.arrive();
          while (!left) me.pause(1000);
          me.bind(lock, at, 8);
          replace(2, 3);
          me.wait();
          replace(3, 4);
        }
        me.barrier();
        CHECK(me.load<std::uint64_t>(at) == 4);
      });
      CHECK_MESSAGE(ending.well, ending.text);
    }
  });
}

}  // namespace
}  // namespace netvm::test
