// Home rules: which nodes keep the tails of the mutexes and objects in some memory, where the program has chosen (Sync::place). Elsewhere the offset's hash
// says it (lock_directory.hpp).
//
// Invariants
//  1. Pieces do not overlap. A rule that is set takes the place of what was said of that memory before; what it cuts off keeps its own base.
// Threads: any. A lookup costs one load while there are no rules.
#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <mutex>
#include <optional>

#include "runtime/dead_nodes.hpp"
#include "runtime/ids.hpp"

namespace netvm::sync {

struct MemoryRange {
  std::uint64_t offset = 0;
  std::uint64_t bytes = 0;

  [[nodiscard]] std::uint64_t end() const { return offset + bytes; }
  [[nodiscard]] bool contains(std::uint64_t at) const { return at >= offset && at - offset < bytes; }
  [[nodiscard]] bool overlaps(const MemoryRange& other) const { return offset < other.end() && other.offset < end(); }
};

/// `stride`: bytes of one element. Elements go to the node; or in turn to all, from node 0 on; or the first 1/N of them to node 0, and so on.
/// Nodes that were dead when it was made have no part in that.
struct HomeRule {
  enum class Kind : std::uint8_t { by_hash = 0, at = 1, cyclic = 2, block = 3 };
  Kind kind = Kind::by_hash;
  NodeId node{};  ///< of `at`
  std::uint64_t stride = 8;
  DeadNodes dead = {};

  /// Where a rule set for that memory puts what lies at the offset, in there. Not of by_hash.
  [[nodiscard]] NodeId home_of(const MemoryRange& memory, std::uint64_t offset, std::uint32_t nodes) const {
    if (kind == Kind::at) return node;
    const std::uint64_t element = (offset - memory.offset) / stride;
    const std::uint32_t living = dead.living(nodes);
    if (kind == Kind::cyclic) return dead.living_at(element % living);
    const std::uint64_t elements = (memory.bytes + stride - 1) / stride;
    const std::uint64_t share = (elements + living - 1) / living;
    return dead.living_at(element / share);
  }
};

class HomeRules {
 public:
  explicit HomeRules(std::uint32_t nodes) : nodes_(nodes) {}

  /// The node, where one was chosen.
  [[nodiscard]] std::optional<NodeId> home_of(std::uint64_t offset) const {
    if (!any_.load()) return std::nullopt;
    const std::lock_guard guard(lock_);
    auto piece = pieces_.upper_bound(offset);
    if (piece == pieces_.begin()) return std::nullopt;
    --piece;
    if (offset >= piece->second.end) return std::nullopt;
    return piece->second.rule.home_of(piece->second.base, offset, nodes_);
  }
  [[nodiscard]] bool any_in(const MemoryRange& memory) const {
    if (!any_.load()) return false;
    const std::lock_guard guard(lock_);
    auto piece = pieces_.lower_bound(memory.end());
    return piece != pieces_.begin() && (--piece)->second.end > memory.offset;
  }
  void set(const MemoryRange& memory, const HomeRule& rule) {
    if (memory.bytes == 0) return;
    const std::lock_guard guard(lock_);
    split(memory.offset);
    split(memory.end());
    pieces_.erase(pieces_.lower_bound(memory.offset), pieces_.lower_bound(memory.end()));
    if (rule.kind != HomeRule::Kind::by_hash) pieces_[memory.offset] = {memory.end(), memory, rule};
    any_.store(!pieces_.empty());
  }

 private:
  struct Piece {
    std::uint64_t end = 0;
    MemoryRange base;  // what the rule was set for
    HomeRule rule;
  };
  // No piece reaches over `at` afterwards.
  void split(std::uint64_t at) {
    auto piece = pieces_.lower_bound(at);
    if (piece == pieces_.begin() || (--piece)->second.end <= at) return;
    pieces_[at] = piece->second;
    piece->second.end = at;
  }

  const std::uint32_t nodes_;
  std::atomic<bool> any_{false};
  mutable std::mutex lock_;
  std::map<std::uint64_t, Piece> pieces_;  // by their beginnings
};

}  // namespace netvm::sync
