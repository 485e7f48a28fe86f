// Objects of which a node dies that had used them: who waits for what may not come is told, what the dead held is given up, the others go on.
#include <doctest/doctest.h>

#include <vector>

#include "runtime/random.hpp"
#include "sync/objects.hpp"
#include "tests/support/seeds.hpp"
#include "tests/support/sync_world.hpp"

namespace netvm::test {
namespace {

using sync::ObjectKind;
using sync::Objects;

constexpr std::uint64_t kAt = 0x7000;
constexpr Nanos kMicro = 1'000;
constexpr Nanos kMilli = 1'000'000;

std::uint64_t none() { return 0; }
std::uint64_t one() { return 1; }
Objects& objects(SimSyncWorld& world, std::uint32_t node) { return world.node(node).sync->objects(); }

/// Nodes 0 and 1 live, node 2 dies at 10 ms. Before, each at its own time, they do what they are given; nobody waits for ever.
class LastOfThree {
 public:
  explicit LastOfThree(std::uint64_t seed) : world_(seed, options()) {}
  Objects& at(std::uint32_t node) { return objects(world_, node); }
  void does(std::uint32_t node, Nanos when, std::function<void()> what) {
    world_.start(node, next_++, [this, node, when, what = std::move(what)] {
      world_.pause(node, when);
      what();
    });
  }
  void run() {
    does(2, 10 * kMilli, [this] {
      world_.node(2).nic->shut_down();
      for (std::uint32_t n = 0; n < 2; ++n) world_.node(n).sync->declare_dead(NodeId{2});
    });
    const Simulator::Report report = world_.run();
    REQUIRE_MESSAGE(report.end == Simulator::End::all_done, report.text);
  }

