// The graph over all nodes, in symmetric memory, built by one-sided operations (Graph500's kernel 1).
//
// 1. Vertex v belongs to node v mod N, where it has the number v / N. A node has its vertices' neighbours in one array, vertex by vertex.
// 2. Degrees are counted by fetch-and-adds at the owners. Then each edge takes a place in the arrays of its two ends by fetch-and-add and puts itself there.
//    Many are under way at once. The order of a vertex's neighbours is any.
// 3. Edges that lead back to where they begin are left out; those that come twice are there twice.
#pragma once

#include <netvm/netvm.hpp>

#include <cstdint>
#include <span>
#include <vector>

#include "apps/gas/bfs/rmat.hpp"

namespace gas::bfs {

/// Who owns a vertex, and its number there.
struct Owners {
  std::uint64_t nodes;
  [[nodiscard]] int node(std::uint64_t vertex) const { return static_cast<int>(vertex % nodes); }
  [[nodiscard]] std::uint64_t local(std::uint64_t vertex) const { return vertex / nodes; }
  /// Vertices of a node.
  [[nodiscard]] std::uint64_t count(int node, std::uint64_t vertices) const {
    return (vertices + nodes - 1 - static_cast<std::uint64_t>(node)) / nodes;
  }
};

class Graph {
 public:
  /// Builds it. Collective, outside of parallel().
  Graph(netvm::Job& job, const Parameters& parameters);

  [[nodiscard]] const Parameters& parameters() const { return parameters_; }
  [[nodiscard]] const Owners& owners() const { return owners_; }
  /// Neighbours of one of this node's vertices.
  [[nodiscard]] std::span<const std::uint64_t> neighbours(std::uint64_t vertex) const {
    const std::uint64_t local = owners_.local(vertex);
    return {targets_ + begins_[local], targets_ + begins_[local + 1]};
  }
  /// Of any node's.
  [[nodiscard]] std::uint64_t degree(std::uint64_t vertex) const;
  /// Vertices with neighbours, no two the same, by chance but the same on all nodes; fewer if there are not so many.
  [[nodiscard]] std::vector<std::uint64_t> choose_roots() const;
  [[nodiscard]] double build_seconds() const { return seconds_; }

 private:
  void count_degrees(netvm::Job& job, netvm::Thread& me);
  void place_edges(netvm::Job& job, netvm::Thread& me);

  Parameters parameters_;
  Owners owners_;
  std::uint64_t* begins_;  ///< symmetric: where each vertex's neighbours begin, and the end
  std::uint64_t* places_;  ///< symmetric: the next free place of each vertex
  std::uint64_t* targets_ = nullptr;
  double seconds_ = 0;
};

}  // namespace gas::bfs
