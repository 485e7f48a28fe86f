#include "apps/splash2/radiosity/bsp.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

namespace splash2::radiosity {

namespace {

constexpr double kOnPlane = 1e-7;   // metres
constexpr double kEnd = 1e-6;       // of a line, that does not count
constexpr double kRound = 1e-9;     // of shares, so that nothing slips between patches that share an edge
constexpr std::size_t kTried = 12;  // planes, for each node

enum Side { in_plane = 0, before = 1, behind = 2, both = 3 };

Side side_of(const Patch& patch, Vec3 normal, double offset) {
  int side = in_plane;
  for (const double s : {0.0, 1.0}) {
    for (const double t : {0.0, 1.0}) {
      const double distance = dot(normal, patch.at(s, t)) - offset;
      if (distance > kOnPlane) side |= before;
      if (distance < -kOnPlane) side |= behind;
    }
  }
  return static_cast<Side>(side);
}

bool inside(const Patch& patch, Vec3 at) {
  const Vec3 from = at - patch.corner;
  const double s = dot(from, patch.u) / norm2(patch.u);
  const double t = dot(from, patch.v) / norm2(patch.v);
  return s >= -kRound && s <= 1 + kRound && t >= -kRound && t <= 1 + kRound;
}

}  // namespace

Bsp::Bsp(Store& store, const std::vector<Patch>& patches) : own_patches_(patches) {
  std::vector<std::int32_t> all;
  for (std::size_t i = 0; i < patches.size(); ++i) all.push_back(static_cast<std::int32_t>(i));
  divide(all);
  patches_ = store.array<Patch>(own_patches_.size());
  nodes_ = store.array<BspNode>(own_nodes_.size());
  list_ = store.array<std::int32_t>(own_list_.size());
}

void Bsp::fill() const {
  std::copy(own_patches_.begin(), own_patches_.end(), patches_);
  std::copy(own_nodes_.begin(), own_nodes_.end(), nodes_);
  std::copy(own_list_.begin(), own_list_.end(), list_);
}

/// The patch whose plane leaves few on both sides, and about as many before as behind.
std::int32_t Bsp::choose_plane(const std::vector<std::int32_t>& patches) const {
  std::int32_t best = patches.front();
  auto least = std::numeric_limits<std::ptrdiff_t>::max();
  const std::size_t step = std::max<std::size_t>(1, patches.size() / kTried);
  for (std::size_t i = 0; i < patches.size(); i += step) {
    const Patch& candidate = own_patches_[static_cast<std::size_t>(patches[i])];
    const Vec3 normal = candidate.normal();
    std::array<std::ptrdiff_t, 4> counts{};
    for (const std::int32_t other : patches)
      ++counts[side_of(own_patches_[static_cast<std::size_t>(other)], normal, dot(normal, candidate.corner))];
    const std::ptrdiff_t badness = 4 * counts[both] + std::abs(counts[before] - counts[behind]);
    if (badness < least) {
      least = badness;
      best = patches[i];
    }
  }
  return best;
}

/// Returns the new node plus one, or 0 if there are no patches.
std::int32_t Bsp::divide(const std::vector<std::int32_t>& patches) {
  if (patches.empty()) return 0;
  const Patch& chosen = own_patches_[static_cast<std::size_t>(choose_plane(patches))];
  BspNode node{chosen.normal(), dot(chosen.normal(), chosen.corner), static_cast<std::int32_t>(own_list_.size()), 0, {0, 0}};
  std::array<std::vector<std::int32_t>, 2> sides;
  for (const std::int32_t patch : patches) {
    const Side side = side_of(own_patches_[static_cast<std::size_t>(patch)], node.normal, node.offset);
    if (side == in_plane) own_list_.push_back(patch);
    if ((side & before) != 0) sides[0].push_back(patch);
    if ((side & behind) != 0) sides[1].push_back(patch);
  }
  node.count = static_cast<std::int32_t>(own_list_.size()) - node.first;
  const std::size_t index = own_nodes_.size();
  own_nodes_.push_back(node);
  for (std::size_t side = 0; side < 2; ++side) {
    const std::int32_t below = divide(sides[side]);
    own_nodes_[index].side[side] = below;
  }
  return static_cast<std::int32_t>(index) + 1;
}

std::optional<Crossing> Bsp::first(Vec3 from, Vec3 to) const {
  return own_nodes_.empty() ? std::nullopt : search(1, {from, to}, kEnd, 1 - kEnd);
}

/// Of the part of the line between the shares `begin` and `end`. What lies beyond belongs to another part of space and is found there.
std::optional<Crossing> Bsp::search(std::int32_t index, const Line& line, double begin, double end) const {
  while (index != 0) {
    const BspNode& node = nodes_[index - 1];
    const double at_begin = dot(node.normal, line.at(begin)) - node.offset;
    const double at_end = dot(node.normal, line.at(end)) - node.offset;
    if (at_begin > kOnPlane && at_end > kOnPlane) {
      index = node.side[0];
      continue;
    }
    if (at_begin < -kOnPlane && at_end < -kOnPlane) {
      index = node.side[1];
      continue;
    }
    const std::size_t near = at_begin >= at_end ? 0 : 1;  // the side that the line comes from
    const bool along = std::abs(at_begin - at_end) < kOnPlane;
    // Where the line crosses the plane. A line along it may belong to either side with all its length.
    const double meets = along ? end : begin + (end - begin) * at_begin / (at_begin - at_end);
    const double share = std::clamp(meets, begin, end);
    if (const auto found = search(node.side[near], line, begin, share)) return found;
    if (!along && std::abs(meets - share) < kRound) {
      for (std::int32_t i = node.first; i < node.first + node.count; ++i) {
        if (inside(patches_[list_[i]], line.at(share))) return Crossing{list_[i], share};
      }
    }
    index = node.side[1 - near];
    if (!along) begin = share;
  }
  return std::nullopt;
}

std::optional<Crossing> Bsp::first_slowly(Vec3 from, Vec3 to) const {
  std::optional<Crossing> nearest;
  for (std::size_t i = 0; i < own_patches_.size(); ++i) {
    const Patch& patch = own_patches_[i];
    const double a = dot(patch.normal(), from - patch.corner);
    const double b = dot(patch.normal(), to - patch.corner);
    const double share = a / (a - b);
    if (!(share > kEnd && share < 1 - kEnd) || !inside(patch, from + (to - from) * share)) continue;
    if (!nearest || share < nearest->share) nearest = Crossing{static_cast<std::int32_t>(i), share};
  }
  return nearest;
}

}  // namespace splash2::radiosity
