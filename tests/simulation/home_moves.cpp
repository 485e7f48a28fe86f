// Homes that follow their writers (dsm/home_moves.hpp): they do, the memory stays right while they do, and a move that should not be is noticed.
#include <doctest/doctest.h>

#include <string>

#include "dsm/protocols/hlrc.hpp"
#include "runtime/random.hpp"
#include "tests/support/canaries.hpp"
#include "tests/support/seeds.hpp"
#include "tests/support/sim_cluster.hpp"

namespace netvm::test {
namespace {

constexpr std::uint64_t kPages = 12;
constexpr std::uint64_t kMostWords = 16;  // of a page that are used; one for each thread

SimClusterOptions choose_cluster(std::uint64_t seed) {
  SplitMix64 random(mix64(seed ^ 0x4003));
  SimClusterOptions options;
  options.seed = seed;
  options.nodes = static_cast<std::uint32_t>(2 + random.below(3));
  options.threads = static_cast<std::uint32_t>(1 + random.below(2));
  options.pages = 1024;
  options.mode = random.below(2) == 0 ? ShmMode::packet : ShmMode::direct;
  options.network.in_order = random.below(2) == 0;
  if (random.below(3) == 0) {
    options.budget_pages = 64;
    options.evict_every = 20'000;
  }
  return options;
}

struct Outcome {
  std::uint64_t wrong = 0;
  std::uint64_t moves = 0;
  Ending ending;
};

// Each page has a writer for some rounds, then another; now and then a second one writes, and under a lock anybody. Everything is read back
// after every other barrier, by threads that did not write it and may never have met it.
Outcome run(const SimClusterOptions& options, std::uint64_t seed) {
  SimCluster cluster(options);
  Outcome outcome;
  for (int life = 0; life < 2; ++life) {  // the second in the memory of the first
    SplitMix64 plan(mix64(seed + static_cast<std::uint64_t>(life)));
    dsm::AllocOptions where;
    where.placement = static_cast<dsm::Placement>(plan.below(4));
    where.home = NodeId{static_cast<std::uint32_t>(plan.below(options.nodes))};
    where.granularity = options.budget_pages != 0 ? 0 : kPageSize << plan.below(2);
    const Place at = cluster.allocate(kPages * kPageSize, where);
    const Place locks = cluster.allocate(kPages * 8, {});
    const auto ledger = cluster.make_ledger(kPages * kMostWords * 8);
    outcome.ending = cluster.run([&](Worker& me) {
      SplitMix64 mine(mix64(seed) + me.rank());
      for (std::uint64_t round = 0; round < 16; ++round) {
        for (std::uint64_t p = 0; p < kPages; ++p) {
          const auto writer = static_cast<std::uint32_t>(mix64(seed * 7 + p * 131 + round / 5) % me.count());
          const bool locked = mix64(seed * 11 + p * 17 + round) % 6 == 0;  // this page in this round: anybody, under its lock
          const bool second = mix64(seed * 13 + p * 19 + round) % 8 == me.rank();
          if (!locked && me.rank() != writer && !second) continue;
          if (locked && mine.below(2) == 0) continue;
          const std::uint64_t word = locked ? 0 : me.rank();
          const std::uint64_t value = mine.next();
          if (locked) me.lock(locks + p * 8);
          me.store(at + p * kPageSize + 8 * word, value);
          ledger->write((p * kMostWords + word) * 8, &value, 8);
          if (locked) me.unlock(locks + p * 8);
        }
        me.barrier();
        if (mix64(seed * 23 + round) % 2 == 0) continue;  // one epoch of writes after another
        for (std::uint64_t p = 0; p < kPages; ++p) {
          if (mine.below(3) == 0) continue;
          for (std::uint64_t word = 0; word < me.count(); ++word) {
            std::uint64_t expected = 0;
            ledger->read((p * kMostWords + word) * 8, &expected, 8);
            outcome.wrong += me.load<std::uint64_t>(at + p * kPageSize + 8 * word) != expected ? 1 : 0;
          }
        }
        me.barrier();
      }
    });
    if (!outcome.ending.well) return outcome;
    cluster.free(at);
    cluster.free(locks);
  }
  for (std::uint32_t node = 0; node < options.nodes; ++node) outcome.moves += cluster.node(node).stats.get(Stat::home_moves);
  return outcome;
}

TEST_CASE("memory stays right while homes follow their writers") {
  std::uint64_t moves = 0;
  for_each_seed(60, [&](std::uint64_t seed) {
    const Outcome outcome = run(choose_cluster(seed), seed);
    CHECK_MESSAGE(outcome.ending.well, outcome.ending.text);
    CHECK(outcome.wrong == 0);
    moves += outcome.moves;
    if (seed % 5 == 0) CHECK(run(choose_cluster(seed), seed).ending.trace_hash == outcome.ending.trace_hash);
  });
  CHECK(moves > 0);
  MESSAGE(moves, " homes moved");
}

class MovesSharedHomes final : public dsm::Hlrc {
 public:
  using Hlrc::Hlrc;
  static std::unique_ptr<dsm::Protocol> make(dsm::ProtocolEnv& env) { return std::make_unique<MovesSharedHomes>(env); }

 private:
  [[nodiscard]] bool moves_shared_units() const override { return true; }
};

TEST_CASE("a home that moves though others wrote the page is noticed") {
  std::uint64_t seed = 0;
  bool noticed = false;
  while (!noticed && ++seed <= 50) {
    SimClusterOptions options = choose_cluster(seed);
    put_in({"moves a home though others wrote the page", "hlrc", MovesSharedHomes::make}, options);
    noticed = run(options, seed).wrong != 0;
  }
  CHECK(noticed);
  MESSAGE("noticed with seed ", seed);
}

// Node 1 alone writes what lives at node 0.
std::uint64_t twins_of_the_writer(SimClusterOptions options, std::uint64_t* moves) {
  options.pages = 1024;
  SimCluster cluster(options);
  dsm::AllocOptions at_0;
  at_0.placement = dsm::Placement::at_node;
  const Place at = cluster.allocate(kPages * kPageSize, at_0);
  const Ending ending = cluster.run([&](Worker& me) {
    for (std::uint64_t round = 1; round <= 20; ++round) {
      if (me.node() == 1) {
        for (std::uint64_t p = 0; p < kPages; ++p) me.store(at + p * kPageSize, round);
      }
      me.barrier();
      if (me.node() == 0) CHECK(me.load<std::uint64_t>(at + round % kPages * kPageSize) == round);
      me.barrier();
    }
  });
  CHECK_MESSAGE(ending.well, ending.text);
  *moves = cluster.node(1).stats.get(Stat::home_moves);
  return cluster.node(1).stats.get(Stat::twins);
}

TEST_CASE("who alone writes pages of another home needs few twins, unless homes are told to stay, or threads run on during barriers") {
  std::uint64_t moves = 0;
  CHECK(twins_of_the_writer({}, &moves) <= 4 * kPages);
  CHECK(moves == kPages);
  SimClusterOptions fixed;
  fixed.home_moves = false;
  CHECK(twins_of_the_writer(fixed, &moves) == 20 * kPages);
  CHECK(moves == 0);
  SimClusterOptions busy;
  busy.all_threads_wait = [](NodeId node) { return node != NodeId{0}; };
  CHECK(twins_of_the_writer(busy, &moves) == 20 * kPages);
  CHECK(moves == 0);
}

}  // namespace
}  // namespace netvm::test
