// Scenes that we make ourselves, from no file and with fixed seeds, and how they look.
#pragma once

#include <string>
#include <vector>

#include "apps/splash2/common/team.hpp"
#include "apps/splash2/raytrace/geometry.hpp"

namespace splash2::raytrace {

struct Material {
  Vec3 colour;
  Vec3 other;          ///< of every second square, if squares > 0
  double squares = 0;  ///< edge
  double diffuse = 0.7;
  double shine = 0.4;
  double sharpness = 60;
  double mirror = 0;  ///< share of the light that is reflected
};

struct Light {
  Vec3 at;
  Vec3 colour;
};

struct Camera {
  Vec3 at;
  Vec3 towards;
  double field = 45;  ///< degrees of the image's height
};

/// What a scene is made of, in private memory.
struct Model {
  std::vector<Primitive> primitives;
  std::vector<Material> materials;
  std::vector<Light> lights;
  Camera camera;
};

/// "balls": a ball with nine smaller balls upon it, each with nine upon it..., `detail` times, on a chequered floor (4: 7,381 balls, as in the
/// suite's scene balls4). "land": hills of 2 x (16 x 2^detail)^2 triangles with mirrors above.
Model make_model(const std::string& name, int detail);

/// A scene where all processors can read it: primitives in the order of their boxes, boxes, materials.
class Scene {
 public:
  /// Collective, as the store is. Every node makes the model (its size must be known), one processor copies it: fill().
  Scene(Store& store, Model model);
  /// One member calls; a barrier must follow.
  void fill() const;

  [[nodiscard]] std::span<const Primitive> primitives() const { return {primitives_, model_.primitives.size()}; }
  [[nodiscard]] const Box* boxes() const { return boxes_; }
  [[nodiscard]] const Material& material(std::int64_t index) const { return materials_[index]; }
  [[nodiscard]] const std::vector<Light>& lights() const { return model_.lights; }
  [[nodiscard]] const Camera& camera() const { return model_.camera; }

 private:
  Model model_;
  std::vector<Box> own_boxes_;
  Primitive* primitives_;
  Box* boxes_;
  Material* materials_;
};

}  // namespace splash2::raytrace
