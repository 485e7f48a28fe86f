// TaskGroup: background work and its end, in both worlds.
#include "runtime/task_group.hpp"

#include <doctest/doctest.h>

#include <memory>

#include "runtime/real_env.hpp"
#include "runtime/simulator.hpp"

using netvm::NodeId;
using netvm::RealEnv;
using netvm::Simulator;
using netvm::TaskGroup;

TEST_CASE("close waits for the tasks, and the group may go at once: threads") {
  // A task that still touched the group or its counter after close() is a race that ThreadSanitizer and AddressSanitizer see.
  RealEnv env({0, true, 0});
  for (int round = 0; round < 300; ++round) {
    auto done = std::make_unique<int>(0);  // not atomic: close() orders the tasks' writes before the owner's read
    auto group = std::make_unique<TaskGroup>(env);
    CHECK(group->spawn([&done] { ++*done; }));
    if (round % 3 == 0) env.relax();
    group->close();
    group.reset();
    CHECK(*done == 1);
    done.reset();
  }
}

TEST_CASE("close waits for tasks that block, may be repeated, and nothing starts afterwards: simulator") {
  Simulator simulator({});
  int ended = 0;
  bool refused = false;
  simulator.start(NodeId{0}, "owner", [&] {
    netvm::Env& env = simulator.env(NodeId{0});
    TaskGroup group(env);
    for (int i = 0; i < 5; ++i) {
      CHECK(group.spawn([&env, &ended, i] {
        const std::atomic<std::uint32_t> never{0};
        const netvm::ParkOn word{&never, 0};
        env.park({&word, 1}, env.now() + 1000 * (i + 1));
        ++ended;
      }));
    }
    group.close();
    CHECK(ended == 5);
    refused = !group.spawn([&ended] { ++ended; });
    group.close();
  });
  CHECK(simulator.run().end == Simulator::End::all_done);
  CHECK(ended == 5);
  CHECK(refused);
}
