#include "apps/splash2/ocean/stencils.hpp"

#include <algorithm>
#include <cmath>

namespace splash2::ocean {

void laplacian(const Tile& from, double spacing, const Tile& to) {
  const double factor = 1.0 / (spacing * spacing);
  for (int i = 0; i < from.rows; ++i) {
    const double* const above = from.row(i - 1);
    const double* const here = from.row(i);
    const double* const below = from.row(i + 1);
    double* const out = to.row(i);
    for (int j = 0; j < from.columns; ++j) out[j] = factor * (above[j] + below[j] + here[j - 1] + here[j + 1] - 4 * here[j]);
  }
}

void jacobian(const Tile& a, const Tile& b, double spacing, const Tile& to) {
  const double factor = 1.0 / (12 * spacing * spacing);
  for (int i = 0; i < a.rows; ++i) {
    // x grows with the column, y with the row: s is at y + 1, n at y - 1.
    const double *an = a.row(i - 1), *ah = a.row(i), *as = a.row(i + 1);
    const double *bn = b.row(i - 1), *bh = b.row(i), *bs = b.row(i + 1);
    double* const out = to.row(i);
    for (int j = 0; j < a.columns; ++j) {
      const double centred = (ah[j + 1] - ah[j - 1]) * (bs[j] - bn[j]) - (as[j] - an[j]) * (bh[j + 1] - bh[j - 1]);
      const double by_a = ah[j + 1] * (bs[j + 1] - bn[j + 1]) - ah[j - 1] * (bs[j - 1] - bn[j - 1]) - as[j] * (bs[j + 1] - bs[j - 1]) +
                          an[j] * (bn[j + 1] - bn[j - 1]);
      const double by_b = bs[j] * (as[j + 1] - as[j - 1]) - bn[j] * (an[j + 1] - an[j - 1]) - bh[j + 1] * (as[j + 1] - an[j + 1]) +
                          bh[j - 1] * (as[j - 1] - an[j - 1]);
      out[j] = factor * (centred + by_a + by_b);
    }
  }
}

void fill(const Tile& tile, double value) {
  for (int i = -1; i <= tile.rows; ++i) std::fill_n(tile.row(i) - 1, tile.columns + 2, value);
}

void copy(const Tile& from, const Tile& to) {
  for (int i = -1; i <= from.rows; ++i) std::copy_n(from.row(i) - 1, from.columns + 2, to.row(i) - 1);
}

void fill_walls(const Subgrid& subgrid, const Tile& tile, double value) {
  if (subgrid.north_wall()) std::fill_n(tile.row(-1) - 1, tile.columns + 2, value);
  if (subgrid.south_wall()) std::fill_n(tile.row(tile.rows) - 1, tile.columns + 2, value);
  for (int i = -1; i <= tile.rows; ++i) {
    if (subgrid.west_wall()) tile.at(i, -1) = value;
    if (subgrid.east_wall()) tile.at(i, tile.columns) = value;
  }
}

double max_magnitude(const Tile& tile) {
  double most = 0;
  for (int i = 0; i < tile.rows; ++i) {
    const double* const row = tile.row(i);
    for (int j = 0; j < tile.columns; ++j) most = std::max(most, std::abs(row[j]));
  }
  return most;
}

double sum(const Tile& tile) {
  double total = 0;
  for (int i = 0; i < tile.rows; ++i) {
    const double* const row = tile.row(i);
    for (int j = 0; j < tile.columns; ++j) total += row[j];
  }
  return total;
}

Equation Equation::make(const Subgrid& subgrid, double lambda2_spacing2, double wall_distance) {
  Equation equation;
  equation.subgrid = subgrid;
  equation.wall_weight = (1 - wall_distance) / wall_distance;
  for (int walls = 0; walls < 5; ++walls) {
    equation.diagonal[walls] = 4 + lambda2_spacing2 + walls * equation.wall_weight;
    equation.inverse[walls] = 1 / equation.diagonal[walls];
  }
  return equation;
}

namespace {

/// How many walls the points of row i touch, the end points' own not counted.
int walls_of_row(const Subgrid& subgrid, int i) {
  return (i == 0 && subgrid.north_wall() ? 1 : 0) + (i == subgrid.rows - 1 && subgrid.south_wall() ? 1 : 0);
}

/// Calls f(j, walls) for j = first, first + step, ..., with the inner points in a loop of their own.
template <class F>
void for_each_point(const Subgrid& subgrid, int i, int first, int step, F f) {
  const int walls = walls_of_row(subgrid, i);
  const int last = subgrid.columns - 1;
  const int west = subgrid.west_wall() ? 1 : 0;
  const int east = subgrid.east_wall() ? 1 : 0;
  int j = first;
  if (j == 0) {
    f(0, walls + west + (last == 0 ? east : 0));
    j += step;
  }
  for (; j < last; j += step) f(j, walls);
  if (j == last) f(last, walls + east);
}

}  // namespace

void relax(const Equation& equation, Colour colour, const Tile& u, const Tile& f) {
  const Subgrid& subgrid = equation.subgrid;
  for (int i = 0; i < u.rows; ++i) {
    const int first = (subgrid.first_row + i + subgrid.first_column + (colour == Colour::black ? 1 : 0)) & 1;
    const double* const above = u.row(i - 1);
    const double* const below = u.row(i + 1);
    const double* const right_side = f.row(i);
    double* const here = u.row(i);
    for_each_point(subgrid, i, first, 2, [&](int j, int walls) {
      here[j] = equation.inverse[walls] * (above[j] + below[j] + here[j - 1] + here[j + 1] - right_side[j]);
    });
  }
}

double residual(const Equation& equation, const Tile& u, const Tile& f) {
  double most = 0;
  for (int i = 0; i < u.rows; ++i) {
    const double* const here = u.row(i);
    for_each_point(equation.subgrid, i, 0, 1, [&](int j, int walls) {
      const double rest = f.at(i, j) - (u.at(i - 1, j) + u.at(i + 1, j) + here[j - 1] + here[j + 1]) + equation.diagonal[walls] * here[j];
      most = std::max(most, std::abs(rest));
    });
  }
  return most;
}

double residual(const Equation& equation, const Tile& u, const Tile& f, const Tile& coarse_f) {
  double most = 0;
  for (int i = 0; i < u.rows; ++i) {
    const double* const above = u.row(i - 1);
    const double* const here = u.row(i);
    const double* const below = u.row(i + 1);
    const double* const right_side = f.row(i);
    double* const coarse = coarse_f.row(i / 2);
    if (i % 2 == 0) std::fill_n(coarse, coarse_f.columns, 0.0);
    for_each_point(equation.subgrid, i, 0, 1, [&](int j, int walls) {
      const double rest = right_side[j] - (above[j] + below[j] + here[j - 1] + here[j + 1]) + equation.diagonal[walls] * here[j];
      most = std::max(most, std::abs(rest));
      coarse[j / 2] += rest;
    });
  }
  return most;
}

namespace {

/// The frame beyond a wall, extrapolated; rows first, so that the columns then find the corners.
void extrapolate_walls(const Equation& equation, const Tile& u) {
  const Subgrid& subgrid = equation.subgrid;
  const double weight = -equation.wall_weight;
  for (int j = -1; j <= u.columns; ++j) {
    if (subgrid.north_wall()) u.at(-1, j) = weight * u.at(0, j);
    if (subgrid.south_wall()) u.at(u.rows, j) = weight * u.at(u.rows - 1, j);
  }
  for (int i = -1; i <= u.rows; ++i) {
    if (subgrid.west_wall()) u.at(i, -1) = weight * u.at(i, 0);
    if (subgrid.east_wall()) u.at(i, u.columns) = weight * u.at(i, u.columns - 1);
  }
}

}  // namespace

void interpolate(const Equation& coarse_equation, const Tile& coarse_u, const Tile& u) {
  extrapolate_walls(coarse_equation, coarse_u);
  const Subgrid& subgrid = coarse_equation.subgrid;
  const int first_row = subgrid.north_wall() ? 0 : -1;
  const int last_row = subgrid.south_wall() ? u.rows - 1 : u.rows;
  const int first_column = subgrid.west_wall() ? 0 : -1;
  const int last_column = subgrid.east_wall() ? u.columns - 1 : u.columns;
  for (int i = first_row; i <= last_row; ++i) {
    // Fine row i lies in coarse row floor(i / 2), on the side of the row before (even i) or after it (odd i).
    const int near = (i + 2) / 2 - 1;
    const double* const near_row = coarse_u.row(near);
    const double* const far_row = coarse_u.row(i % 2 == 0 ? near - 1 : near + 1);
    double* const out = u.row(i);
    for (int j = first_column; j <= last_column; ++j) {
      const int c = (j + 2) / 2 - 1;
      const int d = j % 2 == 0 ? c - 1 : c + 1;
      out[j] += (9 * near_row[c] + 3 * near_row[d] + 3 * far_row[c] + far_row[d]) * (1.0 / 16);
    }
  }
}

}  // namespace splash2::ocean
