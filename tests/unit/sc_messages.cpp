// The small values of protocol sc-directory.
#include "dsm/protocols/sc_messages.hpp"

#include <doctest/doctest.h>

#include <set>
#include <vector>

#include "runtime/random.hpp"

namespace netvm::dsm::sc {
namespace {

TEST_CASE("a copy of zeros is invalid, and every copy comes back from its word") {
  const Copy zero = Copy::unpack(0);
  CHECK(zero.phase == Phase::I);
  CHECK_FALSE(zero.granted);
  CHECK(zero.pack() == 0);

  SplitMix64 random(1);
  for (int i = 0; i < 1000; ++i) {
    Copy copy;
    copy.phase = static_cast<Phase>(random.below(6));
    copy.granted = random.below(2) == 1;
    copy.with_data = random.below(2) == 1;
    copy.losses = static_cast<std::uint8_t>(random.below(16));
    copy.number = random.next() >> 10;
    const Copy back = Copy::unpack(copy.pack());
    CHECK(back.phase == copy.phase);
    CHECK(back.granted == copy.granted);
    CHECK(back.with_data == copy.with_data);
    CHECK(back.losses == copy.losses);
    CHECK(back.number == copy.number);
  }
}

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

TEST_CASE("a message comes back from its bytes") {
  const Message sent{Kind::grant, kExclusive | kWithData, {}, 12345, 678};
  const Message back = decode(std::as_bytes(std::span(&sent, 1)));
  CHECK(back.kind == sent.kind);
  CHECK(back.flags == sent.flags);
  CHECK(back.page == sent.page);
  CHECK(back.transaction == sent.transaction);
}

}  // namespace
}  // namespace netvm::dsm::sc
