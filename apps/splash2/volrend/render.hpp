// SPLASH-2's volrend: a volume, seen by rays that pass through it (Nieh, Levoy, 1992; Singh, Gupta, Levoy, IEEE Computer 27, 1994; Woo et al., 1995).
//
// 1. Rays are parallel and are sampled once a voxel's edge. Samples collect colour and opacity from the front; a ray ends when it is nearly opaque, and
//    leaps over bricks in which everything is transparent. Leaping leaves samples out and moves none, so that it does not change a pixel.
// 2. The volume turns a little from frame to frame. Tiles of a frame are the tasks, in a queue a processor, with stealing (work_queues.hpp).
// 3. A pixel depends on the volume alone: frames are the same at any number of processors.
#pragma once

#include "apps/splash2/common/image.hpp"
#include "apps/splash2/common/work_queues.hpp"
#include "apps/splash2/volrend/volume.hpp"

namespace splash2::volrend {

struct View {
  std::size_t volume = 96;  ///< voxels a side
  std::size_t pixels = 256;
  int frames = 4;
  double turn = 10;  ///< degrees from frame to frame
  std::size_t tile = 8;
};

class Caster {
 public:
  Caster(const Volume& volume, const View& view, int frame);
  [[nodiscard]] Pixel pixel(std::size_t x, std::size_t y, bool leap = true);
  [[nodiscard]] std::int64_t samples() const { return samples_; }

 private:
  /// Adds what a sample sees to colour and opacity.
  void shade(Vec3 at, double density, Vec3& colour, double& opacity) const;
  [[nodiscard]] double steps_to_leave(const Volume::Brick& brick, Vec3 at) const;

  const Volume& volume_;
  View view_;
  Vec3 forward_, right_, up_;
  std::int64_t samples_ = 0;
};

class Renderer {
 public:
  /// Collective, as the store is.
  Renderer(Store& store, const View& view);

  struct Result {
    ProcessorTime time;  ///< all frames, and casting rays in them
    double samples = 0;  ///< of all members
    double stolen = 0;   ///< tiles, in the last frame
  };
  /// Every member.
  Result run(Team& team);

  [[nodiscard]] const Volume& volume() const { return volume_; }
  [[nodiscard]] Image image(int frame) const { return tiles_.image_of(frame_pixels(frame)); }

 private:
  [[nodiscard]] Pixel* frame_pixels(int frame) const {
    return pixels_ + static_cast<std::size_t>(frame) * tiles_.count() * tiles_.pixels_of_a_tile();
  }

  View view_;
  Tiles tiles_;
  Volume volume_;
  WorkQueues queues_;
  Pixel* pixels_;
};

/// Leaping changes nothing: some rays give what they give when every sample is taken.
Check check_leaps(const Volume& volume, const View& view);

}  // namespace splash2::volrend
