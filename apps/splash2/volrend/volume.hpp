// The volume that volrend shows: densities on a cubic grid, and a pyramid of maxima over it that lets rays leap over what is empty.
//
// 1. Voxels are made in slices, each by one processor; then each level of the pyramid from the one below, with a barrier between. After that all is read only.
// 2. Brick b of level k holds the largest density among the voxels that interpolation inside of the brick uses: those of its cells and their far corners.
#pragma once

#include <cstdint>
#include <vector>

#include "apps/splash2/common/team.hpp"
#include "apps/splash2/common/vec3.hpp"

namespace splash2::volrend {

/// The density at a point of the unit cube, from 0 to 255: a head of ellipsoids (after Shepp and Logan's), with a grain in the brain.
std::uint8_t density_of_head(Vec3 at);

class Volume {
 public:
  /// Collective, as the store is. `side` voxels a side.
  Volume(Store& store, std::size_t side);
  /// All members; a barrier at the end.
  void fill(Team& team) const;

  [[nodiscard]] std::size_t side() const { return side_; }
  [[nodiscard]] double voxel(std::size_t x, std::size_t y, std::size_t z) const { return voxels_[(z * side_ + y) * side_ + x]; }
  /// Interpolated at a point between voxels (0 .. side-1 on each axis); 0 outside.
  [[nodiscard]] double density(Vec3 at) const;
  [[nodiscard]] Vec3 gradient(Vec3 at) const;

  /// Edge of the largest brick round a point of the volume in which nothing is denser than `empty`, with its lowest corner; 0: there is none.
  struct Brick {
    double edge = 0;
    Vec3 low;
  };
  [[nodiscard]] Brick empty_brick(Vec3 at, std::uint8_t empty) const;

 private:
  struct Level {
    std::size_t edge;   ///< of a brick, in voxels
    std::size_t count;  ///< of bricks a side
    std::uint8_t* most;
  };
  void fill_level(const Team& team, std::size_t level) const;

  std::size_t side_;
  std::uint8_t* voxels_;
  std::vector<Level> levels_;  ///< from the finest
};

}  // namespace splash2::volrend
