// barnes: the galaxy, the tree, and that a wrong answer is seen.
#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <vector>

#include "apps/splash2/barnes/plummer.hpp"
#include "apps/splash2/barnes/verify.hpp"
#include "apps/splash2/common/space_order.hpp"
#include "tests/apps/bodies.hpp"

namespace splash2::barnes {
namespace {

TEST_CASE("the galaxy rests at the origin, in balance") {
  const std::vector<Body> bodies = plummer(2000);
  Vec3 position;
  Vec3 velocity;
  double kinetic = 0;
  double potential = 0;
  for (std::size_t i = 0; i < bodies.size(); ++i) {
    position += bodies[i].position;
    velocity += bodies[i].velocity;
    kinetic += 0.5 * norm2(bodies[i].velocity) / 2000;
    for (std::size_t j = 0; j < i; ++j) potential -= 1 / length(bodies[i].position - bodies[j].position) / 2000 / 2000;
  }
  CHECK(length(position) < 1e-9);
  CHECK(length(velocity) < 1e-9);
  CHECK(kinetic == doctest::Approx(0.25).epsilon(0.05));
  CHECK(potential == doctest::Approx(-0.5).epsilon(0.05));
}

/// Bodies below a node, each inside of it; -1 where one is not.
int count_bodies(const Tree& tree, const Node& node, std::map<std::int32_t, int>& seen) {
  int below = 0;
  if (node.leaf()) {
    for (int i = 0; i < node.bodies; ++i) {
      const Vec3 from = tree.place(node.reference[i]).at - node.middle;
      CHECK(std::max({std::abs(from.x), std::abs(from.y), std::abs(from.z)}) <= node.half);
      ++seen[node.reference[i]];
    }
    return node.bodies;
  }
  for (const std::int32_t child : node.children()) {
    if (child != 0) below += count_bodies(tree, tree.node(child - 1), seen);
  }
  return below;
}

TEST_CASE("the tree holds every body once, whoever builds it, and its summary is that of the bodies") {
  constexpr std::size_t kBodies = 3000;
  std::vector<Vec3> centres;
  for (const int threads : {1, 3, 4}) {
    netvm::Job job(threads);
    SharedStore store(job, {});
    auto* const places = store.array<Place>(kBodies);
    auto* const motions = store.array<Motion>(kBodies);
    const Tree tree(store, kBodies, places, motions);
    const std::vector<Body> bodies = plummer(kBodies);
    job.parallel([&](netvm::Thread& me) {
      std::vector<std::int32_t> own;
      for (std::size_t i = static_cast<std::size_t>(me.rank()); i < kBodies; i += static_cast<std::size_t>(me.count())) {
        places[i] = {bodies[i].position, 1.0 / kBodies};
        motions[i].cost = 2;
        own.push_back(static_cast<std::int32_t>(i));
      }
      me.barrier();
      SharedTeam team(me);
      Tree::Builder builder(tree, team);
      for (int again = 0; again < 3; ++again) builder.build(own, 64);
    });
    std::map<std::int32_t, int> seen;
    CHECK(count_bodies(tree, tree.root(), seen) == kBodies);
    CHECK(seen.size() == kBodies);
    CHECK(tree.root().mass == doctest::Approx(1));
    CHECK(tree.root().cost == 2 * static_cast<std::int64_t>(kBodies));
    CHECK(length(tree.root().centre) < 1e-9);
    centres.push_back(tree.root().centre);
  }
  CHECK(centres[0] == centres[1]);
  CHECK(centres[0] == centres[2]);
}

TEST_CASE("in the order of space the same bodies lie in memory, neighbours together") {
  std::vector<Body> bodies = plummer(3000);
  const auto step = [](const std::vector<Body>& list) {
    double sum = 0;
    for (std::size_t i = 1; i < list.size(); ++i) sum += length(list[i].position - list[i - 1].position);
    return sum;
  };
  const auto by_x = [](const Body& a, const Body& b) { return a.position.x < b.position.x; };
  std::vector<Body> sorted = bodies;
  sort_in_space(sorted, [](const Body& body) { return std::array{body.position.x, body.position.y, body.position.z}; });
  CHECK(step(sorted) < step(bodies) / 3);
  std::sort(bodies.begin(), bodies.end(), by_x);
  std::sort(sorted.begin(), sorted.end(), by_x);
  for (std::size_t i = 0; i < bodies.size(); ++i)
    CHECK((bodies[i].position == sorted[i].position && bodies[i].velocity == sorted[i].velocity));

  // On a line, at one point, and none: nothing to divide by.
  std::vector<double> line = {3, 1, 2, 1, -5};
  sort_in_space(line, [](double at) { return std::array{at, 7.0}; });
  CHECK(line == std::vector<double>{-5, 1, 1, 2, 3});
  std::vector<double> same = {4, 4};
  sort_in_space(same, [](double at) { return std::array{at}; });
  CHECK(same == std::vector<double>{4, 4});
  std::vector<double> none;
  sort_in_space(none, [](double at) { return std::array{at}; });
  CHECK(none.empty());
}

TEST_CASE("bodies at one point end in a message, not in an endless tree") {
  PrivateStore store;
  auto* const places = store.array<Place>(9);
  auto* const motions = store.array<Motion>(9);
  const Tree tree(store, 9, places, motions);
  std::vector<std::int32_t> own;
  for (std::int32_t i = 0; i < 9; ++i) own.push_back(i);
  SoloTeam team;
  Tree::Builder builder(tree, team);
  CHECK_THROWS_WITH_AS(builder.build(own, 1), doctest::Contains("more than 8 bodies lie at one point"), std::runtime_error);
}

TEST_CASE("smaller angles give better forces") {
  double errors[2] = {};
  for (const double theta : {1.0, 0.4}) {
    Parameters parameters{1000, 1, 0.01, theta, 0.05};
    PrivateStore store;
    Simulation simulation(store, parameters);
    SoloTeam team;
    simulation.run(team);
    for (std::size_t body = 0; body < 20; ++body) {
      Vec3 expected;
      for (std::size_t other = 0; other < parameters.bodies; ++other) {
        const Vec3 towards = simulation.place(other).at - simulation.place(body).at;
        if (other != body) expected += towards * (simulation.place(other).mass / std::pow(norm2(towards) + 0.0025, 1.5));
      }
      errors[theta == 1.0 ? 0 : 1] += length(simulation.motion(body).acceleration - expected);
    }
  }
  CHECK(errors[1] < errors[0] / 10);
}

TEST_CASE("any number of threads gives the sequential answer; a wrong body is seen") {
  const Parameters parameters{1500, 2, 0.025, 1.0, 0.05};
  check_threads<Simulation>(Parameters{500, 1, 0.025, 1.0, 0.05, false}, {3}, [](auto&&...) {});
  check_threads<Simulation>(parameters, {1, 3, 4}, [&](Simulation& simulation, Result& result, const SequentialRun& sequential) {
    simulation.place(777).at.y += 1e-6;
    CHECK_FALSE(sequential.compare(simulation).passed);
    result.last_energy *= 1.01;
    CHECK_FALSE(self_test(parameters, simulation, result).front().passed);
  });
}

}  // namespace
}  // namespace splash2::barnes
