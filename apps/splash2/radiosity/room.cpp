#include "apps/splash2/radiosity/room.hpp"

namespace splash2::radiosity {

namespace {

constexpr Vec3 kWhite{0.75, 0.75, 0.72};
constexpr Vec3 kWood{0.55, 0.36, 0.2};
constexpr Vec3 kRed{0.65, 0.15, 0.12};
constexpr Vec3 kBlue{0.2, 0.32, 0.6};
constexpr Vec3 kGreen{0.25, 0.5, 0.22};
constexpr Vec3 kLamp{18, 17, 14.5};

class Builder {
 public:
  /// The six sides of a box, seen from outside; without those on which it stands or hangs.
  void box(Vec3 low, Vec3 high, Vec3 colour, bool bottom = true, bool top = true) {
    const Vec3 d = high - low;
    const Vec3 x{d.x, 0, 0};
    const Vec3 y{0, d.y, 0};
    const Vec3 z{0, 0, d.z};
    add(low, z, y, colour);
    add({high.x, low.y, low.z}, y, z, colour);
    add(low, x, z, colour);
    add({low.x, high.y, low.z}, z, x, colour);
    if (bottom) add(low, y, x, colour);
    if (top) add({low.x, low.y, high.z}, x, y, colour);
  }

  /// Four walls and the floor, seen from inside, and a ceiling in which there are lamps on a grid.
  void shell(Vec3 size, int lamps_x, int lamps_y) {
    const Vec3 x{size.x, 0, 0};
    const Vec3 y{0, size.y, 0};
    const Vec3 z{0, 0, size.z};
    add({0, 0, 0}, x, y, kWood);
    add({0, 0, 0}, y, z, kRed);
    add(x, z, y, kBlue);
    add({0, 0, 0}, z, x, kWhite);
    add(y, x, z, kWhite);
    // Fields of three by three pieces, a lamp in the middle of each.
    const Vec3 field{size.x / lamps_x, size.y / lamps_y, 0};
    const double pieces[] = {0, 0.38, 0.62};
    const auto begin_of = [&](int piece) {  // in fields
      const int before = piece / 3;
      return before + pieces[piece % 3];
    };
    for (int i = 0; i < 3 * lamps_x; ++i) {
      for (int j = 0; j < 3 * lamps_y; ++j) {
        const double left = begin_of(i) * field.x;
        const double front = begin_of(j) * field.y;
        const Vec3 along{begin_of(i + 1) * field.x - left, 0, 0};
        const Vec3 across{0, begin_of(j + 1) * field.y - front, 0};
        add({left, front, size.z}, across, along, kWhite, i % 3 == 1 && j % 3 == 1 ? kLamp : Vec3{});
      }
    }
  }

  /// A top on four legs.
  void table(Vec3 at, Vec3 size, Vec3 colour) {
    constexpr double kThick = 0.06;
    box({at.x, at.y, at.z + size.z - kThick}, at + size, colour);
    for (const double x : {at.x + 0.02, at.x + size.x - 0.02 - kThick}) {
      for (const double y : {at.y + 0.02, at.y + size.y - 0.02 - kThick})
        box({x, y, at.z}, {x + kThick, y + kThick, at.z + size.z - kThick}, colour, false, false);
    }
  }

  void chair(Vec3 at, double back, Vec3 colour) {
    table(at, {0.45, 0.45, 0.45}, colour);
    box({at.x, at.y + back, at.z + 0.45}, {at.x + 0.45, at.y + back + 0.05, at.z + 0.95}, colour, false);
  }

  /// What stands in a room of 6 x 4.
  void furnish(Vec3 at) {
    table(at + Vec3{2.2, 1.4, 0}, {1.8, 1.0, 0.75}, kWood);
    chair(at + Vec3{2.5, 0.75, 0}, 0, kGreen);
    chair(at + Vec3{3.3, 2.6, 0}, 0.4, kGreen);
    box(at + Vec3{0, 2.4, 0}, at + Vec3{0.5, 3.7, 2.0}, kWhite, false);  // a cupboard
    box(at + Vec3{4.7, 0.5, 0}, at + Vec3{5.3, 1.1, 0.6}, kRed, false);  // a box, and a smaller one on it
    box(at + Vec3{4.85, 0.65, 0.6}, at + Vec3{5.15, 0.95, 0.95}, kWhite, false);
    box(at + Vec3{2.9, 1.8, 0.75}, at + Vec3{3.2, 2.0, 0.95}, kBlue, false);                                                 // on the table
    for (const double height : {0.9, 1.3, 1.7}) box(at + Vec3{4.0, 3.75, height}, at + Vec3{5.6, 4, height + 0.04}, kWood);  // shelves
  }

  std::vector<Patch> patches;

 private:
  void add(Vec3 corner, Vec3 u, Vec3 v, Vec3 reflectance, Vec3 emission = {}) { patches.push_back({corner, u, v, reflectance, emission}); }
};

}  // namespace

Model make_model(const std::string& name) {
  Builder builder;
  if (name == "room") {
    builder.shell({6, 4, 2.8}, 2, 1);
    builder.furnish({0, 0, 0});
    return {std::move(builder.patches), {{0.75, 0.3, 1.65}, {3.9, 2.6, 0.85}, 62}};
  }
  builder.shell({12, 8, 3}, 3, 2);
  for (const Vec3 at : {Vec3{0, 0, 0}, Vec3{6, 0, 0}, Vec3{0, 4, 0}, Vec3{6, 4, 0}}) builder.furnish(at);
  return {std::move(builder.patches), {{0.7, 0.4, 2.0}, {7, 5, 0.8}, 62}};
}

}  // namespace splash2::radiosity
