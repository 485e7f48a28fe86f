// ocean: partition, stencils, multigrid, and that a wrong answer is seen.
#include <doctest/doctest.h>

#include <cmath>
#include <set>
#include <vector>

#include "apps/splash2/ocean/basin.hpp"
#include "apps/splash2/ocean/verify.hpp"

namespace splash2::ocean {
namespace {

/// A tile with its memory.
struct Grid {
  explicit Grid(int cells) : memory(Tile::doubles(cells, cells)), tile(Tile::in(memory.data(), cells, cells)) {}
  std::vector<double> memory;
  Tile tile;
};

TEST_CASE("subgrids cover the basin once, nearly square") {
  for (const int processors : {1, 2, 4, 8, 16}) {
    std::set<std::pair<int, int>> points;
    for (int rank = 0; rank < processors; ++rank) {
      const Subgrid s = Subgrid::of(16, rank, processors);
      CHECK(std::max(s.rows, s.columns) <= 2 * std::min(s.rows, s.columns));
      CHECK(s.neighbour(0, 0) == rank);
      for (int i = 0; i < s.rows; ++i) {
        for (int j = 0; j < s.columns; ++j) CHECK(points.emplace(s.first_row + i, s.first_column + j).second);
      }
    }
    CHECK(points.size() == 256);
  }
}

TEST_CASE("the Laplacian is exact for squares") {
  Grid u(6);
  Grid out(6);
  for (int i = -1; i <= 6; ++i) {
    for (int j = -1; j <= 6; ++j) u.tile.at(i, j) = 3.0 * i * i + j * j;
  }
  laplacian(u.tile, 2.0, out.tile);
  for (int i = 0; i < 6; ++i) CHECK(out.tile.at(i, i) == doctest::Approx(8.0 / 4.0));
}

TEST_CASE("the Jacobian is exact for linear fields, antisymmetric, and conserves mean, energy and enstrophy") {
  constexpr int kCells = 12;
  Grid a(kCells);
  Grid b(kCells);
  Grid ab(kCells);
  Grid ba(kCells);
  for (int i = -1; i <= kCells; ++i) {
    for (int j = -1; j <= kCells; ++j) {
      a.tile.at(i, j) = 2.0 * j + 3.0 * i;
      b.tile.at(i, j) = 5.0 * j - 7.0 * i;
    }
  }
  jacobian(a.tile, b.tile, 1.0, ab.tile);
  CHECK(ab.tile.at(4, 5) == doctest::Approx(2.0 * -7.0 - 3.0 * 5.0));

  fill(a.tile, 0);
  fill(b.tile, 0);
  for (int i = 2; i < kCells - 2; ++i) {
    for (int j = 2; j < kCells - 2; ++j) {
      a.tile.at(i, j) = std::sin(1.0 + i * j);
      b.tile.at(i, j) = std::cos(3.0 * i - j);
    }
  }
  jacobian(a.tile, b.tile, 1.0, ab.tile);
  jacobian(b.tile, a.tile, 1.0, ba.tile);
  double energy = 0;
  double enstrophy = 0;
  for (int i = 0; i < kCells; ++i) {
    for (int j = 0; j < kCells; ++j) {
      CHECK(ab.tile.at(i, j) == doctest::Approx(-ba.tile.at(i, j)));
      energy += b.tile.at(i, j) * ab.tile.at(i, j);
      enstrophy += a.tile.at(i, j) * ab.tile.at(i, j);
    }
  }
  CHECK(std::abs(sum(ab.tile)) < 1e-12);
  CHECK(std::abs(energy) < 1e-12);
  CHECK(std::abs(enstrophy) < 1e-12);
}

TEST_CASE("multigrid finds a known solution in a number of cycles that does not grow with the grid") {
  for (const int visits : {1, 2}) {
    for (const int cells : {8, 32, 128}) {
      for (const double lambda2 : {0.0, 0.17}) {
        SoloTeam team;
        const Subgrid whole = Subgrid::of(cells, 0, 1);
        CycleSettings settings;
        settings.visits = visits;
        Arena count;
        const Multigrid measured(team, whole, 0, settings, count);
        std::vector<double> memory(count.used());
        Arena arena(memory.data());
        Multigrid multigrid(team, whole, 0, settings, arena);
        Grid expected(cells);
        Grid u(cells);
        Grid f(cells);
        for (int i = 0; i < cells; ++i) {
          for (int j = 0; j < cells; ++j)
            expected.tile.at(i, j) = std::sin(M_PI * (i + 1) / (cells + 1)) * std::sin(2 * M_PI * (j + 1) / (cells + 1));
        }
        laplacian(expected.tile, 1.0, f.tile);
        for (int i = 0; i < cells; ++i) {
          for (int j = 0; j < cells; ++j) f.tile.at(i, j) -= lambda2 * expected.tile.at(i, j);
        }
        const Solution solution = multigrid.solve(u.tile, f.tile, lambda2, 1e-10);
        CHECK(solution.converged);
        CHECK(solution.cycles <= 14);
        double worst = 0;
        for (int i = 0; i < cells; ++i) {
          for (int j = 0; j < cells; ++j) worst = std::max(worst, std::abs(u.tile.at(i, j) - expected.tile.at(i, j)));
        }
        CHECK(worst < 1e-8);
      }
    }
  }
}

TEST_CASE("each layout gives each processor's tiles places of their own, and finds its neighbours'; strips begin on pages") {
  for (const auto& [grids, parts] : {std::pair(Grids::contiguous, Parts::rectangles), std::pair(Grids::rows, Parts::rectangles),
                                     std::pair(Grids::rows, Parts::strips), std::pair(Grids::contiguous, Parts::strips)}) {
    netvm::Job job(4);
    const bool strips = parts == Parts::strips;
    const Subgrid shape = Subgrid::of(8, 0, 4, parts);
    const std::size_t page = splash2::LayoutOptions{}.padded(1, sizeof(double));
    Arena count(nullptr, grids, page);
    count.tile(shape);
    count.tile(shape.with_cells(4));
    const Basin basin(job, shape, count.used(), grids);
    std::set<const double*> places;
    std::vector<Tile> first_tiles;
    for (int rank = 0; rank < 4; ++rank) {
      const Subgrid own = shape.of_rank(rank);
      Arena arena = basin.arena_of(rank);
      first_tiles.push_back(arena.tile(own));
      if (strips) CHECK(reinterpret_cast<std::uintptr_t>(&first_tiles.back().at(-1, -1)) % 4096 == 0);
      for (const Tile& tile : {first_tiles.back(), arena.tile(own.with_cells(4))}) {
        for (int i = -1; i <= tile.rows; ++i) {
          for (int j = -1; j <= tile.columns; ++j) CHECK(places.insert(&tile.at(i, j)).second);
        }
      }
    }
    CHECK(first_tiles[0].origin + basin.way_to(shape, first_tiles[0], strips ? 3 : 1, strips ? 0 : 1) == first_tiles[3].origin);
    CHECK(first_tiles[2].origin + basin.way_to(shape, first_tiles[2], -1, strips ? 0 : 1) == first_tiles[1].origin);
  }
}

TEST_CASE("the model passes its self-test, and the reference sees one wrong point") {
  Parameters parameters;
  parameters.points = 34;
  SoloTeam team;
  const Subgrid whole = Subgrid::of(parameters.cells(), 0, 1);
  std::vector<double> memory(model_doubles(parameters, whole));
  Arena arena(memory.data());
  Model model(team, parameters, whole, arena);
  model.start();
  const Progress progress = model.run();
  CHECK(progress.steps == 6);
  for (const Check& check : self_test(team, parameters, model, progress)) CHECK_MESSAGE(check.passed, check.name, ": ", check.detail);

  const SequentialRun reference(parameters, 1);
  const auto grids = [&](int) { return Arena(memory.data()); };
  CHECK(reference.compare(whole, grids, progress).passed);
  double& point = model.field(Field::psi3).at(7, 9);
  const double right = point;
  point *= 1 + 1e-6;
  CHECK_FALSE(reference.compare(whole, grids, progress).passed);
  point = std::nan("");
  CHECK_FALSE(reference.compare(whole, grids, progress).passed);
  point = right;
  model.field(Field::ga_start).at(3, 3) *= 1.01;
  CHECK_FALSE(self_test(team, parameters, model, progress).front().passed);
}

}  // namespace
}  // namespace splash2::ocean
