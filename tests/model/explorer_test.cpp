// The explorer itself: it sees every order once, and finds what only one order shows.
#include <doctest/doctest.h>

#include <set>
#include <string>

#include "tests/model/explorer.hpp"

namespace netvm::model {
namespace {

// Node 0 and node 1 each send `messages` to node 2 over lanes of their own (or of none); what node 2 saw is the order in which they came.
Execution senders(int messages, bool lanes, std::set<std::string>* orders, const std::string& wrong = "-") {
  return [=](const SimChooser& chooser) {
    Simulator simulator(SimOptions{});
    simulator.set_chooser(chooser);
    std::string order;
    int left = 2 * messages;
    WaitWord done;
    for (std::uint32_t node = 0; node < 2; ++node) {
      simulator.start(NodeId{node}, "sender", [&, node] {
        for (int i = 0; i < messages; ++i) {
          const char name = static_cast<char>((node == 0 ? 'a' : 'A') + i);
          simulator.at_node(NodeId{2}, lanes ? node + 1 : 0, simulator.now() + 500, [&, name] {
            order += name;
            if (--left == 0) done.announce(simulator.env(NodeId{2}));
          });
        }
      });
    }
    simulator.start(NodeId{2}, "receiver", [&] {
      while (left > 0) {
        const std::uint32_t ticket = done.prepare();
        const ParkOn on = done.on(ticket);
        if (left > 0) simulator.env(NodeId{2}).park({&on, 1}, kForever);
        done.finish();
      }
    });
    if (simulator.run().end != Simulator::End::all_done) return std::string("did not end");
    orders->insert(order);
    return order == wrong ? "wrong order " + order : std::string();
  };
}

TEST_CASE("packets of two channels come in every order that keeps each channel's own") {
  std::set<std::string> orders;
  const Result result = explore(senders(3, true, &orders), 10'000);
  CHECK(result.complete);
  CHECK(orders.size() == 20);  // 6 over 3
  MESSAGE(result.runs, " runs, ", result.redundant, " redundant");
}

TEST_CASE("without channels they come in every order") {
  std::set<std::string> orders;
  const Result result = explore(senders(2, false, &orders), 10'000);
  CHECK(result.complete);
  CHECK(orders.size() == 24);
}

TEST_CASE("what only one order shows is found, and shown again by its choices") {
  std::set<std::string> orders;
  const Execution execute = senders(3, true, &orders, "ABCabc");
  const Result result = explore(execute, 10'000);
  CHECK(result.failure == "wrong order ABCabc");
  std::string failure;
  REQUIRE(replay(execute, result.choices, &failure));
  CHECK(failure == result.failure);
  CHECK_FALSE(replay(execute, "1:2,x", &failure));
}

TEST_CASE("events of different nodes are not tried in both orders") {
  const Result result = explore(
      [](const SimChooser& chooser) {
        Simulator simulator(SimOptions{});
        simulator.set_chooser(chooser);
        for (std::uint32_t node = 0; node < 6; ++node) simulator.start(NodeId{node}, "alone", [] {});
        return simulator.run().end == Simulator::End::all_done ? std::string() : std::string("did not end");
      },
      10'000);
  CHECK(result.complete);
  CHECK(result.runs == 1);
}

}  // namespace
}  // namespace netvm::model
