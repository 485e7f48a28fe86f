// raytrace: what rays hit, the scenes, work queues, images, and that a wrong answer is seen.
#include <doctest/doctest.h>

#include <png.h>

#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <set>
#include <vector>

#include "apps/splash2/raytrace/render.hpp"

namespace splash2::raytrace {
namespace {

TEST_CASE("rays hit spheres and triangles where geometry says, from both sides, and not behind or beyond") {
  Primitive sphere;
  sphere.a = {0, 0, 5};
  sphere.radius = 1;
  const Ray up{{0, 0, 0}, {0, 0, 1}};
  CHECK(sphere.hit(up, kFar).value() == doctest::Approx(4));
  CHECK_FALSE(sphere.hit(up, 3.9).has_value());
  CHECK_FALSE(sphere.hit({{0, 0, 0}, {0, 0, -1}}, kFar).has_value());
  CHECK(sphere.hit({{0, 0, 5}, {1, 0, 0}}, kFar).value() == doctest::Approx(1));  // from inside
  CHECK(sphere.normal({0, 0, 4}, up) == Vec3{0, 0, -1});

  Primitive triangle;
  triangle.a = {0, 0, 2};
  triangle.b = {1, 0, 2};
  triangle.c = {0, 1, 2};
  CHECK(triangle.hit({{0.2, 0.2, 0}, {0, 0, 1}}, kFar).value() == doctest::Approx(2));
  CHECK(triangle.hit({{0.2, 0.2, 3}, {0, 0, -1}}, kFar).value() == doctest::Approx(1));
  CHECK_FALSE(triangle.hit({{0.8, 0.8, 0}, {0, 0, 1}}, kFar).has_value());
  CHECK_FALSE(triangle.hit({{0.2, 0.2, 0}, {1, 0, 0}}, kFar).has_value());
}

TEST_CASE("the scenes have the primitives that their detail says, and boxes lose none of them") {
  CHECK(make_model("balls", 4).primitives.size() == 7381 + 2);
  CHECK(make_model("land", 1).primitives.size() == 2 * 32 * 32 + 24);
  for (const char* name : {"balls", "land"}) {
    PrivateStore store;
    const Scene scene(store, make_model(name, 2));
    scene.fill();
    const Check check = check_boxes(scene, {});
    CHECK_MESSAGE(check.passed, check.detail);
    const Ray straight_down{{0.3, 0.2, 50}, {0, 0, -1}};
    CHECK(find_hit(scene.primitives(), scene.boxes(), straight_down, kFar).distance ==
          find_hit_slowly(scene.primitives(), straight_down, kFar).distance);
  }
}

TEST_CASE("every task is done once, and who has none steals") {
  for (const int threads : {1, 3, 4}) {
    netvm::Job job(threads);
    SharedStore store(job, {});
    const WorkQueues queues(store);
    auto* const times_done = store.array<std::int32_t>(1000);
    job.parallel([&](netvm::Thread& me) {
      SharedTeam team(me);
      queues.fill(team, 1000);
      team.barrier();
      if (me.rank() == 0) team.barrier();  // the others do the tasks of the first, too
      while (const auto task = queues.next(team)) ++times_done[*task];
      if (me.rank() != 0) team.barrier();
    });
    CHECK(std::count(times_done, times_done + 1000, 1) == 1000);
    if (threads > 1) CHECK(queues.stolen_from(0) == 1000 / threads);
  }
}

TEST_CASE("tiles cover an image once, also where they do not fit") {
  const Tiles tiles(21, 13, 8);
  CHECK(tiles.count() == 6);
  std::set<std::pair<std::size_t, std::size_t>> pixels;
  std::set<std::size_t> places;
  for (std::size_t tile = 0; tile < tiles.count(); ++tile) {
    tiles.for_each_pixel(tile, [&](std::size_t x, std::size_t y, std::size_t place) {
      CHECK(pixels.emplace(x, y).second);
      CHECK(places.insert(place).second);
    });
  }
  CHECK(pixels.size() == 21 * 13);
}

TEST_CASE("a PNG holds the pixels; one that cannot be written says why") {
  Image image(3, 2);
  for (std::size_t y = 0; y < 2; ++y) {
    for (std::size_t x = 0; x < 3; ++x) image.at(x, y) = pixel_of({0, 0, 0});
  }
  image.at(2, 1) = pixel_of({1, 0, 2});
  CHECK(image.at(2, 1) == 0xffff00ffU);
  const std::string path = std::filesystem::temp_directory_path() / ("netvm_apps_" + std::to_string(::getpid()) + ".png");
  CHECK(image.write_png(path).empty());
  png_image png{};
  png.version = PNG_IMAGE_VERSION;
  REQUIRE(png_image_begin_read_from_file(&png, path.c_str()) != 0);
  CHECK(png.width == 3);
  CHECK(png.height == 2);
  png.format = PNG_FORMAT_RGB;
  std::vector<std::uint8_t> bytes(PNG_IMAGE_SIZE(png));
  REQUIRE(png_image_finish_read(&png, nullptr, bytes.data(), 0, nullptr) != 0);
  CHECK(bytes[3 * 5] == 255);
  CHECK(bytes[3 * 5 + 1] == 0);
  CHECK(bytes[3 * 4] == 0);
  std::filesystem::remove(path);
  CHECK(image.write_png("/nowhere/at/all.png").find("/nowhere/at/all.png") != std::string::npos);
  CHECK_FALSE(all_set(Image(2, 2)).passed);
}

TEST_CASE("any number of threads gives the sequential image; a wrong pixel is seen") {
  View view;
  view.width = 50;
  view.height = 40;
  PrivateStore own;
  Renderer sequential(own, make_model("balls", 2), view);
  SoloTeam solo;
  sequential.run(solo);
  for (const int threads : {1, 3, 4}) {
    netvm::Job job(threads);
    SharedStore store(job, {});
    Renderer renderer(store, make_model("balls", 2), view);
    job.parallel([&](netvm::Thread& me) {
      SharedTeam team(me);
      renderer.run(team);
    });
    Image image = renderer.image();
    CHECK(all_set(image).passed);
    CHECK(compare(image, sequential.image()).passed);
    image.at(17, 30) ^= 1U;
    const Check check = compare(image, sequential.image());
    CHECK_FALSE(check.passed);
    CHECK(check.detail.find("(17, 30)") != std::string::npos);
  }
}

}  // namespace
}  // namespace splash2::raytrace
