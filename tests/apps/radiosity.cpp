// radiosity: the room, the tree of planes, form factors, and that a wrong answer is seen.
#include <doctest/doctest.h>

#include <cmath>
#include <vector>

#include "apps/splash2/common/random.hpp"
#include "apps/splash2/radiosity/verify.hpp"
#include "apps/splash2/radiosity/view.hpp"

namespace splash2::radiosity {
namespace {

TEST_CASE("the room is closed: from inside every line meets a patch, as when all are tried") {
  for (const char* name : {"room", "hall"}) {
    const Model model = make_model(name);
    PrivateStore store;
    const Bsp bsp(store, model.patches);
    bsp.fill();
    Sequence random(5);
    for (int i = 0; i < 400; ++i) {
      Vec3 direction;
      do direction = {random.between(-1, 1), random.between(-1, 1), random.between(-1, 1)};
      while (norm2(direction) > 1 || norm2(direction) < 0.01);
      const Vec3 far = model.camera.at + normalized(direction) * 100;
      const auto found = bsp.first(model.camera.at, far);
      const auto expected = bsp.first_slowly(model.camera.at, far);
      REQUIRE(found);
      REQUIRE(expected);
      CHECK(found->share == doctest::Approx(expected->share));
      const Patch& patch = bsp.patches()[static_cast<std::size_t>(found->patch)];
      CHECK(dot(patch.normal(), direction) <= 1e-9);  // seen from the side that sends light
    }
  }
}

Region quarter(const Region& region, int part) {
  const double edge = region.edge / 2;
  return {region.patch, region.s + edge * (part % 2), region.t + edge * (part / 2), edge};
}

/// The form factor of two patches that are divided so many times.
double divided_factor(const Bsp& bsp, const Region& to, const Region& from, int levels) {
  if (levels == 0) return form_factor(bsp, to, from).visible;
  double sum = 0;
  for (int i = 0; i < 16; ++i) sum += divided_factor(bsp, quarter(to, i / 4), quarter(from, i % 4), levels - 1) / 4;
  return sum;
}

Region whole(std::int32_t patch) { return {patch, 0, 0, 1}; }

TEST_CASE("form factors of squares are those of the tables, are symmetric, and see what is in between") {
  const Vec3 grey{0.5, 0.5, 0.5};
  const std::vector<Patch> patches = {{{0, 0, 0}, {1, 0, 0}, {0, 1, 0}, grey, {}},     // a floor
                                      {{0, 0, 1}, {0, 1, 0}, {1, 0, 0}, grey, {}},     // a ceiling over it
                                      {{0, 0, 0}, {0, 1, 0}, {0, 0, 1}, grey, {}},     // a wall beside it
                                      {{5, 0, 0.5}, {2, 0, 0}, {0, 1, 0}, grey, {}}};  // something far away, turned away from the floor
  PrivateStore store;
  const Bsp bsp(store, patches);
  bsp.fill();
  CHECK(divided_factor(bsp, whole(0), whole(1), 0) == doctest::Approx(0.1998).epsilon(0.03));
  CHECK(divided_factor(bsp, whole(0), whole(1), 2) == doctest::Approx(0.1998).epsilon(0.002));
  CHECK(divided_factor(bsp, whole(0), whole(2), 0) == doctest::Approx(0.2).epsilon(0.05));
  CHECK(divided_factor(bsp, whole(0), whole(2), 2) == doctest::Approx(0.2).epsilon(0.02));
  CHECK(form_factor(bsp, whole(0), whole(3)).weight == 0);
  for (const std::int32_t other : {1, 2}) {
    const FormFactor there = form_factor(bsp, whole(0), whole(other));
    CHECK(there.visible == doctest::Approx(form_factor(bsp, whole(other), whole(0)).visible).epsilon(1e-12));
  }
  std::vector<Patch> covered = patches;
  covered.push_back({{-1, -1, 0.5}, {3, 0, 0}, {0, 1.5, 0}, grey, {}});  // half of the way is blocked
  PrivateStore another;
  const Bsp shade(another, covered);
  shade.fill();
  const FormFactor half = form_factor(shade, whole(0), whole(1));
  CHECK(half.visible > 0.3 * half.weight / 8);
  CHECK(half.visible < 0.7 * half.weight);
}

TEST_CASE("any number of threads gives the sequential light to the bit; a wrong element is seen") {
  const Model model = make_model("room");
  const Parameters parameters{5e-3, 0.3, 1e-2, 50, ElementLayout::apart};
  const SequentialRun sequential(model, parameters, 1);
  for (const auto& [threads, layout] : {std::pair(1, ElementLayout::together), std::pair(3, ElementLayout::apart)}) {
    netvm::Job job(threads);
    SharedStore store(job, {});
    Parameters laid_out = parameters;
    laid_out.elements = layout;
    Solver solver(store, model, laid_out);
    Result result;
    job.parallel([&](netvm::Thread& me) {
      SharedTeam team(me);
      const Result mine = solver.run(team);
      if (me.local() == 0) result = mine;
    });
    const Check check = sequential.compare(solver);
    CHECK_MESSAGE(check.passed, check.detail);
    for (const Check& self : self_test(parameters, solver, result)) CHECK_MESSAGE(self.passed, self.name, ": ", self.detail);
    const Image image = render(solver, model.camera, 16, 12);
    CHECK(all_set(image).passed);

    solver.elements().radiosity(solver.elements().element(7), result.iterations % 2).y *= 1.001;
    CHECK_FALSE(sequential.compare(solver).passed);
    result.arriving *= 0.9;
    CHECK_FALSE(self_test(parameters, solver, result)[1].passed);
  }
}

}  // namespace
}  // namespace splash2::radiosity
