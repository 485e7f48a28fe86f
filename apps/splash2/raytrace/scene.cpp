#include "apps/splash2/raytrace/scene.hpp"

#include <algorithm>
#include <cmath>

#include "apps/splash2/common/random.hpp"

namespace splash2::raytrace {

namespace {

Primitive ball(Vec3 centre, double radius, std::int64_t material) {
  Primitive primitive;
  primitive.a = centre;
  primitive.radius = radius;
  primitive.material = material;
  return primitive;
}

Primitive triangle(Vec3 a, Vec3 b, Vec3 c, std::int64_t material) { return {a, b, c, 0, material}; }

/// Six balls round the equator and three above it, each a third as large.
void add_balls(Model& model, Vec3 centre, double radius, Vec3 up, int level, int levels) {
  model.primitives.push_back(ball(centre, radius, 1 + level % 3));
  if (level == levels) return;
  const Vec3 side = normalized(cross(up, std::abs(up.x) < 0.9 ? Vec3{1, 0, 0} : Vec3{0, 1, 0}));
  const Vec3 front = cross(up, side);
  for (int child = 0; child < 9; ++child) {
    const double height = child < 6 ? 0 : M_PI / 3;
    const double angle = child < 6 ? child * M_PI / 3 : (child - 6) * 2 * M_PI / 3 + M_PI / 6;
    const Vec3 direction = (side * std::cos(angle) + front * std::sin(angle)) * std::cos(height) + up * std::sin(height);
    add_balls(model, centre + direction * (radius * 4 / 3), radius / 3, direction, level + 1, levels);
  }
}

Model make_balls(int detail) {
  Model model;
  model.materials = {{{0.85, 0.8, 0.7}, {0.25, 0.28, 0.3}, 1, 0.8, 0.1, 20, 0.1},
                     {{0.75, 0.3, 0.15}, {}, 0, 0.6, 0.5, 80, 0.25},
                     {{0.8, 0.65, 0.3}, {}, 0, 0.6, 0.5, 80, 0.25},
                     {{0.25, 0.45, 0.65}, {}, 0, 0.6, 0.5, 80, 0.25}};
  model.primitives = {triangle({-12, -12, -1}, {12, -12, -1}, {12, 12, -1}, 0), triangle({-12, -12, -1}, {12, 12, -1}, {-12, 12, -1}, 0)};
  add_balls(model, {0, 0, 0}, 0.8, {0, 0, 1}, 0, detail);
  model.lights = {{{4, -3, 6}, {0.8, 0.8, 0.75}}, {{-5, -4, 3}, {0.3, 0.3, 0.4}}, {{1, 6, 5}, {0.2, 0.2, 0.2}}};
  model.camera = {{1.6, -4.2, 1.9}, {0, 0, 0.1}, 38};
  return model;
}

/// Waves of falling length with mixed phases.
double height_of_land(double x, double y) {
  double height = 0;
  for (int wave = 0; wave < 12; ++wave) {
    const auto number = static_cast<std::uint64_t>(wave);
    const double direction = 2 * M_PI * uniform_unit(mix64(8, 2 * number));
    const double phase = 2 * M_PI * uniform_unit(mix64(8, 2 * number + 1));
    const double frequency = 0.6 * std::pow(1.45, wave);
    height += 0.45 / frequency * std::sin(frequency * (x * std::cos(direction) + y * std::sin(direction)) + phase);
  }
  return height;
}

Model make_land(int detail) {
  Model model;
  model.materials = {{{0.4, 0.55, 0.25}, {0.45, 0.42, 0.3}, 0.5, 0.9, 0, 1, 0},
                     {{0.9, 0.9, 0.95}, {}, 0, 0.15, 0.8, 200, 0.8},
                     {{0.8, 0.35, 0.2}, {}, 0, 0.6, 0.5, 60, 0.2}};
  const int cells = 16 << detail;
  const double edge = 16.0 / cells;
  const auto corner = [&](int i, int j) {
    const double x = -8 + i * edge;
    const double y = -8 + j * edge;
    return Vec3{x, y, height_of_land(x, y)};
  };
  for (int i = 0; i < cells; ++i) {
    for (int j = 0; j < cells; ++j) {
      model.primitives.push_back(triangle(corner(i, j), corner(i + 1, j), corner(i + 1, j + 1), 0));
      model.primitives.push_back(triangle(corner(i, j), corner(i + 1, j + 1), corner(i, j + 1), 0));
    }
  }
  Sequence random(9);
  for (int i = 0; i < 24; ++i) {
    const Vec3 at{random.between(-5, 5), random.between(-5, 5), 0};
    const double radius = random.between(0.2, 0.7);
    model.primitives.push_back(ball({at.x, at.y, height_of_land(at.x, at.y) + radius}, radius, 1 + i % 2));
  }
  model.lights = {{{-10, -4, 12}, {1.0, 0.95, 0.85}}};
  model.camera = {{0, -9, 4.5}, {0, 0, 0}, 45};
  return model;
}

}  // namespace

Model make_model(const std::string& name, int detail) { return name == "land" ? make_land(detail) : make_balls(detail); }

Scene::Scene(Store& store, Model model)
    : model_(std::move(model)),
      own_boxes_(make_boxes(model_.primitives)),
      primitives_(store.array<Primitive>(model_.primitives.size())),
      boxes_(store.array<Box>(own_boxes_.size())),
      materials_(store.array<Material>(model_.materials.size())) {}

void Scene::fill() const {
  std::copy(model_.primitives.begin(), model_.primitives.end(), primitives_);
  std::copy(own_boxes_.begin(), own_boxes_.end(), boxes_);
  std::copy(model_.materials.begin(), model_.materials.end(), materials_);
}

}  // namespace splash2::raytrace
