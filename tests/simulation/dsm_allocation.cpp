// Allocation from several nodes in the simulator: memory handed out is zeros on every node, freed memory comes back with another protocol and home,
// and what is not allocated stays a wild access.
#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "runtime/random.hpp"
#include "sync/waits.hpp"
#include "tests/support/seeds.hpp"
#include "tests/support/sim_cluster.hpp"

namespace netvm::test {
namespace {

SimClusterOptions cluster_options(std::uint32_t nodes, std::uint64_t seed) {
  SimClusterOptions options;
  options.nodes = nodes;
  options.seed = seed;
  options.pages = 512;
  options.mode = seed % 2 == 0 ? ShmMode::packet : ShmMode::direct;
  return options;
}

dsm::AllocOptions with(std::string_view protocol, dsm::Placement placement, std::uint32_t home = 0) {
  dsm::AllocOptions options;
  options.protocol = protocol;
  options.placement = placement;
  options.home = NodeId{home};
  return options;
}

Place allocate(SimCluster& cluster, Worker& me, std::uint64_t bytes, const dsm::AllocOptions& options) {
  std::string why;
  const auto offset = cluster.node(me.node()).dsm->allocate(bytes, options, &why);
  REQUIRE_MESSAGE(offset.has_value(), why);
  return *offset;
}

bool all_zero(Worker& me, Place at, std::uint64_t bytes) {
  std::vector<std::byte> copy(bytes, std::byte{1});
  me.load_bytes(at, copy.data(), bytes);
  for (const std::byte b : copy) {
    if (b != std::byte{0}) return false;
  }
  return true;
}

TEST_CASE("freed pages come back as zeros on every node, with any protocol and home") {
  for_each_seed(30, [](std::uint64_t seed) {
    SimCluster cluster(cluster_options(3, seed));
    auto exchange = cluster.make_ledger(sizeof(Place));
    const Ending ending = cluster.run([&](Worker& me) {
      SplitMix64 random(seed);  // the same choices on every node
      for (int round = 0; round < 12; ++round) {
        const std::uint32_t owner = static_cast<std::uint32_t>(random.below(me.nodes()));
        const std::uint64_t pages = 1 + random.below(300);
        const auto placement = static_cast<dsm::Placement>(random.below(4));
        const auto options =
            with(random.below(2) == 0 ? "hlrc" : "sc-directory", placement, static_cast<std::uint32_t>(random.below(me.nodes())));
        if (me.node() == owner) {
          const Place fresh = allocate(cluster, me, pages * kPageSize, options);
          exchange->write(0, &fresh, sizeof fresh);
        }
        me.barrier();
        Place at = 0;
        exchange->read(0, &at, sizeof at);
        // Everybody looks at, then writes, some pages; all of them were garbage a round before.
        for (std::uint64_t i = 0; i < 6; ++i) {
          const std::uint64_t page = (me.node() * 7 + i * 13) % pages;
          CHECK(all_zero(me, at + page * kPageSize + me.node() * 1024, 1024));
        }
        me.barrier();
        for (std::uint64_t i = 0; i < 6; ++i) {
          const std::uint64_t page = (me.node() * 7 + i * 13) % pages;
          me.store<std::uint64_t>(at + page * kPageSize + me.node() * 1024 + 8 * i, ~std::uint64_t{0});
        }
        me.barrier();
        // Freed by somebody else than who allocated, sometimes with changes that were never released.
        const auto freer = static_cast<std::uint32_t>(random.below(me.nodes()));
        if (me.node() == freer) {
          me.store<std::uint64_t>(at + (pages - 1) * kPageSize, 77);
          CHECK(ok(cluster.node(me.node()).dsm->free(at)));
          CHECK(cluster.node(me.node()).dsm->free(at) == Status::invalid);
        }
        me.barrier();
      }
    });
    CHECK_MESSAGE(ending.well, ending.text);
  });
}

TEST_CASE("small objects are zeros again when they are handed out again, and are never two things at once") {
  for_each_seed(30, [](std::uint64_t seed) {
    SimCluster cluster(cluster_options(3, seed));
    auto slots = cluster.make_ledger(3 * 16 * sizeof(Place));
    const Ending ending = cluster.run([&](Worker& me) {
      SplitMix64 random(mix64(seed + me.node()));
      for (int round = 0; round < 5; ++round) {
        // Allocate 16 objects of random sizes; write into them; a neighbour checks what is there, overwrites it and frees half of them.
        for (std::size_t i = 0; i < 16; ++i) {
          const std::uint64_t bytes = 8 + 8 * random.below(40);
          const Place at = allocate(cluster, me, bytes, with(random.below(2) == 0 ? "hlrc" : "sc-directory", dsm::Placement::first_touch));
          CHECK(all_zero(me, at, bytes));
          me.store<std::uint64_t>(at, at ^ seed);
          slots->write((me.node() * 16 + i) * sizeof at, &at, sizeof at);
        }
        me.barrier();
        const std::uint32_t neighbour = (me.node() + 1) % me.nodes();
        for (std::size_t i = 0; i < 16; ++i) {
          Place at = 0;
          slots->read((neighbour * 16 + i) * sizeof at, &at, sizeof at);
          CHECK(me.load<std::uint64_t>(at) == (at ^ seed));
          me.store<std::uint64_t>(at, 99);
        }
        me.barrier();
        for (std::size_t i = 0; i < 16; ++i) {
          Place at = 0;
          const std::uint32_t whose = i % 2 == 0 ? me.node() : neighbour;
          if (i % 2 != 0 && me.nodes() == 1) continue;
          slots->read((whose * 16 + i) * sizeof at, &at, sizeof at);
          CHECK(ok(cluster.node(me.node()).dsm->free(at)));
        }
        me.barrier();
      }
    });
    CHECK_MESSAGE(ending.well, ending.text);
  });
}

TEST_CASE("an allocation that finds no room waits for freed memory to be retired") {
  for_each_seed(20, [](std::uint64_t seed) {
    SimCluster cluster(cluster_options(2, seed));
    const Ending ending = cluster.run([&](Worker& me) {
      if (me.node() != 1) return;
      dsm::Dsm& dsm = *cluster.node(1).dsm;
      const std::uint64_t all = dsm.usage().available;
      for (int round = 0; round < 5; ++round) {
        const Place at = allocate(cluster, me, all, with("hlrc", dsm::Placement::cyclic));
        me.store<std::uint32_t>(at + all - 4, 5);
        CHECK(ok(dsm.free(at)));
      }
      std::string why;
      CHECK(dsm.allocate(all + 1, {}, &why).status() == Status::exhausted);
      CHECK_MESSAGE(why.find("NETVM_ADDRESS_SPACE") != std::string::npos, why);
    });
    CHECK_MESSAGE(ending.well, ending.text);
  });
}

TEST_CASE("wrong requests are refused with a reason") {
  SimCluster cluster(cluster_options(2, 1));
  const Ending ending = cluster.run([&](Worker& me) {
    if (me.node() != 1) return;
    dsm::Dsm& dsm = *cluster.node(1).dsm;
    std::string why;
    CHECK(dsm.allocate(0, {}, &why).status() == Status::invalid);
    CHECK(dsm.allocate(8, with("hlcr", dsm::Placement::cyclic), &why).status() == Status::invalid);
    CHECK_MESSAGE(why.find("sc-directory") != std::string::npos, why);
    CHECK(dsm.allocate(8, with("", dsm::Placement::at_node, 2), &why).status() == Status::invalid);
    CHECK_MESSAGE(why.find("node 2") != std::string::npos, why);
    const Place at = allocate(cluster, me, 100, {});
    CHECK(dsm.free(at + 8) == Status::invalid);
    CHECK(dsm.free(at + 100 * kPageSize) == Status::invalid);
    CHECK(dsm.free(0) == Status::invalid);
    CHECK(ok(dsm.free(at)));
    CHECK(dsm.free(at) == Status::invalid);
    // Reserved but never allocated: a wild access.
    std::uint64_t word = 0;
    CHECK_FALSE(cluster.node(1).vm->checked_load(at + 200 * kPageSize, &word, sizeof word));
    CHECK_FALSE(dsm.touch(at + 200 * kPageSize, 1, false));
  });
  CHECK_MESSAGE(ending.well, ending.text);
}

TEST_CASE("homes follow from the placement; first touch is the first who touches, for everybody") {
  for_each_seed(20, [](std::uint64_t seed) {
    SimCluster cluster(cluster_options(4, seed));
    const Place block = cluster.allocate(8 * kPageSize, with("hlrc", dsm::Placement::block));
    const Place cyclic = cluster.allocate(8 * kPageSize, with("hlrc", dsm::Placement::cyclic));
    const Place fixed = cluster.allocate(2 * kPageSize, with("hlrc", dsm::Placement::at_node, 3));
    const Place touched = cluster.allocate(16 * kPageSize, with("hlrc", dsm::Placement::first_touch));
    const Ending ending = cluster.run([&](Worker& me) {
      dsm::Dsm& dsm = *cluster.node(me.node()).dsm;
      for (std::uint64_t i = 0; i < 8; ++i) {
        CHECK(*dsm.home_of(block + i * kPageSize) == NodeId{static_cast<std::uint32_t>(i / 2)});
        CHECK(*dsm.home_of(cyclic + i * kPageSize) == NodeId{static_cast<std::uint32_t>(i % 4)});
      }
      CHECK(*dsm.home_of(fixed + kPageSize) == NodeId{3});
      for (std::uint64_t i = 0; i < 16; ++i) me.store(touched + i * kPageSize + me.node(), std::uint8_t{1});
      me.barrier();
      for (std::uint64_t i = 0; i < 16; ++i) {
        const NodeId home = *dsm.home_of(touched + i * kPageSize);
        for (std::uint32_t other = 0; other < me.nodes(); ++other) {
          CHECK(*cluster.node(other).dsm->home_of(touched + i * kPageSize) == home);
          CHECK(me.load<std::uint8_t>(touched + i * kPageSize + other) == 1);
        }
      }
    });
    CHECK_MESSAGE(ending.well, ending.text);
  });
}

TEST_CASE("who waits for node 0's table of what is allocated is among those who wait, until the answer comes") {
  constexpr Nanos kMilli = 1'000'000;
  SimClusterOptions options = cluster_options(2, 1);
  options.threads = 2;
  options.network.lossy = true;
  options.network.partitions.push_back({NodeId{0}, NodeId{1}, 5 * kMilli, 100 * kMilli});
  SimCluster cluster(options);
  const Ending ending = cluster.run([&](Worker& me) {
    if (me.node() == 0) return;
    me.pause(10 * kMilli);
    sync::Waits& waits = cluster.node(1).sync->waits();
    if (me.local() == 0) {
      allocate(cluster, me, 64 * 1024, {});
      CHECK(waits.all().empty());
      return;
    }
    me.pause(20 * kMilli);
    const std::vector<sync::Wait> all = waits.all();
    REQUIRE(all.size() == 1);
    CHECK(std::string(all[0].what) == "allocation");
    CHECK(all[0].object == sync::answer_object(NodeId{0}));
    CHECK(all[0].since < 15 * kMilli);
  });
  CHECK_MESSAGE(ending.well, ending.text);
}

TEST_CASE("who waits for a page is among those who wait, until it has it") {
  constexpr Nanos kMilli = 1'000'000;
  SimClusterOptions options = cluster_options(2, 2);
  options.threads = 2;
  options.network.lossy = true;
  options.network.partitions.push_back({NodeId{0}, NodeId{1}, 50 * kMilli, 150 * kMilli});
  for_each_protocol([&](std::string_view protocol) {
    SimCluster cluster(options);
    const Place memory = cluster.allocate(32 * kPageSize, with(protocol, dsm::Placement::at_node));
    const Ending ending = cluster.run([&](Worker& me) {
      const Place page = memory + 20 * kPageSize;
      if (me.node() == 0) me.store<std::uint64_t>(page + me.local() * 8, 1);
      me.barrier();
      if (me.node() == 0) return;
      if (me.local() == 0) (void)me.load<std::uint64_t>(memory);  // now it knows the allocation
      me.pause(60 * kMilli);
      sync::Waits& waits = cluster.node(1).sync->waits();
      if (me.local() == 0) {
        (void)me.load<std::uint64_t>(page);
        CHECK(waits.all().empty());
        return;
      }
      me.pause(20 * kMilli);
      const std::vector<sync::Wait> all = waits.all();
      REQUIRE(all.size() == 1);
      CHECK(std::string(all[0].what) == "page");
      CHECK(all[0].object == sync::page_object(PageId{page / kPageSize}));
    });
    CHECK_MESSAGE(ending.well, ending.text);
  });
}

}  // namespace
}  // namespace netvm::test
