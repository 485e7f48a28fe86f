// NodeSet: a set of nodes, as a copyset. Takes no memory of its own up to 64 nodes, and beyond only as much as its highest member asks for.
//
// On the wire: words of 64 bits, the lowest nodes first, without zeros at the end; no words are the empty set.
// Threads: none of its own; whoever owns it guards it.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

#include "runtime/ids.hpp"
#include "runtime/wire_codec.hpp"

namespace netvm::dsm {

class NodeSet {
 public:
  void add(NodeId node) { word(node) |= bit(node); }
  void remove(NodeId node) {
    if (contains(node)) word(node) &= ~bit(node);
  }
  [[nodiscard]] bool contains(NodeId node) const {
    const std::size_t index = node.value / 64;
    if (index == 0) return (first_ & bit(node)) != 0;
    return index <= rest_.size() && (rest_[index - 1] & bit(node)) != 0;
  }
  /// Gives its memory back, too.
  void clear() { *this = NodeSet{}; }
  [[nodiscard]] std::uint32_t size() const {
    auto count = static_cast<std::uint32_t>(std::popcount(first_));
    for (const std::uint64_t more : rest_) count += static_cast<std::uint32_t>(std::popcount(more));
    return count;
  }
  [[nodiscard]] bool empty() const { return size() == 0; }
  /// In ascending order. `use` may not change the set.
  template <class Use>
  void for_each(Use&& use) const {
    each_of(first_, 0, use);
    for (std::size_t i = 0; i < rest_.size(); ++i) each_of(rest_[i], static_cast<std::uint32_t>((i + 1) * 64), use);
  }

  void append_to(std::vector<std::byte>& wire) const {
    std::size_t words = rest_.size();
    while (words != 0 && rest_[words - 1] == 0) --words;
    if (words == 0 && first_ == 0) return;
    put_raw(wire, first_);
    for (std::size_t i = 0; i < words; ++i) put_raw(wire, rest_[i]);
  }
  /// False if that is no set of nodes of a job of that many.
  [[nodiscard]] static bool decode(std::span<const std::byte> wire, std::uint32_t nodes, NodeSet* set) {
    if (wire.size() % 8 != 0 || wire.size() / 8 > (nodes + 63) / 64) return false;
    NodeSet made;
    bool inside = true;
    for (std::size_t i = 0; i < wire.size() / 8; ++i) {
      std::uint64_t bits = 0;
      std::memcpy(&bits, wire.data() + i * 8, 8);
      each_of(bits, static_cast<std::uint32_t>(i * 64), [&](NodeId node) {
        inside = inside && node.value < nodes;
        if (inside) made.add(node);
      });
    }
    if (inside) *set = std::move(made);
    return inside;
  }

 private:
  static std::uint64_t bit(NodeId node) { return std::uint64_t{1} << (node.value % 64); }
  std::uint64_t& word(NodeId node) {
    const std::size_t index = node.value / 64;
    if (index == 0) return first_;
    if (rest_.size() < index) rest_.resize(index);
    return rest_[index - 1];
  }
  template <class Use>
  static void each_of(std::uint64_t bits, std::uint32_t base, Use&& use) {
    for (; bits != 0; bits &= bits - 1) use(NodeId{base + static_cast<std::uint32_t>(std::countr_zero(bits))});
  }
  std::uint64_t first_ = 0;
  std::vector<std::uint64_t> rest_;
};

/// What waits for answers of nodes, by some key, each with a set `awaited`: this node gives none any more. go_on(entry) of each that waited for it; it may remove
/// that entry.
template <class Waiting, class GoOn>
void no_longer_await(Waiting& waiting, NodeId node, GoOn&& go_on) {
  std::vector<typename Waiting::key_type> held_up;
  for (auto& [key, one] : waiting) {
    if (!one.awaited.contains(node)) continue;
    one.awaited.remove(node);
    held_up.push_back(key);
  }
  for (const auto& key : held_up) go_on(waiting.find(key));
}

}  // namespace netvm::dsm
