// Graph500's input: edges of a Kronecker graph (R-MAT: Chakrabarti, Zhan, Faloutsos, SDM 2004), with the benchmark's probabilities 0.57, 0.19, 0.19, 0.05.
#pragma once

#include <cstdint>

namespace gas::bfs {

struct Parameters {
  int scale = 14;                 ///< 2^scale vertices
  std::int64_t edge_factor = 16;  ///< edges a vertex
  std::int64_t roots = 8;         ///< searches

  [[nodiscard]] std::uint64_t vertices() const { return std::uint64_t{1} << scale; }
  [[nodiscard]] std::uint64_t edges() const { return vertices() * static_cast<std::uint64_t>(edge_factor); }
};

struct Edge {
  std::uint64_t from;
  std::uint64_t to;
};

/// The i-th edge, of i alone. Some lead back to where they begin and some come twice, as in the benchmark; vertices are renumbered so that
/// their number says nothing of their degree.
Edge edge(const Parameters& parameters, std::uint64_t i);

/// The renumbering: a bijection of [0, 2^scale).
std::uint64_t scramble(int scale, std::uint64_t vertex);

}  // namespace gas::bfs
