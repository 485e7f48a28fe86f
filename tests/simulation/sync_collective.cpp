// Collectives between simulated nodes over a network that reorders: nobody leaves before all have come, values, payloads, misuse.
#include <doctest/doctest.h>
#include <sys/wait.h>
#include <unistd.h>

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

// Runs the body in a child process that is expected to stop itself, and returns what it wrote to standard error.
std::string dying_words(const std::function<void()>& body) {
  int ends[2];
  REQUIRE(pipe(ends) == 0);
  const pid_t child = fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    dup2(ends[1], STDERR_FILENO);
    signal(SIGABRT, SIG_DFL);  // not doctest's report: only the product's own message
    body();
    _exit(0);
  }
  close(ends[1]);
  std::string words;
  char buffer[4096];
  for (ssize_t got = 0; (got = read(ends[0], buffer, sizeof buffer)) > 0;) words.append(buffer, static_cast<std::size_t>(got));
  close(ends[0]);
  int ended = 0;
  REQUIRE(waitpid(child, &ended, 0) == child);
  CHECK(WIFSIGNALED(ended));
  return words;
}

TEST_CASE("collectives: nodes that call different things are named, with what each called") {
  const std::string words = dying_words([] {
    SyncWorldOptions options;
    options.nodes = 3;
    SimSyncWorld world(1, options);
    world.start_all([&](std::uint32_t node, std::uint32_t) {
      std::uint64_t value = 0;
      if (node == 2) {
        (void)world.node(node).sync->all_reduce(bytes_of(value), [](std::span<std::byte>, std::span<const std::byte>) {});
      } else {
        (void)world.node(node).sync->barrier();
      }
    });
    (void)world.run();
  });
  CHECK(words.find("node 2 calls all_reduce of 8 bytes") != std::string::npos);
  CHECK(words.find("node 0 calls barrier") != std::string::npos);
}

TEST_CASE("collectives: threads of one node that call different things are noticed") {
  const std::string words = dying_words([] {
    SyncWorldOptions options;
    options.nodes = 1;
    options.threads = 2;
    SimSyncWorld world(1, options);
    world.start_all([&](std::uint32_t node, std::uint32_t local) {
      std::vector<std::byte> value(8 + local);
      (void)world.node(node).sync->broadcast(NodeId{0}, value);
    });
    (void)world.run();
  });
  CHECK(words.find("one thread calls broadcast of") != std::string::npos);
}

}  // namespace
}  // namespace netvm::test
