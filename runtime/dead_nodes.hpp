// DeadNodes: the nodes that had died when something was decided. Travels with it, as bytes: whoever computes from it later, and knows of more deaths or fewer,
// gets the same.
#pragma once

#include <array>
#include <bit>
#include <compare>
#include <cstdint>

#include "runtime/ids.hpp"

namespace netvm {

struct DeadNodes {
  static constexpr std::uint32_t kMost = 256;  ///< nodes of a job
  std::array<std::uint64_t, kMost / 64> words{};

  void add(NodeId node) { words[node.value / 64] |= std::uint64_t{1} << (node.value % 64); }
  void add(const DeadNodes& others) {
    for (std::size_t i = 0; i < words.size(); ++i) words[i] |= others.words[i];
  }
  [[nodiscard]] bool contains(NodeId node) const { return (words[node.value / 64] >> (node.value % 64) & 1) != 0; }
  [[nodiscard]] bool any() const { return *this != DeadNodes{}; }
  [[nodiscard]] std::uint32_t size() const {
    std::uint32_t count = 0;
    for (const std::uint64_t word : words) count += static_cast<std::uint32_t>(std::popcount(word));
    return count;
  }
  /// Whether it can be said of a job of that many nodes, one of which lives.
  [[nodiscard]] bool fits(std::uint32_t nodes) const {
    for (std::uint32_t node = nodes; node < kMost; ++node) {
      if (contains(NodeId{node})) return false;
    }
    return size() < nodes;
  }
  /// How many live. Requires fits(nodes), as the next two.
  [[nodiscard]] std::uint32_t living(std::uint32_t nodes) const { return nodes - size(); }
  /// Of those that live, in ascending order, that one; index < living(nodes).
  [[nodiscard]] NodeId living_at(std::uint64_t index) const {
    std::uint32_t node = 0;
    if (!any()) return NodeId{static_cast<std::uint32_t>(index)};
    for (;; ++node) {
      if (!contains(NodeId{node}) && index-- == 0) return NodeId{node};
    }
  }
  /// The node itself if it lives, else the first behind it that does; 0 comes after the last.
  [[nodiscard]] NodeId living_from(NodeId node, std::uint32_t nodes) const {
    while (contains(node)) node = NodeId{(node.value + 1) % nodes};
    return node;
  }
  friend auto operator<=>(const DeadNodes&, const DeadNodes&) = default;
};

}  // namespace netvm
