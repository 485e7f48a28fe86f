// What is computed point by point on a tile, given a valid frame. Nothing here communicates. All tiles of a call have one shape.
#pragma once

#include <cstdint>

#include "apps/splash2/ocean/grid.hpp"

namespace splash2::ocean {

/// to = five-point Laplacian of `from` on points `spacing` metres apart.
void laplacian(const Tile& from, double spacing, const Tile& to);

/// to = J(a, b) = da/dx db/dy - da/dy db/dx in Arakawa's nine-point form, which conserves energy and enstrophy (J. Comput. Phys. 1966).
void jacobian(const Tile& a, const Tile& b, double spacing, const Tile& to);

/// Sets all points, with the frame.
void fill(const Tile& tile, double value);
void copy(const Tile& from, const Tile& to);

/// Sets the frame where it is a wall of the basin (corners between a wall and a neighbour included).
void fill_walls(const Subgrid& subgrid, const Tile& tile, double value);

double max_magnitude(const Tile& tile);
double sum(const Tile& tile);

/// The equation (Laplacian - lambda^2) u = r on one level of the multigrid, all times the square of the spacing:
/// (sum of the four neighbours) - diagonal u = f. Beyond a wall u is taken by extrapolation through the wall's zero, which lies `wall_distance`
/// spacings from the nearest point; that share is in the diagonal, and the wall frame counts as zero.
struct Equation {
  Subgrid subgrid;
  double wall_weight = 0;   ///< u beyond the wall = -wall_weight u inside
  double diagonal[5] = {};  ///< by the number of walls that the point touches
  double inverse[5] = {};

  static Equation make(const Subgrid& subgrid, double lambda2_spacing2, double wall_distance);
};

enum class Colour : std::uint8_t { red, black };

/// Gauss-Seidel on the points of one colour; the colour is that of the place in the basin, whatever the tile.
void relax(const Equation& equation, Colour colour, const Tile& u, const Tile& f);

/// The largest magnitude of the residual f - (neighbours - diagonal u).
double residual(const Equation& equation, const Tile& u, const Tile& f);
/// The same, and coarse_f = sums of it over 2 x 2 points: the next coarser level's right side.
double residual(const Equation& equation, const Tile& u, const Tile& f, const Tile& coarse_f);

/// u += bilinear interpolation of the next coarser level's solution (weights 9 3 3 1), also on the frame where that is a neighbour's. Sets
/// the coarse wall frame.
void interpolate(const Equation& coarse_equation, const Tile& coarse_u, const Tile& u);

}  // namespace splash2::ocean
