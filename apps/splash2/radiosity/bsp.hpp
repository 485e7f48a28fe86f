// Which patch a line meets first: a tree that divides space by the planes of patches (binary space partition: Fuchs, Kedem, Naylor, 1980).
//
// 1. A node has the plane of one of its patches, all patches in that plane, and a tree for what lies before and one for what lies behind it. A patch that reaches
//    to both sides is in both: patches are not cut.
// 2. A patch blocks from both sides.
// 3. The tree is made in private memory, copied by one member, and from then on read by all.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "apps/splash2/common/team.hpp"
#include "apps/splash2/radiosity/room.hpp"

namespace splash2::radiosity {

struct BspNode {
  Vec3 normal;
  double offset;       ///< dot(normal, point) on the plane
  std::int32_t first;  ///< of its patches in the list
  std::int32_t count;
  std::int32_t side[2];  ///< nodes plus one before and behind; 0: nothing
};

struct Crossing {
  std::int32_t patch;
  double share;  ///< of the way from the line's begin to its end
};

class Bsp {
 public:
  /// Collective, as the store is. The patches stay where they are, in the scene.
  Bsp(Store& store, const std::vector<Patch>& patches);
  /// One member calls; a barrier must follow.
  void fill() const;

  /// The first patch between two points, neither of which counts.
  [[nodiscard]] std::optional<Crossing> first(Vec3 from, Vec3 to) const;
  /// The same by trying all.
  [[nodiscard]] std::optional<Crossing> first_slowly(Vec3 from, Vec3 to) const;
  [[nodiscard]] std::span<const Patch> patches() const { return {patches_, own_patches_.size()}; }

 private:
  struct Line {
    Vec3 from;
    Vec3 to;
    [[nodiscard]] Vec3 at(double share) const { return from + (to - from) * share; }
  };
  std::int32_t divide(const std::vector<std::int32_t>& patches);
  [[nodiscard]] std::int32_t choose_plane(const std::vector<std::int32_t>& patches) const;
  [[nodiscard]] std::optional<Crossing> search(std::int32_t node, const Line& line, double begin, double end) const;

  std::vector<Patch> own_patches_;
  std::vector<BspNode> own_nodes_;
  std::vector<std::int32_t> own_list_;
  Patch* patches_;
  BspNode* nodes_;
  std::int32_t* list_;
};

}  // namespace splash2::radiosity
