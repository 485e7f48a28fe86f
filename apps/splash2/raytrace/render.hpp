// SPLASH-2's raytrace: an image of a scene, ray by ray (Singh, Gupta, Levoy, IEEE Computer 27, 1994; Woo et al., ISCA 1995).
//
// 1. The scene is read by all and written by nobody after it is filled. The image lies tile by tile; a tile is written by who renders it.
// 2. Tiles are the tasks: each processor has a contiguous part of them in its queue, and steals when it has no more (work_queues.hpp).
// 3. A pixel depends on the scene alone: the image is the same at any number of processors.
#pragma once

#include "apps/splash2/common/image.hpp"
#include "apps/splash2/common/work_queues.hpp"
#include "apps/splash2/raytrace/scene.hpp"

namespace splash2::raytrace {

struct View {
  std::size_t width = 256;
  std::size_t height = 256;
  int samples = 1;  ///< a side of a pixel
  int reflections = 5;
  std::size_t tile = 8;
};

/// Follows rays through a scene.
class Tracer {
 public:
  Tracer(const Scene& scene, const View& view);
  [[nodiscard]] Pixel pixel(std::size_t x, std::size_t y);
  /// Through the point (x, y) of the image, in pixels.
  [[nodiscard]] Ray ray_through(double x, double y) const;
  /// All kinds.
  [[nodiscard]] std::int64_t rays() const { return rays_; }

 private:
  Vec3 trace(const Ray& ray, int reflections);
  Vec3 lit(const Ray& ray, Vec3 at, Vec3 normal, const Material& material);

  const Scene& scene_;
  View view_;
  Vec3 forward_, right_, up_;
  std::int64_t rays_ = 0;
};

/// One picture by a team.
class Renderer {
 public:
  /// Collective, as the store is.
  Renderer(Store& store, Model model, const View& view);

  struct Result {
    ProcessorTime time;  ///< in all, and rendering (not waiting or looking for work)
    double rays = 0;     ///< of all members
    double stolen = 0;   ///< tiles
  };
  /// Every member.
  Result run(Team& team);

  [[nodiscard]] const Scene& scene() const { return scene_; }
  [[nodiscard]] Image image() const { return tiles_.image_of(pixels_); }

 private:
  View view_;
  Tiles tiles_;
  Scene scene_;
  WorkQueues queues_;
  Pixel* pixels_;
};

/// The boxes lose nothing: some rays hit what they hit when every primitive is tried.
Check check_boxes(const Scene& scene, const View& view);

}  // namespace splash2::raytrace
