// Topology: plans give nobody's processor away twice, keep near what belongs together, and give way where it is crowded.
#include "runtime/topology.hpp"

#include <doctest/doctest.h>
#include <sched.h>

#include <algorithm>
#include <map>
#include <set>
#include <thread>

using netvm::Binding;
using netvm::Settings;
using netvm::Topology;

namespace {

std::map<int, Topology::Processor> by_number(const Topology& topology) {
  std::map<int, Topology::Processor> result;
  for (const Topology::Processor& p : topology.processors()) result[p.number] = p;
  return result;
}

/// Everybody's processors; fails if one is given twice or does not exist.
std::set<int> all_given(const Topology& topology, std::uint32_t nodes, std::uint32_t threads) {
  std::set<int> given;
  const auto known = by_number(topology);
  for (std::uint32_t node = 0; node < nodes; ++node) {
    const Binding binding = topology.plan(nodes, node, threads, Settings{});
    REQUIRE(binding.application_cores.size() == threads);
    for (const int core : binding.application_cores) {
      CHECK(known.count(core) == 1);
      CHECK(given.insert(core).second);
    }
    CHECK(known.count(binding.engine_core) == 1);
    CHECK(given.insert(binding.engine_core).second);
  }
  return given;
}

}  // namespace

TEST_CASE("no processor is given twice, whatever the shape of the machine and the job") {
  for (const char* shape : {"pu:2", "core:8 pu:1", "numa:2 core:4 pu:2", "numa:4 core:2 pu:2", "package:2 numa:2 core:3 pu:1"}) {
    const Topology topology = Topology::synthetic(shape);
    for (std::uint32_t nodes = 1; nodes <= topology.capacity(); ++nodes) {
      for (std::uint32_t threads = 1; nodes * (threads + 1) <= topology.capacity(); ++threads) {
        if (nodes * threads == 1) continue;  // left to the system
        CAPTURE(shape);
        CHECK(all_given(topology, nodes, threads).size() == nodes * (threads + 1));
      }
    }
  }
}

TEST_CASE("application threads get cores of their own while there are cores, and engines the other hardware threads") {
  const Topology topology = Topology::synthetic("numa:2 core:4 pu:2");
  const auto known = by_number(topology);
  std::set<int> cores;
  for (std::uint32_t node = 0; node < 4; ++node) {
    const Binding binding = topology.plan(4, node, 2, Settings{});
    for (const int number : binding.application_cores) CHECK(cores.insert(known.at(number).core).second);
    CHECK(known.at(binding.engine_core).core == known.at(binding.application_cores[0]).core);
    CHECK(known.at(binding.application_cores[0]).numa == known.at(binding.application_cores[1]).numa);
  }
  CHECK(cores.size() == 8);
}

TEST_CASE("with a core for everybody, engines get cores too and sit beside their threads") {
  const Topology topology = Topology::synthetic("numa:2 core:4 pu:2");
  const auto known = by_number(topology);
  std::set<int> cores;
  for (std::uint32_t node = 0; node < 2; ++node) {
    const Binding binding = topology.plan(2, node, 3, Settings{});
    for (const int number : binding.application_cores) cores.insert(known.at(number).core);
    cores.insert(known.at(binding.engine_core).core);
    CHECK(known.at(binding.engine_core).numa == static_cast<int>(node));
  }
  CHECK(cores.size() == 8);
}

TEST_CASE("engines spin and threads are bound where there is room for all; a lone thread is left to the system") {
  const Topology topology = Topology::synthetic("core:4 pu:1");
  const Binding roomy = topology.plan(2, 1, 1, Settings{});
  CHECK(roomy.spin_ns > 0);
  CHECK(roomy.engine_spin_ns > 0);
  CHECK(roomy.application_cores.size() == 1);
  CHECK(roomy.engine_core >= 0);
  const Binding lone = topology.plan(1, 0, 1, Settings{});
  CHECK(lone.spin_ns > 0);
  CHECK(lone.application_cores.empty());
}

TEST_CASE("where threads fit but engines do not, threads spin, engines sleep, and nobody is bound") {
  const Topology topology = Topology::synthetic("core:2 pu:1");
  const Binding tight = topology.plan(2, 1, 1, Settings{});
  CHECK_FALSE(tight.crowded);
  CHECK(tight.spin_ns > 0);
  CHECK(tight.engine_spin_ns == 0);
  CHECK(tight.application_cores.empty());
  CHECK(tight.engine_core == -1);
}

TEST_CASE("a crowded host binds nobody and does not spin") {
  const Binding crowded = Topology::synthetic("core:2 pu:1").plan(4, 1, 1, Settings{});
  CHECK(crowded.crowded);
  CHECK(crowded.spin_ns == 0);
  CHECK(crowded.engine_spin_ns == 0);
  CHECK(crowded.application_cores.empty());
  CHECK(crowded.engine_core == -1);
}

TEST_CASE("NETVM_SPIN wins over what the topology suggests, and NETVM_BIND=off binds nobody") {
  const Topology topology = Topology::synthetic("core:2 pu:1");
  Settings settings;
  settings.spin_us = 7;
  CHECK(topology.plan(4, 0, 4, settings).spin_ns == 7000);
  CHECK(topology.plan(4, 0, 4, settings).engine_spin_ns == 7000);
  CHECK(topology.plan(1, 0, 1, settings).spin_ns == 7000);
  settings.bind = false;
  const Topology large = Topology::synthetic("core:8 pu:1");
  CHECK(large.plan(2, 0, 2, settings).application_cores.empty());
  CHECK(large.plan(2, 0, 2, settings).engine_core == -1);
}

TEST_CASE("a quota counts as fewer processors and leaves threads unbound") {
  Topology topology = Topology::synthetic("core:8 pu:1");
  topology.set_capacity(2);
  CHECK(topology.plan(3, 0, 1, Settings{}).crowded);
  const Binding fits = topology.plan(2, 0, 1, Settings{});
  CHECK_FALSE(fits.crowded);
  CHECK(fits.application_cores.empty());

  CHECK(netvm::cpus_of_quota("200000 100000\n") == 2);
  CHECK(netvm::cpus_of_quota("150000 100000\n") == 1);
  CHECK(netvm::cpus_of_quota("50000 100000\n") == 1);
  CHECK(netvm::cpus_of_quota("max 100000\n") == 0);
  CHECK(netvm::cpus_of_quota("") == 0);
}

TEST_CASE("a topology that hwloc does not understand is an error that shows it") {
  CHECK_THROWS_WITH_AS(static_cast<void>(Topology::synthetic("nonsense")), doctest::Contains("nonsense"), std::invalid_argument);
}

TEST_CASE("this host's processors are those that this process may use, and threads can be bound to them") {
  const Topology& host = Topology::of_this_host();
  REQUIRE_FALSE(host.processors().empty());
  CHECK(host.capacity() >= 1);
  CHECK(host.capacity() <= host.processors().size());
  cpu_set_t allowed;
  REQUIRE(::sched_getaffinity(0, sizeof allowed, &allowed) == 0);
  for (const Topology::Processor& p : host.processors()) CHECK(CPU_ISSET(static_cast<std::size_t>(p.number), &allowed));
  std::thread([&] {
    const int number = host.processors().back().number;
    CHECK(netvm::bind_this_thread(number));
    CHECK(::sched_getcpu() == number);
  }).join();
  CHECK_FALSE(netvm::bind_this_thread(-1));
}