 private:
  static SyncWorldOptions options() {
    SyncWorldOptions options;
    options.nodes = 3;
    return options;
  }
  SimSyncWorld world_;
  std::uint32_t next_ = 0;
};

TEST_CASE("who waits for something that a dead node may have meant to do is told, whatever kind of object it is") {
  for_each_seed(6, [](std::uint64_t seed) {
    LastOfThree job(seed);
    // Node 2 uses each object, then node 0 or 1 has its token and waits; later both would have to.
    job.does(2, kMilli, [&] {
      CHECK(job.at(2).acquire(kAt, 1, none, 0) == Status::timeout);
      CHECK(job.at(2).wake(kAt + 8, 1, 1).value() == 0);
      CHECK(job.at(2).arrive(kAt + 16, 1, [] { return std::uint64_t{3}; }, {}).has_value());
      CHECK(job.at(2).await_latch(kAt + 24, 1, one, 0) == Status::timeout);
      CHECK(job.at(2).await_flag(kAt + 32, 1, 0) == Status::timeout);
    });
    for (std::uint32_t node = 0; node < 2; ++node) {
      job.does(node, (2 + node) * kMilli, [&, node] { CHECK(job.at(node).acquire(kAt, 1, none) == Status::owner_dead); });
      job.does(node, (2 + node) * kMilli, [&, node] {
        const auto ticket = job.at(node).enqueue(kAt + 8, 2);
        REQUIRE(ticket.has_value());
        CHECK(job.at(node).wait(kAt + 8, 2, *ticket) == Status::owner_dead);
      });
      job.does(node, (2 + node) * kMilli, [&, node] { CHECK(job.at(node).await_latch(kAt + 24, 4, one) == Status::owner_dead); });
      job.does(node, (2 + node) * kMilli, [&, node] { CHECK(job.at(node).await_flag(kAt + 32, 5) == Status::owner_dead); });
    }
    job.does(0, 2 * kMilli, [&] { CHECK(job.at(0).arrive_and_wait(kAt + 16, 3, none, {}) == Status::owner_dead); });
    job.does(1, 30 * kMilli, [&] {
      CHECK(job.at(1).arrive_and_wait(kAt + 16, 3, none, {}) == Status::owner_dead);
      CHECK(job.at(1).acquire(kAt, 1, none) == Status::owner_dead);
      CHECK(job.at(1).enqueue(kAt + 8, 1).status() == Status::owner_dead);
      // What need not wait goes on, and a new life is a whole one.
      CHECK(job.at(1).release(kAt, 1, 1, 9, none) == Status::ok);
      CHECK(job.at(1).acquire(kAt, 1, none) == Status::ok);
      CHECK(job.at(1).init(kAt, 1, ObjectKind::semaphore, 0) == Status::ok);
      CHECK(job.at(1).acquire(kAt, 1, none) == Status::ok);
    });
    job.does(0, 40 * kMilli, [&] { CHECK(job.at(0).release(kAt, 1, 1, 9, none) == Status::ok); });
    job.run();
  });
}

TEST_CASE("a dead reader's share is given back, a dead writer breaks the lock, and a dead attempt of once is made again") {
  for_each_seed(6, [](std::uint64_t seed) {
    LastOfThree job(seed);
    std::uint64_t dead_writer = 0;
    job.does(2, kMilli, [&] {
      CHECK(job.at(2).lock_shared(kAt, 1) == Status::ok);
      CHECK(job.at(2).lock(kAt + 8, 1) == Status::ok);
      dead_writer = job.at(2).fencing_token(kAt + 8, 1).value();
      CHECK(job.at(2).begin_once(kAt + 16, 1).value());
    });
    bool wrote = false;
    std::uint32_t runs = 0;
    for (std::uint32_t node = 0; node < 2; ++node) {
      job.does(node, (2 + node) * kMilli, [&, node] {
        CHECK(job.at(node).lock(kAt, 1) == Status::ok);
        wrote = true;
        CHECK(job.at(node).unlock(kAt, 1) == Status::ok);
      });
      job.does(node, (2 + node) * kMilli, [&, node] { CHECK(job.at(node).lock_shared(kAt + 8, 2) == Status::owner_dead); });
      job.does(node, (2 + node) * kMilli, [&, node] {
        const auto must = job.at(node).begin_once(kAt + 16, 3);
        REQUIRE(must.has_value());
        if (!*must) return;
        ++runs;
        CHECK(job.at(node).end_once(kAt + 16, 3, true) == Status::ok);
      });
    }
    job.does(0, 30 * kMilli, [&] {
      CHECK(job.at(0).lock(kAt + 8, 1) == Status::owner_dead);
      CHECK(job.at(0).fencing_token(kAt + 8, 1).value() > dead_writer);
      CHECK(job.at(0).init(kAt + 8, 1, ObjectKind::rwlock, 0) == Status::ok);
      CHECK(job.at(0).lock(kAt + 8, 1) == Status::ok);
      CHECK(job.at(0).fencing_token(kAt + 8, 1).value() > dead_writer);
      CHECK(job.at(0).unlock(kAt + 8, 1) == Status::ok);
    });
    job.run();
    CHECK(wrote);
    CHECK(runs == 1);
  });
}

void a_node_dies(std::uint64_t seed) {
  SplitMix64 random(mix64(seed ^ 0xb0b));
  SyncWorldOptions options;
  options.nodes = 3 + static_cast<std::uint32_t>(random.below(3));
  options.threads = 1 + static_cast<std::uint32_t>(random.below(2));
  options.mode = random.below(2) == 0 ? ShmMode::packet : ShmMode::direct;
  SimSyncWorld world(seed, options);
  const auto victim = static_cast<std::uint32_t>(random.below(options.nodes));
  bool dead = false;
  std::uint64_t inside = 0;  // with the only permit, on a node that lives
  world.start_all([&](std::uint32_t node, std::uint32_t local) {
    SplitMix64 mine(mix64(seed) + node * 100 + local);
    const std::uint64_t who = local + 1;
    const auto gone = [&] { return dead && node == victim; };
    for (int round = 0; round < 12 && !gone(); ++round) {
      Status status = objects(world, node).acquire(kAt, who, one);
      if (gone()) return;
      if (status == Status::ok) {
        if (node != victim) CHECK(++inside == 1);
        world.pause(node, static_cast<Nanos>(mine.below(5)) * kMicro);
        if (gone()) return;
        if (node != victim) --inside;
        status = objects(world, node).release(kAt, who, 1, 1, one);
        if (gone()) return;
      }
      CHECK((status == Status::ok || status == Status::owner_dead));
      status = mine.below(2) == 0 ? objects(world, node).lock(kAt + 8, who) : objects(world, node).lock_shared(kAt + 8, who);
      if (gone()) return;
      if (status == Status::ok) {
        world.pause(node, static_cast<Nanos>(mine.below(3)) * kMicro);
        if (gone()) return;
        if (!ok(objects(world, node).unlock(kAt + 8, who))) status = objects(world, node).unlock_shared(kAt + 8, who);
        if (gone()) return;
      }
      CHECK((status == Status::ok || status == Status::owner_dead || status == Status::perm));
    }
  });
  const std::uint32_t teller = victim == 0 ? 1 : 0;
  world.start(teller, 90, [&, teller] {
    world.pause(teller, static_cast<Nanos>(random.below(200)) * kMicro);
    dead = true;
    world.node(victim).nic->shut_down();
    world.node(teller).sync->declare_dead(NodeId{victim});
  });
  const Simulator::Report report = world.run();
  REQUIRE_MESSAGE(report.end == Simulator::End::all_done, report.text);
}

TEST_CASE("a node dies at any moment among others that use objects: nobody waits for ever, and no permit is had twice") {
  for_each_seed(40, a_node_dies);
}

// 1298: a mender finds that a wake-up of the dead node will never come, and so that the object is broken, after another node's mender has looked.
TEST_CASE("a death that is found late to have broken an object is told to those who had looked before") {
  for (const std::uint64_t seed : {1298}) a_node_dies(seed);
}

}  // namespace
}  // namespace netvm::test
