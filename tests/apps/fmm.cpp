// fmm: the clusters, the expansions, the lists, and that a wrong answer is seen.
#include <doctest/doctest.h>

#include <cmath>
#include <vector>

#include "apps/splash2/common/random.hpp"
#include "apps/splash2/fmm/clusters.hpp"
#include "apps/splash2/fmm/verify.hpp"
#include "tests/apps/bodies.hpp"

namespace splash2::fmm {
namespace {

TEST_CASE("clusters rest as a whole, and their velocities are in balance with gravity") {
  for (const int clusters : {1, 2}) {
    const std::vector<Body> bodies = make_clusters(4000, clusters, "plummer");
    Body mean;
    double square = 0;
    for (const Body& body : bodies) {
      mean.position += body.position;
      mean.velocity += body.velocity;
      square += std::norm(body.velocity) / 4000;
    }
    CHECK(std::abs(mean.position) < 1e-9);
    CHECK(std::abs(mean.velocity) < 1e-9);
    // In the plane the mean square is half the mass, whatever the shape: of a cluster inside, and of two that go round each other.
    CHECK(square == doctest::Approx(0.5).epsilon(0.05));
  }
}

/// Masses in the square of edge 2 round the origin, times r, moved to c.
struct Masses {
  Complex c;
  double r;
  std::vector<Complex> w;
  explicit Masses(Complex centre, double half, std::uint64_t seed) : c(centre), r(half) {
    Sequence random(seed);
    for (int i = 0; i < 30; ++i) w.emplace_back(random.between(-1, 1), random.between(-1, 1));
  }
  [[nodiscard]] double mass(std::size_t i) const { return 0.5 + static_cast<double>(i % 3); }
  [[nodiscard]] Field at(Complex z) const {
    Field field;
    for (std::size_t i = 0; i < w.size(); ++i) {
      const Complex from = z - (c + w[i] * r);
      field += {mass(i) * std::log(std::abs(from)), mass(i) / from};
    }
    return field;
  }
};

void check_near(const Field& field, const Field& expected) {
  CHECK(field.potential == doctest::Approx(expected.potential).epsilon(1e-9));
  CHECK(std::abs(field.slope - expected.slope) < 1e-9 * std::abs(expected.slope));
}

TEST_CASE("each operation on expansions gives the field of the masses") {
  const Expansions expansions(40);
  const Masses masses({3, -5}, 0.25, 11);
  std::vector<Complex> multipole(expansions.length());
  for (std::size_t i = 0; i < masses.w.size(); ++i) expansions.add_mass(masses.mass(i), masses.w[i], multipole.data());
  const Complex z = masses.c + Complex(-0.8, 0.75);  // where a box of that size begins that does not touch
  check_near(expansions.of_multipole(multipole.data(), (z - masses.c) / 0.25, 0.25), masses.at(z));

  std::vector<Complex> parent(expansions.length());
  const Complex middle = masses.c + Complex(0.25, -0.25);
  expansions.add_child(multipole.data(), (masses.c - middle) / 0.5, parent.data());
  check_near(expansions.of_multipole(parent.data(), (Complex(1, -5.5) - middle) / 0.5, 0.5), masses.at({1, -5.5}));

  std::vector<Complex> local(expansions.length());
  const Complex there = masses.c + Complex(1, 0.5);  // two edges further, one up
  expansions.add_multipole(multipole.data(), (masses.c - there) / 0.25, 0.25, local.data());
  const Complex inside = there + Complex(-0.2, 0.15);
  check_near(expansions.of_local(local.data(), (inside - there) / 0.25, 0.25), masses.at(inside));

  std::vector<Complex> child(expansions.length());
  const Complex corner = there + Complex(-0.125, 0.125);
  expansions.add_parent(local.data(), (corner - there) / 0.25, child.data());
  check_near(expansions.of_local(child.data(), (inside - corner) / 0.125, 0.125), masses.at(inside));

  std::vector<Complex> direct(expansions.length());
  for (std::size_t i = 0; i < masses.w.size(); ++i)
    expansions.add_distant_mass(masses.mass(i), (masses.c + masses.w[i] * 0.25 - there) / 0.25, 0.25, direct.data());
  check_near(expansions.of_local(direct.data(), (inside - there) / 0.25, 0.25), masses.at(inside));
}

TEST_CASE("every body acts once on every other, however unevenly they lie, and better precision gives better fields") {
  double errors[2] = {};
  for (const double precision : {1e-2, 1e-5}) {
    // Most bodies lie in a small spot off the centre: boxes of very different size touch.
    constexpr std::size_t kBodies = 1200;
    PrivateStore store;
    auto* const places = store.array<Place>(kBodies);
    auto* const motions = store.array<Motion>(kBodies);
    Sequence random(77);
    std::vector<std::int32_t> own;
    for (std::size_t i = 0; i < kBodies; ++i) {
      const double size = std::pow(2.0, -random.between(0, 12));
      places[i] = {Complex(0.3, -0.4) + std::polar(size / 2, random.between(0, 6.283)), 1.0 + static_cast<double>(i % 2)};
      motions[i].cost = 1;
      own.push_back(static_cast<std::int32_t>(i));
    }
    const Tree tree(store, kBodies, places, motions, Expansions::terms_for(precision));
    SoloTeam team;
    Tree::Builder(tree, team).build(own, 1);
    Descent descent(tree, 0, tree.root().cost);
    const auto found = descent.run(true);
    CHECK(descent.incomplete() == 0);
    REQUIRE(found.size() == kBodies);
    for (std::size_t i = 0; i < kBodies; i += 17) {
      Field expected;
      for (std::int32_t other = 0; other < static_cast<std::int32_t>(kBodies); ++other) {
        const Complex from = places[found[i].body].at - places[other].at;
        if (other != found[i].body) expected += {places[other].mass * std::log(std::abs(from)), places[other].mass / from};
      }
      const double error = std::abs(found[i].field.slope - expected.slope) / std::abs(expected.slope);
      errors[precision == 1e-2 ? 0 : 1] += error / 71;
      CHECK(error < precision);
      CHECK(std::abs(found[i].field.potential - expected.potential) < precision * std::abs(expected.potential));
    }
  }
  CHECK(errors[1] < errors[0] / 50);
}

TEST_CASE("any number of threads gives the sequential answer to the bit; a wrong body is seen") {
  for (const Parameters& parameters : {Parameters{1500, 2, "plummer", 1e-6, 2, 0.025}, Parameters{3, 1, "uniform", 1e-3, 2, 0.001}}) {
    check_threads<Simulation>(parameters, {1, 3}, [&](Simulation& simulation, Result& result, const SequentialRun& sequential) {
      CHECK(sequential.compare(simulation).detail.find("by 0.0e+00 at most") != std::string::npos);
      simulation.motion(parameters.bodies / 2).acceleration *= 1.5;
      CHECK_FALSE(self_test(parameters, simulation, result).back().passed);
      simulation.place(parameters.bodies / 2).at += 1e-6;
      CHECK_FALSE(sequential.compare(simulation).passed);
      result.incomplete = 1;
      result.last_energy += 0.01;
      CHECK_FALSE(self_test(parameters, simulation, result)[0].passed);
      CHECK_FALSE(self_test(parameters, simulation, result)[2].passed);
    });
  }
}

}  // namespace
}  // namespace splash2::fmm
