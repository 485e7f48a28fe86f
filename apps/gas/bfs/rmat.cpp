#include "apps/gas/bfs/rmat.hpp"

#include <initializer_list>

#include "apps/splash2/common/random.hpp"

namespace gas::bfs {

namespace {

constexpr std::uint64_t kStream = std::uint64_t{41} << 32;
constexpr double kA = 0.57;
constexpr double kB = 0.19;
constexpr double kC = 0.19;

}  // namespace

/// Odd factors and shifts to the right within the number's bits can be undone, so nothing meets.
std::uint64_t scramble(int scale, std::uint64_t vertex) {
  const std::uint64_t mask = (std::uint64_t{1} << scale) - 1;
  const int shift = scale / 2 + 1;
  for (const std::uint64_t factor : {0x9e3779b97f4a7c15U, 0xd1b54a32d192ed03U, 0xbf58476d1ce4e5b9U}) {
    vertex = (vertex * factor + (factor >> 40)) & mask;
    vertex ^= vertex >> shift;
  }
  return vertex;
}

Edge edge(const Parameters& parameters, std::uint64_t i) {
  splash2::Sequence random(kStream + i);
  Edge result{0, 0};
  for (int bit = 0; bit < parameters.scale; ++bit) {
    const double where = random.unit();
    const bool down = where >= kA + kB;
    const bool right = down ? where >= kA + kB + kC : where >= kA;
    result.from = 2 * result.from + (down ? 1 : 0);
    result.to = 2 * result.to + (right ? 1 : 0);
  }
  return {scramble(parameters.scale, result.from), scramble(parameters.scale, result.to)};
}

}  // namespace gas::bfs
