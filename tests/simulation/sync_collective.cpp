// Collectives between simulated nodes over a network that reorders: nobody leaves before all have come, values, payloads, misuse.
#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "runtime/random.hpp"
#include "tests/support/seeds.hpp"
#include "tests/support/sync_world.hpp"

namespace netvm::test {
namespace {

constexpr Nanos kMicro = 1'000;

void require_done(const Simulator::Report& report) { REQUIRE_MESSAGE(report.end == Simulator::End::all_done, report.text); }

SyncWorldOptions random_options(SplitMix64& random) {
  SyncWorldOptions options;
  options.nodes = 1 + static_cast<std::uint32_t>(random.below(9));
  options.threads = 1 + static_cast<std::uint32_t>(random.below(3));
  options.mode = random.below(2) == 0 ? ShmMode::packet : ShmMode::direct;
  options.arity = 1 + static_cast<std::uint32_t>(random.below(4));
  return options;
}

template <class T>
std::span<std::byte> bytes_of(T& value) {
  return std::as_writable_bytes(std::span(&value, 1));
}

// 2x2 matrices modulo a prime: associative, and the order matters.
struct Matrix {
  std::uint64_t m[4] = {1, 0, 0, 1};
  friend bool operator==(const Matrix&, const Matrix&) = default;
};
Matrix operator*(const Matrix& a, const Matrix& b) {
  constexpr std::uint64_t kPrime = 1'000'003;
  return {{(a.m[0] * b.m[0] + a.m[1] * b.m[2]) % kPrime, (a.m[0] * b.m[1] + a.m[1] * b.m[3]) % kPrime,
           (a.m[2] * b.m[0] + a.m[3] * b.m[2]) % kPrime, (a.m[2] * b.m[1] + a.m[3] * b.m[3]) % kPrime}};
}
Matrix matrix_of(std::uint64_t seed) {
  return {{mix64(seed) % 1000, mix64(seed + 1) % 1000, mix64(seed + 2) % 1000, mix64(seed + 3) % 1000}};
}

template <class T, class Op>
sync::Sync::Combine combine(Op op) {
  return [op](std::span<std::byte> sum, std::span<const std::byte> other) {
    T a;
    T b;
    std::memcpy(&a, sum.data(), sizeof a);
    std::memcpy(&b, other.data(), sizeof b);
    a = op(a, b);
    std::memcpy(sum.data(), &a, sizeof a);
    return std::string();
  };
}

TEST_CASE("barrier: nobody leaves before everybody has come, and then everybody knows everything") {
  for_each_seed(60, [](std::uint64_t seed) {
    SplitMix64 random(seed);
    const SyncWorldOptions options = random_options(random);
    SimSyncWorld world(seed, options);
    const std::uint32_t everybody = options.nodes * options.threads;
    constexpr int kRounds = 8;
    std::vector<std::uint32_t> arrived(kRounds, 0);
    std::vector<Clock> known(kRounds, Clock(options.nodes, 0));
    world.start_all([&](std::uint32_t node, std::uint32_t local) {
      SplitMix64 mine(mix64(seed) + node * 100 + local);
      for (int round = 0; round < kRounds; ++round) {
        if (mine.below(3) == 0) world.pause(node, static_cast<Nanos>(mine.below(30) * kMicro));
        const Clock clock = world.node(node).hook->write();
        for (std::size_t i = 0; i < clock.size(); ++i) known[round][i] = std::max(known[round][i], clock[i]);
        ++arrived[round];
        REQUIRE(world.node(node).sync->barrier() == Status::ok);
        CHECK(arrived[round] == everybody);
        CHECK(world.node(node).hook->covers(known[round]));
      }
    });
    require_done(world.run());
    CHECK(world.total(Stat::barriers) == std::uint64_t{options.nodes} * kRounds);
    CHECK_FALSE(world.hooks_broken());
    if (options.nodes > 1) CHECK(world.total(Stat::messages_sent) == 2 * std::uint64_t{options.nodes - 1} * kRounds);
  });
}

TEST_CASE("collectives of which some carry nothing: marks and messages in any mixture keep their order") {
  for_each_seed(60, [](std::uint64_t seed) {
    SplitMix64 random(seed);
    SyncWorldOptions options = random_options(random);
    options.mode = seed % 4 == 0 ? ShmMode::packet : ShmMode::direct;
    if (seed % 2 == 0) options.nodes = 2 + seed / 2 % 2;
    SimSyncWorld world(seed, options);
    for (std::uint32_t n = 0; n < options.nodes; ++n) {
      if (random.below(8) != 0) world.node(n).hook->fall_silent();
      world.node(n).hook->split_barriers(random.below(4) != 0);
    }
    const std::uint32_t everybody = options.nodes * options.threads;
    constexpr int kRounds = 24;
    std::vector<std::uint32_t> arrived(kRounds, 0);
    const auto add = combine<std::uint64_t>([](std::uint64_t a, std::uint64_t b) { return a + b; });
    world.start_all([&](std::uint32_t node, std::uint32_t local) {
      SplitMix64 mine(mix64(seed) + node * 100 + local);
      sync::Sync& sync = *world.node(node).sync;
      for (int round = 0; round < kRounds; ++round) {
        if (mine.below(4) == 0) world.pause(node, static_cast<Nanos>(mine.below(30) * kMicro));
        ++arrived[round];
        std::uint64_t value = 1;
        switch (mix64(seed * 1000 + static_cast<std::uint64_t>(round)) % 5) {
          case 0:
            REQUIRE(sync.all_reduce(bytes_of(value), add) == Status::ok);
            CHECK(value == everybody);
            break;
          case 1: {
            const Result<sync::SplitBarrier> token = sync.arrive();
            REQUIRE(token.has_value());
            if (mine.below(2) == 0) world.pause(node, static_cast<Nanos>(mine.below(30) * kMicro));
            REQUIRE(sync.wait(*token) == Status::ok);
            break;
          }
          default:
            REQUIRE(sync.barrier() == Status::ok);
        }
        CHECK(arrived[round] == everybody);
      }
    });
    require_done(world.run());
    CHECK_FALSE(world.hooks_broken());
    if (options.nodes == 2 && options.mode == ShmMode::direct) CHECK(world.total(Stat::messages_sent) <= 2 * std::uint64_t{kRounds});
  });
}

TEST_CASE("all_reduce: everybody gets the values combined in the order of nodes") {
  for_each_seed(40, [](std::uint64_t seed) {
    SplitMix64 random(seed);
    SyncWorldOptions options = random_options(random);
    options.threads = 1;
    SimSyncWorld world(seed, options);
    constexpr int kRounds = 4;
    world.start_all([&](std::uint32_t node, std::uint32_t) {
      for (std::uint64_t round = 0; round < kRounds; ++round) {
        Matrix expected;
        for (std::uint64_t n = 0; n < options.nodes; ++n) expected = expected * matrix_of(seed + round * 1000 + n * 10);
        Matrix value = matrix_of(seed + round * 1000 + node * 10);
        REQUIRE(world.node(node).sync->all_reduce(bytes_of(value),
                                                  combine<Matrix>([](const Matrix& a, const Matrix& b) { return a * b; })) == Status::ok);
        CHECK(value == expected);
      }
    });
    require_done(world.run());
  });
}

TEST_CASE("all_reduce: every thread of every node counts once, and it is a barrier") {
  for_each_seed(30, [](std::uint64_t seed) {
    SplitMix64 random(seed);
    const SyncWorldOptions options = random_options(random);
    SimSyncWorld world(seed, options);
    const std::uint64_t everybody = std::uint64_t{options.nodes} * options.threads;
    std::uint32_t arrived = 0;
    world.start_all([&](std::uint32_t node, std::uint32_t local) {
      const auto add = combine<std::uint64_t>([](std::uint64_t a, std::uint64_t b) { return a + b; });
      for (std::uint64_t round = 1; round <= 5; ++round) {
        std::uint64_t value = (node * options.threads + local + 1) * round;
        ++arrived;
        REQUIRE(world.node(node).sync->all_reduce(bytes_of(value), add) == Status::ok);
        CHECK(value == everybody * (everybody + 1) / 2 * round);
        CHECK(arrived >= everybody * round);
      }
    });
    require_done(world.run());
  });
}

TEST_CASE("broadcast: everybody gets the root's bytes, whichever node is the root") {
  for_each_seed(30, [](std::uint64_t seed) {
    SplitMix64 random(seed);
    const SyncWorldOptions options = random_options(random);
    SimSyncWorld world(seed, options);
    world.start_all([&](std::uint32_t node, std::uint32_t) {
      for (std::uint32_t root = 0; root < options.nodes; ++root) {
        std::uint64_t value = node == root ? mix64(seed + root) : 0;
        REQUIRE(world.node(node).sync->broadcast(NodeId{root}, bytes_of(value)) == Status::ok);
        CHECK(value == mix64(seed + root));
        REQUIRE(world.node(node).sync->barrier() == Status::ok);
      }
      std::uint64_t nothing = 0;
      CHECK(world.node(node).sync->broadcast(NodeId{options.nodes}, bytes_of(nothing)) == Status::invalid);
    });
    require_done(world.run());
  });
}

TEST_CASE("collectives carry megabytes") {
  SyncWorldOptions options;
  options.nodes = 3;
  options.arity = 2;
  SimSyncWorld world(1, options);
  constexpr std::size_t kBytes = 3'000'001;
  world.start_all([&](std::uint32_t node, std::uint32_t) {
    std::vector<std::byte> bytes(kBytes);
    if (node == 2) {
      for (std::size_t i = 0; i < kBytes; ++i) bytes[i] = static_cast<std::byte>(i * 31);
    }
    REQUIRE(world.node(node).sync->broadcast(NodeId{2}, bytes) == Status::ok);
    std::size_t wrong = 0;
    for (std::size_t i = 0; i < kBytes; ++i) wrong += bytes[i] == static_cast<std::byte>(i * 31) ? 0 : 1;
    CHECK(wrong == 0);
  });
  require_done(world.run());
}

TEST_CASE("the number of threads that take part can change between collectives") {
  SyncWorldOptions options;
  options.nodes = 2;
  options.threads = 3;
  SimSyncWorld world(1, options);
  world.start_all([&](std::uint32_t node, std::uint32_t local) {
    sync::Sync& sync = *world.node(node).sync;
    REQUIRE(sync.barrier() == Status::ok);
    if (local != 0) return;
    sync.set_local_threads(1);
    REQUIRE(sync.barrier() == Status::ok);
    std::uint32_t value = 1;
    REQUIRE(sync.all_reduce(bytes_of(value), combine<std::uint32_t>([](std::uint32_t a, std::uint32_t b) { return a + b; })) == Status::ok);
    CHECK(value == 2);
  });
  require_done(world.run());
}

TEST_CASE("split barrier: nobody waits for who has arrived, and who has waited knows what all wrote before they arrived") {
  for_each_seed(60, [](std::uint64_t seed) {
    SplitMix64 random(seed);
    const SyncWorldOptions options = random_options(random);
    const bool splits = seed % 4 != 0;
    SimSyncWorld world(seed, options);
    for (std::uint32_t n = 0; n < options.nodes; ++n) world.node(n).hook->split_barriers(splits);
    const std::uint32_t everybody = options.nodes * options.threads;
    constexpr int kRounds = 8;
    std::vector<std::uint32_t> arrived(kRounds, 0);
    std::vector<Clock> known(kRounds, Clock(options.nodes, 0));
    world.start_all([&](std::uint32_t node, std::uint32_t local) {
      SplitMix64 mine(mix64(seed) + node * 100 + local);
      sync::Sync& sync = *world.node(node).sync;
      const auto pause = [&] { world.pause(node, static_cast<Nanos>(mine.below(30) * kMicro)); };
      for (int round = 0; round < kRounds; ++round) {
        if (mine.below(3) == 0) pause();
        const Clock clock = world.node(node).hook->write();
        for (std::size_t i = 0; i < clock.size(); ++i) known[round][i] = std::max(known[round][i], clock[i]);
        ++arrived[round];
        if (mine.below(3) == 0) {
          REQUIRE(sync.barrier() == Status::ok);
        } else {
          const Result<sync::SplitBarrier> token = sync.arrive();
          REQUIRE(token.has_value());
          if (mine.below(2) == 0) pause();
          REQUIRE(sync.lock(0x100, local + 1) == Status::ok);  // runs on: writes, locks, unlocks
          (void)world.node(node).hook->write();
          REQUIRE(sync.unlock(0x100, local + 1) == Status::ok);
          REQUIRE(sync.wait(*token) == Status::ok);
        }
        CHECK(arrived[round] == everybody);
        CHECK(world.node(node).hook->covers(known[round]));
      }
    });
    require_done(world.run());
    CHECK_FALSE(world.hooks_broken());
  });
}

TEST_CASE("split barrier: who waits goes on although others, everywhere in the tree, have arrived and work on") {
  SyncWorldOptions options;
  options.nodes = 13;
  options.threads = 2;
  options.arity = 2;
  SimSyncWorld world(1, options);
  std::uint32_t passed = 0;
  world.start_all([&](std::uint32_t node, std::uint32_t local) {
    sync::Sync& sync = *world.node(node).sync;
    for (std::uint32_t round = 0; round < 6; ++round) {
      const Result<sync::SplitBarrier> token = sync.arrive();
      REQUIRE(token.has_value());
      // One thread waits at once; the rest of its node, inner nodes and the root among them, do so when it has passed.
      if (node != round * 2 || local != round % 2) {
        while (passed <= round) world.pause(node, 50 * kMicro);
      }
      REQUIRE(sync.wait(*token) == Status::ok);
      if (node == round * 2 && local == round % 2) ++passed;
      REQUIRE(sync.barrier() == Status::ok);
    }
  });
  require_done(world.run());
  CHECK(passed == 6);
}

TEST_CASE("broadcast: of the root's threads those give that say so") {
  SyncWorldOptions options;
  options.nodes = 3;
  options.threads = 3;
  SimSyncWorld world(1, options);
  world.start_all([&](std::uint32_t node, std::uint32_t local) {
    for (std::uint32_t root = 0; root < 9; ++root) {
      std::uint64_t value = node * 3 + local;
      REQUIRE(world.node(node).sync->broadcast(NodeId{root / 3}, bytes_of(value), local == root % 3) == Status::ok);
      CHECK(value == root);
    }
  });
  require_done(world.run());
}

TEST_CASE("barrier of 2 to 1024 nodes: rounds grow with the logarithm, messages with the nodes") {
  constexpr Nanos kHop = 10 * kMicro;
  for (const std::uint32_t nodes : {2U, 16U, 128U, 1024U}) {
    SyncWorldOptions options;
    options.nodes = nodes;
    options.dawdle = false;
    nic::SimNetworkOptions network;
    network.min_delay = network.max_delay = kHop;  // so that time counts rounds
    SimSyncWorld world(1, options, network);
    std::uint32_t arrived = 0;
    Nanos end = 0;
    world.start_all([&](std::uint32_t node, std::uint32_t) {
      ++arrived;
      REQUIRE(world.node(node).sync->barrier() == Status::ok);
      CHECK(arrived == nodes);
      end = std::max(end, world.env(node).now());
    });
    require_done(world.run());
    const auto rounds = static_cast<std::uint64_t>((end + kHop / 2) / kHop);
    MESSAGE(nodes, " nodes: ", rounds, " rounds, ", world.total(Stat::messages_sent), " messages");
    CHECK(world.total(Stat::messages_sent) == 2 * (nodes - 1));
    std::uint64_t levels = 0;  // of a tree of half of the nodes, of which each has up to 8 children
    for (std::uint64_t reached = 1, width = 1; reached < nodes / 2; reached += width *= 8) ++levels;
    CHECK(rounds >= 2 * levels + 1);  // up, across, down
    CHECK(rounds <= 2 * levels + 2);  // what the nodes themselves take
  }
}

// ---- misuse --------------------------------------------------------------------------------------------------------------------------

/// What everybody is told, when each thread calls what it is given.
void everybody_is_told(const SyncWorldOptions& options, const std::function<Status(sync::Sync&, std::uint32_t, std::uint32_t)>& call,
                       const std::vector<std::string>& words) {
  SimSyncWorld world(1, options);
  std::uint32_t told = 0;
  world.start_all([&](std::uint32_t node, std::uint32_t local) {
    sync::Sync& sync = *world.node(node).sync;
    CHECK(sync.barrier() == Status::ok);
    Status status = call(sync, node, local);
    if (status == Status::ok) status = sync.barrier();  // it was over before the mistake was found
    CHECK(status == Status::invalid);
    CHECK(sync.barrier() == Status::invalid);  // and from then on
    for (const std::string& part : words) CHECK_MESSAGE(sync.mistake().find(part) != std::string::npos, sync.mistake());
    ++told;
  });
  require_done(world.run());
  CHECK(told == options.nodes * options.threads);
}

TEST_CASE("collectives: nodes that call different things are all told what each called") {
  SyncWorldOptions options;
  options.nodes = 9;
  options.threads = 2;
  options.arity = 2;
  const auto mixed = [](sync::Sync& sync, std::uint32_t node, std::uint32_t) {
    std::uint64_t value = 0;
    const sync::Sync::Combine none = [](std::span<std::byte>, std::span<const std::byte>) { return std::string(); };
    return node == 2 ? sync.all_reduce(bytes_of(value), none) : sync.barrier();
  };
  everybody_is_told(options, mixed, {"calls all_reduce of 8 bytes", "calls barrier", "must call the same collectives in the same order"});
  const auto sizes = [](sync::Sync& sync, std::uint32_t node, std::uint32_t) {
    std::vector<std::byte> value(node == 5 ? 16 : 8);
    return sync.broadcast(NodeId{1}, value);
  };
  everybody_is_told(options, sizes, {"broadcast of 16 bytes from node 1", "broadcast of 8 bytes from node 1"});
}

TEST_CASE("collectives: where the operation of a reduction fails, everybody is told where and why") {
  SyncWorldOptions options;
  options.nodes = 9;
  options.threads = 2;
  options.arity = 2;
  const auto reduce = [](const sync::Sync::Combine& op) {
    return [op](sync::Sync& sync, std::uint32_t, std::uint32_t local) {
      std::uint64_t value = local;
      return sync.all_reduce(bytes_of(value), op);
    };
  };
  const sync::Sync::Combine always = [](std::span<std::byte>, std::span<const std::byte>) { return std::string("threw \"no such sum\""); };
  everybody_is_told(options, reduce(always), {"node ", ": the operation of the all_reduce of 8 bytes threw \"no such sum\""});
  int left = 15;
  const sync::Sync::Combine late = [&left](std::span<std::byte>, std::span<const std::byte>) {
    return std::string(--left < 0 ? "failed late" : "");
  };
  everybody_is_told(options, reduce(late), {"failed late"});
}

TEST_CASE("collectives: threads of one node that call different things, too many of them, and a broadcast that nobody gives") {
  SyncWorldOptions options;
  options.nodes = 3;
  options.threads = 2;
  const auto mixed = [](sync::Sync& sync, std::uint32_t node, std::uint32_t local) {
    std::vector<std::byte> value(node == 1 ? 8 + local : 8);
    return sync.broadcast(NodeId{0}, value);
  };
  everybody_is_told(options, mixed, {"node 1: as collective number 1 one thread calls broadcast of"});
  const auto nobody = [](sync::Sync& sync, std::uint32_t, std::uint32_t) {
    std::uint64_t value = 0;
    return sync.broadcast(NodeId{1}, bytes_of(value), false);
  };
  everybody_is_told(options, nobody, {"brought no value"});
  const auto twice = [](sync::Sync& sync, std::uint32_t node, std::uint32_t local) {
    if (node != 2) return sync.barrier();
    (void)sync.arrive();
    return local == 0 ? sync.barrier() : Status::ok;  // without a wait: three arrivals of two threads
  };
  everybody_is_told(options, twice, {"one thread more than the 2 that take part calls a barrier"});
}

}  // namespace
}  // namespace netvm::test
