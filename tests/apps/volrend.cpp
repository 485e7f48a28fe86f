// volrend: the volume and its pyramid, and that a wrong answer is seen.
#include <doctest/doctest.h>

#include <vector>

#include "apps/splash2/common/random.hpp"
#include "apps/splash2/volrend/render.hpp"

namespace splash2::volrend {
namespace {

TEST_CASE("the head has bone round a brain, and air round it") {
  CHECK(density_of_head({0.02, 0.02, 0.9}) == 0);
  CHECK(density_of_head({0.5, 0.53, 0.948}) > 200);
  const auto brain = density_of_head({0.5, 0.75, 0.6});
  CHECK(brain > 110);
  CHECK(brain < 130);
}

TEST_CASE("interpolation is exact at voxels and linear between them; outside there is nothing") {
  PrivateStore store;
  const Volume volume(store, 20);
  SoloTeam team;
  volume.fill(team);
  const double a = volume.voxel(9, 3, 11);
  const double b = volume.voxel(10, 3, 11);
  CHECK(volume.density({9, 3, 11}) == a);
  CHECK(volume.density({19, 19, 19}) == volume.voxel(19, 19, 19));
  CHECK(volume.density({9.25, 3, 11}) == doctest::Approx(0.75 * a + 0.25 * b));
  CHECK(volume.density({-0.01, 3, 11}) == 0);
  CHECK(volume.density({9, 19.01, 11}) == 0);
}

TEST_CASE("an empty brick is empty wherever one looks in it, at its far side, too") {
  for (const std::size_t side : {17, 32}) {
    PrivateStore store;
    const Volume volume(store, side);
    SoloTeam team;
    volume.fill(team);
    int bricks = 0;
    for (std::uint64_t i = 0; i < 3000; ++i) {
      const auto along = [&](std::uint64_t axis) { return uniform_unit(mix64(14, 3 * i + axis)) * static_cast<double>(side - 1); };
      const Vec3 at{along(0), along(1), along(2)};
      const Volume::Brick brick = volume.empty_brick(at, 45);
      if (brick.edge == 0) continue;
      ++bricks;
      for (int corner = 0; corner < 8; ++corner) {
        const Vec3 far = brick.low + Vec3{corner & 1 ? brick.edge : 0, corner & 2 ? brick.edge : 0, corner & 4 ? brick.edge : 0};
        CHECK(volume.density(far) <= 45);
        CHECK(volume.density((at + far) * 0.5) <= 45);
      }
    }
    CHECK(bricks > 100);
  }
}

TEST_CASE("any number of threads gives the sequential images; a wrong pixel is seen") {
  View view;
  view.volume = 24;
  view.pixels = 40;
  view.frames = 2;
  PrivateStore own;
  Renderer sequential(own, view);
  SoloTeam solo;
  sequential.run(solo);
  CHECK(check_leaps(sequential.volume(), view).passed);
  CHECK_FALSE(compare(sequential.image(0), sequential.image(1)).passed);  // it has turned
  for (const int threads : {1, 3, 4}) {
    netvm::Job job(threads);
    SharedStore store(job, {});
    Renderer renderer(store, view);
    job.parallel([&](netvm::Thread& me) {
      SharedTeam team(me);
      renderer.run(team);
    });
    for (const int frame : {0, 1}) {
      Image image = renderer.image(frame);
      CHECK(all_set(image).passed);
      CHECK(compare(image, sequential.image(frame)).passed);
      image.at(20, 20) ^= 0x100U;
      CHECK_FALSE(compare(image, sequential.image(frame)).passed);
    }
  }
}

}  // namespace
}  // namespace splash2::volrend
