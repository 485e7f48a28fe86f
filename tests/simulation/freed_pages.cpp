// What a protocol still remembers of freed pages does not touch them when they belong to another protocol.
#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "tests/support/seeds.hpp"
#include "tests/support/sim_cluster.hpp"

namespace netvm::test {
namespace {

struct Story {
  SimCluster& cluster;
  std::string_view first;
  std::string_view second;
  Place lock;
  Place at = 0;  // all free memory
  std::uint64_t bytes = 0;
  bool handed_over = false;
  std::uint64_t wrong = 0;
};

Place allocate_all(Story& story, std::string_view protocol) {
  dsm::AllocOptions options;
  options.protocol = protocol;
  options.placement = dsm::Placement::at_node;
  options.home = NodeId{0};
  std::string why;
  const auto offset = story.cluster.node(0).dsm->allocate(story.bytes, options, &why);
  REQUIRE_MESSAGE(offset.has_value(), why);
  return *offset;
}

// Node 0 writes pages under the lock, frees them, and allocates the same ones with another protocol. So the lock's notices, or data, for node 1 are of
// pages that are no longer the first protocol's when they arrive; node 1 has written them meanwhile.
void play(Worker& me, Story& story) {
  constexpr std::uint64_t kPages = 4;
  if (me.node() == 0) {
    story.bytes = story.cluster.node(0).dsm->usage().available;
    story.at = allocate_all(story, story.first);
  }
  me.barrier();
  me.bind(story.lock, story.at, kPages * kPageSize);
  for (std::uint64_t p = 0; p < kPages; ++p) (void)me.load<std::uint64_t>(story.at + p * kPageSize);
  me.barrier();
  if (me.node() == 0) {
    me.lock(story.lock);
    for (std::uint64_t p = 0; p < kPages; ++p) me.store(story.at + p * kPageSize, std::uint64_t{111});
    me.unlock(story.lock);
    CHECK(ok(story.cluster.node(0).dsm->free(story.at)));
    CHECK(allocate_all(story, story.second) == story.at);
    story.handed_over = true;
  } else {
    while (!story.handed_over) me.pause(1'000);
    for (std::uint64_t p = 0; p < kPages; ++p) {
      if (me.load<std::uint64_t>(story.at + p * kPageSize) != 0) ++story.wrong;
      me.store(story.at + p * kPageSize, p + 1);
    }
    me.lock(story.lock);
    for (std::uint64_t p = 0; p < kPages; ++p) {
      if (me.load<std::uint64_t>(story.at + p * kPageSize) != p + 1) ++story.wrong;
      me.store(story.at + p * kPageSize, p + 2);
    }
    me.unlock(story.lock);
  }
  me.barrier();
  for (std::uint64_t p = 0; p < kPages; ++p) {
    if (me.load<std::uint64_t>(story.at + p * kPageSize) != p + 2) ++story.wrong;
  }
}

TEST_CASE("a lock's notices of freed pages leave them alone when they belong to another protocol") {
  for_each_protocol([](std::string_view first) {
    for (const dsm::ProtocolEntry& second : dsm::protocols()) {
      for (const ShmMode mode : {ShmMode::packet, ShmMode::direct}) {
        INFO("then ", std::string(second.traits.name));
        SimClusterOptions options;
        options.protocol = first;
        options.pages = 64;
        options.mode = mode;
        options.max_events = 1'000'000;
        SimCluster cluster(options);
        Story story{cluster, first, second.traits.name, cluster.allocate(8, {})};
        const Ending ending = cluster.run([&story](Worker& me) { play(me, story); });
        CHECK_MESSAGE(ending.well, ending.text);
        CHECK(story.wrong == 0);
      }
    }
  });
}

}  // namespace
}  // namespace netvm::test
