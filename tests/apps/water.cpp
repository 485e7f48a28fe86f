// water: the potential and its forces, the integrator, both ways to find pairs, and that a wrong answer is seen.
#include <doctest/doctest.h>

#include <cmath>
#include <memory>

#include "apps/splash2/water/nsquared.hpp"
#include "apps/splash2/water/spatial.hpp"

namespace splash2::water {
namespace {

Parameters small(std::size_t molecules, int steps) {
  Parameters parameters;
  parameters.molecules = molecules;
  parameters.steps = steps;
  return parameters;
}

TEST_CASE("forces are the energy's slope, within a molecule and between two, also where the interaction fades") {
  const Parameters parameters = small(64, 1);
  const Input input(parameters);
  const Pair pair(parameters);
  Sites a;
  Sites b;
  Motion motion;
  input.make(0, a, motion);
  input.make(1, b, motion);
  for (const double away : {0.0, 1.0, 2.3}) {
    Sites moved = b;
    for (Vec3& site : moved.at) site.x += away;
    Sites force_a;
    Sites force_b;
    CHECK(pair(a, moved, force_a, force_b) != 0);
    Sites within;
    intra_forces(moved, within);
    for (int s = 0; s < kSites; ++s) {
      for (int axis = 0; axis < 3; ++axis) {
        Sites unused[3];
        const double h = 1e-5;
        Sites up = moved;
        Sites down = moved;
        up.at[s][axis] += h;
        down.at[s][axis] -= h;
        const double slope = (pair(a, up, unused[0], unused[1]) - pair(a, down, unused[0], unused[1])) / (2 * h);
        CHECK(force_b.at[s][axis] == doctest::Approx(-slope).epsilon(1e-5).scale(1));
        const double slope_within = (intra_forces(up, unused[2]) - intra_forces(down, unused[2])) / (2 * h);
        CHECK(within.at[s][axis] == doctest::Approx(-slope_within).epsilon(1e-5).scale(1));
      }
    }
  }
  Sites far = b;
  for (Vec3& site : far.at) site += Vec3{parameters.side() / 2 - 3, parameters.side() / 2, 0};
  Sites force_a;
  Sites force_b;
  CHECK(pair(a, far, force_a, force_b) == 0);
}

TEST_CASE("the first state has no momentum, and every molecule its bonds") {
  const Parameters parameters = small(100, 1);
  const Input input(parameters);
  const Gear gear(parameters);
  Vec3 momentum;
  for (std::size_t number = 0; number < parameters.molecules; ++number) {
    Sites position;
    Motion motion;
    input.make(number, position, motion);
    momentum += gear.momentum(motion);
    CHECK(length(position.at[1] - position.at[0]) == doctest::Approx(1.012));
    CHECK(length(position.at[1] - position.at[2]) == doctest::Approx(2 * 1.012 * std::sin(113.24 * M_PI / 360)));
  }
  CHECK(length(momentum) < 1e-9);
}

TEST_CASE("energy is kept, the better the shorter the step") {
  double changes[2] = {};
  for (const int divisor : {1, 4}) {
    Parameters parameters = small(64, 20 * divisor);
    parameters.time_step = 0.0002 / divisor;
    PrivateStore store;
    Spatial simulation(store, parameters);
    SoloTeam team;
    const Result result = simulation.run(team);
    changes[divisor / 4] = std::abs(result.last.total() - result.first.total());
    CHECK(result.momentum < 1e-12);
  }
  CHECK(changes[1] < changes[0] / 16);
}

TEST_CASE("all pairs and neighbouring cells give the same, also when molecules change cells") {
  Parameters parameters = small(343, 150);
  parameters.time_step = 0.0005;
  parameters.cutoff = 4;
  PrivateStore stores[2];
  NSquared all(stores[0], parameters, 8);
  Spatial cells(stores[1], parameters);
  CHECK(cells.cells_a_side() == 5);
  SoloTeam team;
  const Result expected = all.run(team);
  const Result result = cells.run(team);
  const Check check = compare(parameters, cells, 1, result, all, expected);
  CHECK_MESSAGE(check.passed, check.detail);
}

TEST_CASE("any number of threads gives the sequential answer; a wrong molecule is seen") {
  const Parameters parameters = small(125, 3);
  for (const bool spatial : {false, true}) {
    const auto make = [&](Store& store) -> std::unique_ptr<Simulation> {
      if (spatial) return std::make_unique<Spatial>(store, parameters);
      return std::make_unique<NSquared>(store, parameters, 3);
    };
    PrivateStore own;
    const auto reference = make(own);
    SoloTeam solo;
    const Result expected = reference->run(solo);
    for (const int threads : {1, 3, 4}) {
      netvm::Job job(threads);
      SharedStore store(job, {});
      const auto simulation = make(store);
      Result result;
      job.parallel([&](netvm::Thread& me) {
        SharedTeam team(me);
        const Result mine = simulation->run(team);
        if (me.local() == 0) result = mine;
      });
      const Check check = compare(parameters, *simulation, threads, result, *reference, expected);
      CHECK_MESSAGE(check.passed, check.detail);
      for (const Check& self : self_test(parameters, result)) CHECK_MESSAGE(self.passed, self.name, ": ", self.detail);
      bool moved = false;
      simulation->for_each_of(threads - 1, [&](Sites& position, Motion& /*motion*/, Sites& /*force*/) {
        if (!moved) position.at[1].y += 1e-6;
        moved = true;
      });
      CHECK_FALSE(compare(parameters, *simulation, threads, result, *reference, expected).passed);
      result.last.inter += 0.1;
      CHECK_FALSE(self_test(parameters, result).front().passed);
    }
  }
}

}  // namespace
}  // namespace splash2::water
