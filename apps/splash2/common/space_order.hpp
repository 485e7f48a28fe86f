// The order of bodies in memory along a Z-curve (Morton 1966), so that neighbours in space share pages and a processor's zone is a few runs of them: without it the
// bodies of all processors lie on every page, which is false sharing at its worst (Hu, Cox, Zwaenepoel, SC 2000).
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <limits>
#include <tuple>
#include <utility>
#include <vector>

namespace splash2 {

/// `coordinates(body)` is a std::array of doubles. Bodies at one point keep their order.
template <class Body, class Coordinates>
void sort_in_space(std::vector<Body>& bodies, Coordinates coordinates) {
  if (bodies.empty()) return;
  constexpr std::size_t kAxes = std::tuple_size_v<decltype(coordinates(bodies.front()))>;
  constexpr int kBits = 60 / static_cast<int>(kAxes);
  auto least = coordinates(bodies.front());
  double edge = std::numeric_limits<double>::min();
  for (const Body& body : bodies) {
    for (std::size_t axis = 0; axis < kAxes; ++axis) least[axis] = std::min(least[axis], coordinates(body)[axis]);
  }
  for (const Body& body : bodies) {
    for (std::size_t axis = 0; axis < kAxes; ++axis) edge = std::max(edge, coordinates(body)[axis] - least[axis]);
  }
  std::vector<std::pair<std::uint64_t, std::size_t>> places;
  places.reserve(bodies.size());
  for (std::size_t i = 0; i < bodies.size(); ++i) {
    std::uint64_t place = 0;
    for (std::size_t axis = 0; axis < kAxes; ++axis) {
      const double within = (coordinates(bodies[i])[axis] - least[axis]) / edge * 0.999;
      const auto cell = static_cast<std::uint64_t>(within * static_cast<double>(std::uint64_t{1} << kBits));
      for (int bit = 0; bit < kBits; ++bit) place |= (cell >> bit & 1) << (static_cast<std::size_t>(bit) * kAxes + axis);
    }
    places.emplace_back(place, i);
  }
  std::sort(places.begin(), places.end());
  std::vector<Body> sorted;
  sorted.reserve(bodies.size());
  for (const auto& [place, i] : places) sorted.push_back(bodies[i]);
  bodies = std::move(sorted);
}

}  // namespace splash2
