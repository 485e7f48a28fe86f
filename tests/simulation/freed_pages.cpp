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

// ---- freed while dirty ---------------------------------------------------------------------------------------------------------------

struct Recycling {
  SimCluster& cluster;
  std::string_view first;
  std::string_view second;
  Place written_lock;       // node 1 writes under it
  Place other_lock;         // for releases at any time
  std::uint64_t bytes = 0;  // so much that each allocation gets the same memory
  std::size_t granularity = 0;
  Place at = 0;
  int written = 0;  // the round in which node 1 has written
  int over = 0;     // ... whose memory was handed over
  std::uint64_t wrong = 0;
};

constexpr std::uint64_t kDirtyPages = 6;

Place allocate_for(Recycling& story, std::string_view protocol, int round) {
  dsm::Dsm& dsm = *story.cluster.node(0).dsm;
  dsm::AllocOptions options;
  options.protocol = protocol;
  options.placement = dsm::Placement::at_node;
  options.home = NodeId{static_cast<std::uint32_t>(round / 2) % story.cluster.nodes()};
  options.granularity = story.granularity;
  std::string why;
  const auto offset = dsm.allocate(story.bytes, options, &why);
  REQUIRE_MESSAGE(offset.has_value(), why);
  return *offset;
}

// Node 0 writes pages, and frees them before it releases. Node 1 may have written other bytes of them, so that an acquire flushed them early.
void free_dirty(Worker& me, Recycling& story, int round) {
  const auto write = [&](std::uint64_t value) {
    for (std::uint64_t p = 0; p < kDirtyPages; ++p) me.store(story.at + p * kPageSize, value + p);
  };
  while (story.written != round) me.pause(300);
  write(1000);
  if (round % 2 == 0) {
    me.lock(story.written_lock);
    me.unlock(story.written_lock);
  }
  if (round % 4 != 0) write(2000);
  CHECK(ok(story.cluster.node(0).dsm->free(story.at)));
  const Place again = allocate_for(story, story.second, round + 1);
  CHECK(again == story.at);
  write(static_cast<std::uint64_t>(round));
  me.pause(2'000);
  write(static_cast<std::uint64_t>(round) + 1);
}

void recycle(Worker& me, Recycling& story) {
  for (int round = 1; round <= 5; ++round) {
    if (me.rank() == 0) {
      story.at = allocate_for(story, story.first, round);
    }
    me.barrier();
    if (me.rank() == 0) {
      free_dirty(me, story, round);
      story.over = round;
    } else if (me.node() == 1 && me.local() == 0) {
      me.lock(story.written_lock);
      for (std::uint64_t p = 0; p < kDirtyPages; ++p) me.store(story.at + p * kPageSize + 8, p);
      me.unlock(story.written_lock);
      story.written = round;
    }
    // Node 0's other threads release while memory goes and comes.
    while (me.local() == 0 ? me.rank() != 0 && story.over != round : story.over != round) {
      me.lock(story.other_lock);
      me.pause(200);
      me.unlock(story.other_lock);
      me.pause(200);
    }
    me.barrier();
    for (std::uint64_t p = 0; p < kDirtyPages; ++p) {
      if (me.load<std::uint64_t>(story.at + p * kPageSize) != static_cast<std::uint64_t>(round) + 1 + p) ++story.wrong;
      if (me.load<std::uint64_t>(story.at + p * kPageSize + 8) != 0) ++story.wrong;
    }
    me.barrier();
    if (me.rank() == 0) CHECK(ok(story.cluster.node(0).dsm->free(story.at)));
  }
}

TEST_CASE("pages that were freed while dirty are let alone by the next release when they belong to another protocol") {
  for_each_protocol([](std::string_view first) {
    for (const dsm::ProtocolEntry& second : dsm::protocols()) {
      for_each_seed(3, [&](std::uint64_t seed) {
        INFO("then ", std::string(second.traits.name));
        SimClusterOptions options;
        options.seed = seed;
        options.protocol = first;
        options.nodes = 2 + static_cast<std::uint32_t>(seed % 2);
        options.threads = 1 + static_cast<std::uint32_t>(seed / 2 % 2);
        options.pages = 64;
        options.mode = seed % 3 == 0 ? ShmMode::packet : ShmMode::direct;
        options.max_events = 4'000'000;
        SimCluster cluster(options);
        Recycling story{cluster, first, second.traits.name, cluster.allocate(8, {}), cluster.allocate(8, {})};
        story.bytes = 40 * kPageSize;
        story.granularity = kPageSize << seed % 3;
        const Ending ending = cluster.run([&story](Worker& me) { recycle(me, story); });
        CHECK_MESSAGE(ending.well, ending.text);
        CHECK(story.wrong == 0);
      });
    }
  });
}

}  // namespace
}  // namespace netvm::test
