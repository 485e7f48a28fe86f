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

}  // namespace
}  // namespace netvm::nic
