// The tree of the collectives: for every size and arity, contiguous subtrees in the order of nodes, and a depth that grows with the logarithm.
#include <doctest/doctest.h>

#include "sync/collective.hpp"

namespace netvm::sync {
namespace {

TEST_CASE("tree: every node has one parent that knows it as a child, and subtrees split their range in order") {
  for (std::uint32_t nodes = 1; nodes <= 70; ++nodes) {
    for (const std::uint32_t arity : {1U, 2U, 3U, 8U, 200U}) {
      for (std::uint32_t node = 0; node < nodes; ++node) {
        const TreePlace place = tree_place(node, nodes, arity);
        CHECK(place.has_parent == (node != 0));
        CHECK(place.children.size() <= arity);
        std::uint32_t next = node + 1;
        for (const std::uint32_t child : place.children) {
          CHECK(child == next);
          const TreePlace below = tree_place(child, nodes, arity);
          CHECK(below.has_parent);
          CHECK(below.parent == node);
          next = below.end;
        }
        CHECK(next == place.end);
        if (node == 0) CHECK(place.end == nodes);
      }
    }
  }
}

TEST_CASE("tree: the depth of 1024 nodes is what their arity promises") {
  const auto depth_of = [](std::uint32_t arity) {
    std::uint32_t deepest = 0;
    for (std::uint32_t node = 0; node < 1024; ++node) {
      std::uint32_t depth = 0;
      for (TreePlace place = tree_place(node, 1024, arity); place.has_parent; place = tree_place(place.parent, 1024, arity)) ++depth;
      deepest = std::max(deepest, depth);
    }
    return deepest;
  };
  CHECK(depth_of(2) <= 10);
  CHECK(depth_of(8) <= 4);
}

}  // namespace
}  // namespace netvm::sync
