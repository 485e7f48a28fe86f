// Breadth-first search over the distributed graph (Graph500's kernel 2), by one-sided atomics.
//
// 1. A vertex has one word at its owner: free, or its parent and its level. Whoever finds a free one first, with a compare-and-swap, has claimed it. Many
//    are under way at once.
// 2. A claimed vertex goes into its owner's queue for the next level: places are reserved by fetch-and-add, many at once, and filled by a put.
// 3. The threads of a node take pieces of the node's queue by fetch-and-add, and read the vertices' neighbours in their own memory.
// 4. A thread remembers which vertices it knows to be claimed and asks for each once: most edges cost nothing.
// 5. A level ends with a sum over all of what was claimed: 0 ends the search. Three queues take turns: the one that is emptied during a level was read in
//    the level before and is filled in the next.
#pragma once

#include <netvm/netvm.hpp>

#include <cstdint>
#include <vector>

#include "apps/gas/bfs/graph.hpp"
#include "apps/splash2/common/job.hpp"

namespace gas::bfs {

/// A vertex's word: free, or where it was reached from and in which level.
struct Reached {
  static constexpr std::uint64_t kFree = ~std::uint64_t{0};
  static constexpr int kLevelShift = 40;
  static std::uint64_t pack(std::uint64_t parent, std::uint64_t level) { return level << kLevelShift | parent; }
  static std::uint64_t parent(std::uint64_t word) { return word & ((std::uint64_t{1} << kLevelShift) - 1); }
  static std::uint64_t level(std::uint64_t word) { return word >> kLevelShift; }
};

class Search {
 public:
  /// Collective.
  Search(netvm::Job& job, const Graph& graph);

  struct Result {
    splash2::ProcessorTime time;  ///< the search, and work on the levels in it
    std::uint64_t edges = 0;      ///< of the part of the graph that was reached
    std::uint64_t vertices = 0;
    std::uint64_t levels = 0;
    std::uint64_t asked = 0;  ///< compare-and-swaps
  };
  /// Every thread of parallel(); the counts are of all together.
  Result run(netvm::Job& job, netvm::Thread& me, std::uint64_t root);
  /// All vertices' words, by gets: any node, after the search.
  [[nodiscard]] std::vector<std::uint64_t> collect() const;

 private:
  class Level;
  static constexpr std::size_t kQueues = 3;
  [[nodiscard]] std::uint64_t* queue(std::uint64_t level) const { return queues_ + level % kQueues * capacity_; }
  void clear(const netvm::Thread& me) const;

  const Graph& graph_;
  std::uint64_t capacity_;  ///< vertices of a node at most
  std::uint64_t* words_;    ///< symmetric: a word for each vertex
  std::uint64_t* queues_;   ///< symmetric: vertices
  std::uint64_t* ends_;     ///< symmetric: where each queue ends
  std::uint64_t* taken_;    ///< symmetric: how much of each has been taken
};

}  // namespace gas::bfs
