// What contention for objects costs and whom it serves: Jain's index from 2 to 16 nodes, one message for each that is let go, memory of thousands of objects.
#include <doctest/doctest.h>
#include <malloc.h>

#include <string>
#include <vector>

#include "runtime/sanitizers.hpp"
#include "sync/objects.hpp"
#include "tests/support/fairness.hpp"
#include "tests/support/sync_world.hpp"

namespace netvm::test {
namespace {

using sync::Objects;

constexpr Nanos kMicro = 1'000;
constexpr Nanos kMilli = 1'000'000;
constexpr std::uint64_t kAt = 0x7000;

std::uint64_t one() { return 1; }
Objects& objects(SimSyncWorld& world, std::uint32_t node) { return world.node(node).sync->objects(); }

/// Every thread of every node calls turn(world, node, who) again and again for a while, and is served so often in each.
void check_fair(const std::string& what, std::uint64_t times,
                const std::function<void(SimSyncWorld&, std::uint32_t, std::uint64_t)>& turn) {
  for (const std::uint32_t nodes : {2U, 3U, 4U, 8U, 16U}) {
    for (const std::uint32_t threads : {1U, 3U}) {
      SyncWorldOptions options;
      options.nodes = nodes;
      options.threads = threads;
      options.cohort = 4;
      SimSyncWorld world(nodes * 10 + threads, options);
      std::vector<std::uint64_t> served(nodes, 0);
      world.start_all([&](std::uint32_t node, std::uint32_t local) {
        while (world.env(node).now() < 20 * kMilli) {
          turn(world, node, local + 1);
          served[node] += times;
        }
      });
      const Simulator::Report report = world.run();
      REQUIRE_MESSAGE(report.end == Simulator::End::all_done, report.text);
      const double jain = fairness(served);
      CHECK_MESSAGE(jain >= 0.95, what << ", " << nodes << " nodes of " << threads << " threads: " << jain);
      // The token's hand-overs cost a request and a grant each; beside them, who is let go is told so once, by one message at most.
      std::uint64_t hand_overs = 0;
      std::uint64_t entries = 0;
      for (std::uint32_t n = 0; n < nodes; ++n) {
        hand_overs = std::max(hand_overs, world.node(n).sync->epoch_of(sync::SyncId::of_object(kAt).offset));
        entries += served[n];
      }
      const std::uint64_t messages = world.total(Stat::messages_sent);
      CHECK(messages >= 2 * hand_overs);
      CHECK_MESSAGE(messages - 2 * hand_overs <= entries,
                    what << ": " << messages << " messages, " << hand_overs << " hand-overs of the token, " << entries << " entries");
    }
  }
}

TEST_CASE("semaphore: nodes that contend get it equally often, and who is let go is told by one message at most") {
  check_fair("semaphore", 1, [](SimSyncWorld& world, std::uint32_t node, std::uint64_t who) {
    REQUIRE(objects(world, node).acquire(kAt, who, one) == Status::ok);
    world.pause(node, 10 * kMicro);
    REQUIRE(objects(world, node).release(kAt, who, 1, 1, one) == Status::ok);
  });
}

TEST_CASE("reader-writer lock: nodes whose threads write, or read and write, get it equally often") {
  check_fair("writers", 1, [](SimSyncWorld& world, std::uint32_t node, std::uint64_t who) {
    REQUIRE(objects(world, node).lock(kAt, who) == Status::ok);
    world.pause(node, 10 * kMicro);
    REQUIRE(objects(world, node).unlock(kAt, who) == Status::ok);
  });
  check_fair("readers and writers", 2, [](SimSyncWorld& world, std::uint32_t node, std::uint64_t who) {
    REQUIRE(objects(world, node).lock(kAt, who) == Status::ok);
    world.pause(node, 10 * kMicro);
    REQUIRE(objects(world, node).unlock(kAt, who) == Status::ok);
    REQUIRE(objects(world, node).lock_shared(kAt, who) == Status::ok);
    world.pause(node, 10 * kMicro);
    REQUIRE(objects(world, node).unlock_shared(kAt, who) == Status::ok);
  });
}

TEST_CASE("wait queue: nodes that come again as soon as they are woken are woken equally often") {
  check_fair("wait queue", 1, [](SimSyncWorld& world, std::uint32_t node, std::uint64_t who) {
    const auto ticket = objects(world, node).enqueue(kAt, who);
    REQUIRE(ticket.has_value());
    // All of them wake, too: the first in the queue, which is another as a rule.
    world.pause(node, 10 * kMicro);
    REQUIRE(objects(world, node).wake(kAt, who, 1).has_value());
    const Status status = objects(world, node).wait(kAt, who, *ticket, world.env(node).now() + kMilli);
    REQUIRE((status == Status::ok || status == Status::timeout));
  });
}

TEST_CASE("fencing token of a reader-writer lock: rises from writer to writer, whichever node and however it was let in") {
  SyncWorldOptions options;
  options.nodes = 4;
  options.threads = 2;
  SimSyncWorld world(1, options);
  std::uint64_t last = 0;
  world.start_all([&](std::uint32_t node, std::uint32_t local) {
    for (int round = 0; round < 10; ++round) {
      REQUIRE(objects(world, node).lock(kAt, local + 1) == Status::ok);
      const std::uint64_t token = objects(world, node).fencing_token(kAt, local + 1).value();
      CHECK(token == last + 1);
      last = token;
      world.pause(node, (node + local) % 3 * kMicro);
      REQUIRE(objects(world, node).unlock(kAt, local + 1) == Status::ok);
      if (round % 3 == 0) world.pause(node, 50 * kMicro);
    }
    CHECK(objects(world, node).fencing_token(kAt, local + 1).value() >= 10);
  });
  REQUIRE(world.run().end == Simulator::End::all_done);
  CHECK(last == 80);
}

#if !NETVM_ASAN && !NETVM_TSAN
std::uint64_t nothing() { return 0; }

std::uint64_t heap_bytes() {
  const auto info = mallinfo2();
  return info.uordblks + info.hblkhd;
}

TEST_CASE("thousands of objects: what each costs a node that uses it, and one that used it before") {
  constexpr std::uint64_t kCount = 8000;
  SyncWorldOptions options;
  options.nodes = 2;
  options.table_slots = 16384;
  const auto measure = [&](const std::string& what, std::uint64_t most,
                           const std::function<void(SimSyncWorld&, std::uint32_t, std::uint64_t)>& use) {
    SimSyncWorld world(1, options);
    std::uint64_t alone = 0;
    std::uint64_t both = 0;
    world.start(0, 0, [&] {
      const std::uint64_t before = heap_bytes();
      for (std::uint64_t i = 0; i < kCount; ++i) use(world, 0, 0x1000 + 8 * i);
      alone = heap_bytes() - before;
      world.start(1, 0, [&, before] {
        for (std::uint64_t i = 0; i < kCount; ++i) use(world, 1, 0x1000 + 8 * i);
        both = heap_bytes() - before;
      });
    });
    REQUIRE(world.run().end == Simulator::End::all_done);
    MESSAGE(what, ": ", alone / kCount, " bytes at the only node that uses it; ", (both - alone) / kCount, " at a second one");
    CHECK(alone / kCount <= most);
    CHECK((both - alone) / kCount <= most + 128);  // and who used it before, as a death would matter
  };
  measure("mutex", 76, [](SimSyncWorld& world, std::uint32_t node, std::uint64_t at) {
    REQUIRE(world.node(node).sync->lock(at, 1) == Status::ok);
    REQUIRE(world.node(node).sync->unlock(at, 1) == Status::ok);
  });
  measure("flag", 140, [](SimSyncWorld& world, std::uint32_t node, std::uint64_t at) {
    REQUIRE(objects(world, node).set_flag(at, 1, true) == Status::ok);
  });
  measure("semaphore", 140, [](SimSyncWorld& world, std::uint32_t node, std::uint64_t at) {
    REQUIRE(objects(world, node).release(at, 1, 1, 9, nothing) == Status::ok);
  });
}
#endif

}  // namespace
}  // namespace netvm::test
