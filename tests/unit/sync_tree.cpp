// The tree of the collectives: for every size and arity, contiguous subtrees in the order of nodes, and a depth that grows with the logarithm.
#include <doctest/doctest.h>

#include "sync/collective.hpp"

namespace netvm::sync {
namespace {

TEST_CASE(
    "trees: their roots split all nodes, every other node has one parent that knows it as a child, and subtrees split their range in "
    "order") {
  for (std::uint32_t nodes = 1; nodes <= 70; ++nodes) {
    for (const std::uint32_t arity : {1U, 2U, 3U, 8U, 200U}) {
      for (std::uint32_t node = 0; node < nodes; ++node) {
        const TreePlace place = tree_place(node, nodes, arity);
        const std::uint32_t middle = (nodes + 1) / 2;
        const bool is_root = node == 0 || node == middle;
        CHECK(place.has_parent == !is_root);
        CHECK(place.has_partner == (is_root && nodes > 1));
        if (place.has_partner) CHECK(place.partner == middle - node);
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
        if (is_root) CHECK(place.end == (node == 0 ? middle : nodes));
      }
    }
  }
}

TEST_CASE("trees: the depth of 1024 nodes is what their arity promises") {
  const auto depth_of = [](std::uint32_t arity) {
    std::uint32_t deepest = 0;
    for (std::uint32_t node = 0; node < 1024; ++node) {
      std::uint32_t depth = 0;
      for (TreePlace place = tree_place(node, 1024, arity); place.has_parent; place = tree_place(place.parent, 1024, arity)) ++depth;
      deepest = std::max(deepest, depth);
    }
    return deepest;
  };
  CHECK(depth_of(2) <= 9);
  CHECK(depth_of(8) <= 3);
}

TEST_CASE("marks: what is added up says which of the last two were marked, whatever the numbers") {
  for (const std::uint64_t first : {std::uint64_t{1}, std::uint64_t{UINT32_MAX} - 2, (std::uint64_t{1} << 46) - 7}) {
    for (std::uint32_t which = 0; which < 64; ++which) {  // of six in a row
      std::uint64_t sum = 0;                              // what the counter says
      CollectiveMark mark;
      for (std::uint64_t i = 0; i < 6; ++i) {
        if ((which >> i & 1) == 0) continue;
        const CollectiveMark next = mark.with(first + i, 640 * i);
        sum += next.value - mark.value;
        mark = next;
        const CollectiveMark seen{sum};
        CHECK(seen.says(first + i));
        CHECK(seen.least_wait_ns() == 640 * i);
        CHECK_FALSE(seen.says(first + i + 1));
        if (i > 0) CHECK(seen.says(first + i - 1) == ((which >> (i - 1) & 1) != 0));
      }
    }
  }
  CHECK(CollectiveMark{}.with(7, UINT64_MAX).says(7));
}

}  // namespace
}  // namespace netvm::sync
