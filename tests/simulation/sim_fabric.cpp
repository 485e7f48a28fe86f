// The simulated network by itself: what it promises to the NIC, and that a seed decides everything.
#include "nic/sim_fabric.hpp"

#include <doctest/doctest.h>

#include <cstring>
#include <vector>

#include "tests/support/seeds.hpp"

namespace netvm::nic {
namespace {

struct Arrival {
  NodeId from;
  std::uint32_t number;
  bool operator==(const Arrival&) const = default;
};

// Keeps the numbers that the packets carry, in the order of arrival.
class Recorder final : public PacketSink {
 public:
  void on_packet(NodeId from, std::span<const std::byte> packet) noexcept override {
    std::uint32_t number = 0;
    std::memcpy(&number, packet.data(), sizeof number);
    arrivals.push_back({from, number});
  }
  std::vector<Arrival> arrivals;
};

struct Outcome {
  std::vector<std::vector<Arrival>> arrivals;  // by node
  std::uint64_t hash = 0;
  SimNetwork::Counts counts;
};

// Every node sends `packets` numbered packets to every node, itself included.
Outcome run_all_to_all(std::uint64_t seed, std::uint32_t nodes, std::uint32_t packets, const SimNetworkOptions& options) {
  SimOptions sim_options;
  sim_options.seed = seed;
  Simulator simulator(sim_options);
  SimNetwork network(simulator, nodes, options);
  std::vector<Recorder> sinks(nodes);
  for (std::uint32_t i = 0; i < nodes; ++i) network.fabric(NodeId{i}).attach(&sinks[i]);
  for (std::uint32_t i = 0; i < nodes; ++i) {
    simulator.start(NodeId{i}, "sender", [&, i] {
      for (std::uint32_t number = 0; number < packets; ++number) {
        const auto header = std::as_bytes(std::span(&number, 1));
        for (std::uint32_t to = 0; to < nodes; ++to) network.fabric(NodeId{i}).send(NodeId{to}, header, header);
        simulator.env(NodeId{i}).relax();
      }
      while (network.in_flight() != 0) simulator.env(NodeId{i}).relax();
    });
  }
  const Simulator::Report report = simulator.run();
  REQUIRE_MESSAGE(report.end == Simulator::End::all_done, report.text);
  Outcome outcome;
  for (const Recorder& sink : sinks) outcome.arrivals.push_back(sink.arrivals);
  outcome.hash = report.trace_hash;
  outcome.counts = network.counts();
  return outcome;
}

// Whether the numbers of each source rise without a gap.
bool in_order(const std::vector<Arrival>& arrivals, std::uint32_t nodes) {
  std::vector<std::uint32_t> next(nodes, 0);
  for (const Arrival& a : arrivals) {
    if (a.number != next[a.from.value]++) return false;
  }
  return true;
}

TEST_CASE("simulated network: in order, each packet arrives once and in the order of sending") {
  test::for_each_seed(20, [](std::uint64_t seed) {
    SimNetworkOptions options;
    options.in_order = true;
    const Outcome outcome = run_all_to_all(seed, 3, 50, options);
    for (const auto& arrivals : outcome.arrivals) {
      CHECK(arrivals.size() == 3 * 50);
      CHECK(in_order(arrivals, 3));
    }
    CHECK(outcome.counts.sent == 9 * 50);
    CHECK(outcome.counts.delivered == 9 * 50);
  });
}

TEST_CASE("simulated network: without order packets overtake each other, and each still arrives once") {
  std::uint32_t reordered = 0;
  test::for_each_seed(20, [&](std::uint64_t seed) {
    const Outcome outcome = run_all_to_all(seed, 3, 50, {});
    for (const auto& arrivals : outcome.arrivals) {
      CHECK(arrivals.size() == 3 * 50);
      reordered += in_order(arrivals, 3) ? 0 : 1;
    }
  });
  CHECK(reordered != 0);
}

TEST_CASE("simulated network: duplicates arrive when asked for, and are counted") {
  test::for_each_seed(5, [](std::uint64_t seed) {
    SimNetworkOptions options;
    options.duplicate_ppm = 500'000;
    const Outcome outcome = run_all_to_all(seed, 2, 100, options);
    CHECK(outcome.counts.duplicated > 100);
    CHECK(outcome.counts.delivered == outcome.counts.sent + outcome.counts.duplicated);
  });
}

TEST_CASE("simulated network: a seed decides everything, and different seeds differ") {
  test::for_each_seed(10, [](std::uint64_t seed) {
    const Outcome first = run_all_to_all(seed, 3, 20, {});
    const Outcome again = run_all_to_all(seed, 3, 20, {});
    const Outcome other = run_all_to_all(seed + 1'000'000, 3, 20, {});
    CHECK(first.hash == again.hash);
    CHECK(first.arrivals == again.arrivals);
    CHECK(first.arrivals != other.arrivals);
  });
}

TEST_CASE("loss, damage and lateness happen as often as the options say, and a seed decides to whom") {
  test::for_each_seed(5, [](std::uint64_t seed) {
    SimNetworkOptions options;
    options.loss_ppm = 100'000;
    options.corrupt_ppm = 200'000;
    const Outcome outcome = run_all_to_all(seed, 3, 500, options);
    CHECK(outcome.counts.sent == 4500);
    CHECK(outcome.counts.lost > 300);
    CHECK(outcome.counts.lost < 600);
    CHECK(outcome.counts.corrupted > 600);
    CHECK(outcome.counts.corrupted < 1050);
    CHECK(outcome.counts.delivered == outcome.counts.sent - outcome.counts.lost);
    CHECK(run_all_to_all(seed, 3, 500, options).hash == outcome.hash);
  });
}

TEST_CASE("a partition stops packets between its two nodes, in both directions, until it heals, and nobody else's") {
  SimNetworkOptions options;
  options.partitions.push_back({NodeId{0}, NodeId{2}, 0, kForever});
  Outcome outcome = run_all_to_all(1, 3, 100, options);
  CHECK(outcome.counts.lost == 200);
  for (const std::uint32_t node : {0U, 2U}) {
    for (const Arrival& arrival : outcome.arrivals[node]) CHECK(arrival.from.value != 2 - node);
  }
  CHECK(outcome.arrivals[1].size() == 300);
  options.partitions[0].until = 1;
  outcome = run_all_to_all(1, 3, 100, options);
  CHECK(outcome.counts.lost <= 2);
}

TEST_CASE("with a limited line packets leave one after the other") {
  SimNetworkOptions options;
  options.in_order = true;
  options.min_delay = options.max_delay = 1000;
  options.bits_per_second = 1'000'000'000;
  Simulator simulator(SimOptions{});
  SimNetwork network(simulator, 2, options);
  Recorder sink;
  network.fabric(NodeId{1}).attach(&sink);
  simulator.start(NodeId{0}, "sender", [&] {
    const std::vector<std::byte> packet(1250);  // 10 us of line
    const Nanos started = simulator.now();
    for (int i = 0; i < 5; ++i) network.fabric(NodeId{0}).send(NodeId{1}, packet, {});
    while (network.in_flight() != 0) simulator.env(NodeId{0}).relax();
    CHECK(simulator.now() - started >= 51'000);
    CHECK(simulator.now() - started < 52'000);
  });
  CHECK(simulator.run().end == Simulator::End::all_done);
}

}  // namespace
}  // namespace netvm::nic
