// Whether a search is right: the five checks of Graph500's specification, and a search by one processor.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "apps/gas/bfs/rmat.hpp"
#include "apps/splash2/common/job.hpp"

namespace gas::bfs {

/// Checks the words of all vertices (search.hpp) against the list of edges:
/// 1. the tree has no cycles: every vertex's parents lead to the root; 2. a vertex lies one level below its parent; 3. the ends of an edge lie
/// at most a level apart; 4. they are both in the tree or both not; 5. a vertex and its parent are joined by an edge.
/// Empty, or the first thing that is wrong.
std::string validate(const Parameters& parameters, std::uint64_t root, const std::vector<std::uint64_t>& words);

/// The same graph and search in one processor's private memory.
class SequentialGraph {
 public:
  explicit SequentialGraph(const Parameters& parameters);
  /// Words as those of Search: the levels are the same, parents may differ.
  [[nodiscard]] std::vector<std::uint64_t> search(std::uint64_t root) const;

 private:
  std::vector<std::uint64_t> begins_;
  std::vector<std::uint64_t> targets_;
};

/// Empty, or the first vertex that is reached in another level.
std::string compare_levels(const std::vector<std::uint64_t>& words, const std::vector<std::uint64_t>& expected);

}  // namespace gas::bfs
