// Sets of nodes, in memory and on the wire.
#include "dsm/node_set.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <map>
#include <set>
#include <vector>

#include "runtime/random.hpp"

namespace netvm::dsm {
namespace {

TEST_CASE("a node set is a set, beyond 64 nodes too") {
  SplitMix64 random(2);
  for (const std::uint32_t nodes : {3U, 64U, 65U, 1024U}) {
    NodeSet set;
    std::set<std::uint32_t> model;
    for (int i = 0; i < 2000; ++i) {
      const auto node = static_cast<std::uint32_t>(random.below(nodes));
      switch (random.below(40) == 0 ? 2 : random.below(2)) {
        case 0:
          set.add(NodeId{node});
          model.insert(node);
          break;
        case 1:
          set.remove(NodeId{node});
          model.erase(node);
          break;
        default:
          set.clear();
          model.clear();
      }
      CHECK(set.contains(NodeId{node}) == model.contains(node));
      CHECK(set.size() == model.size());
      CHECK(set.empty() == model.empty());
    }
    std::vector<std::uint32_t> walked;
    set.for_each([&](NodeId node) { walked.push_back(node.value); });
    CHECK(walked == std::vector<std::uint32_t>(model.begin(), model.end()));
  }
}

TEST_CASE("a node set comes back from its words, of which there are no more than needed") {
  SplitMix64 random(3);
  for (const std::uint32_t nodes : {1U, 64U, 65U, 1000U}) {
    for (int i = 0; i < 200; ++i) {
      NodeSet set;
      std::uint32_t highest = 0;
      for (std::uint64_t k = random.below(5); k != 0; --k) {
        const auto node = static_cast<std::uint32_t>(random.below(nodes));
        set.add(NodeId{node});
        highest = std::max(highest, node);
      }
      std::vector<std::byte> wire(3);
      set.append_to(wire);
      CHECK(wire.size() == 3 + (set.empty() ? 0 : (highest / 64 + 1) * 8));
      NodeSet back;
      back.add(NodeId{0});
      REQUIRE(NodeSet::decode(std::span(wire).subspan(3), nodes, &back));
      CHECK(back.size() == set.size());
      set.for_each([&back](NodeId node) { CHECK(back.contains(node)); });
    }
  }
}

TEST_CASE("words that are no set of these nodes are refused") {
  NodeSet set;
  set.add(NodeId{70});
  std::vector<std::byte> wire;
  set.append_to(wire);
  NodeSet back;
  CHECK(NodeSet::decode(wire, 71, &back));
  NodeSet untouched;
  untouched.add(NodeId{1});
  CHECK_FALSE(NodeSet::decode(wire, 70, &untouched));
  CHECK_FALSE(NodeSet::decode(wire, 64, &untouched));
  CHECK_FALSE(NodeSet::decode(std::span(wire).first(15), 100, &untouched));
  CHECK(untouched.size() == 1);
}

TEST_CASE("what waited for a node that will not answer goes on, once, and may go") {
  struct Question {
    NodeSet awaited;
  };
  std::map<int, Question> questions;
  questions[1].awaited.add(NodeId{7});
  questions[2].awaited.add(NodeId{8});
  questions[3].awaited.add(NodeId{7});
  questions[3].awaited.add(NodeId{9});
  std::vector<int> went_on;
  const auto go_on = [&](auto question) {
    went_on.push_back(question->first);
    if (question->second.awaited.empty()) questions.erase(question);
  };
  no_longer_await(questions, NodeId{7}, go_on);
  CHECK(went_on == std::vector<int>{1, 3});
  CHECK(questions.size() == 2);
  no_longer_await(questions, NodeId{7}, go_on);
  CHECK(went_on.size() == 2);
}

}  // namespace
}  // namespace netvm::dsm
