// Images that one can look at.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "apps/splash2/common/job.hpp"
#include "apps/splash2/common/vec3.hpp"

namespace splash2 {

/// A colour of an image: red, green, blue in the low three bytes, and 255 above them, so that a pixel that was never set shows.
using Pixel = std::uint32_t;

/// From components between 0 and 1 (beyond is clamped), with the gamma of screens.
Pixel pixel_of(Vec3 colour);

class Image {
 public:
  Image(std::size_t width, std::size_t height) : width_(width), height_(height), pixels_(width * height) {}
  [[nodiscard]] std::size_t width() const { return width_; }
  [[nodiscard]] std::size_t height() const { return height_; }
  [[nodiscard]] Pixel& at(std::size_t x, std::size_t y) { return pixels_[y * width_ + x]; }
  [[nodiscard]] Pixel at(std::size_t x, std::size_t y) const { return pixels_[y * width_ + x]; }
  /// Row by row, in hexadecimal: blue, green, red.
  void print() const;
  /// Writes a PNG; empty, or why it could not.
  [[nodiscard]] std::string write_png(const std::string& path) const;

 private:
  std::size_t width_;
  std::size_t height_;
  std::vector<Pixel> pixels_;
};

/// The self-test that every pixel was set.
Check all_set(const Image& image);
/// The reference: equal pixel by pixel.
Check compare(const Image& image, const Image& expected);
/// What --image asks for: writes the file if the name is not empty; a failure joins the checks.
void write_if_asked(const Image& image, const std::string& path, std::vector<Check>& checks);

/// The square tiles of an image, which are its tasks: numbered row by row, those at the right and lower edge may be smaller.
class Tiles {
 public:
  Tiles(std::size_t width, std::size_t height, std::size_t edge)
      : width_(width), height_(height), edge_(edge), across_((width + edge - 1) / edge), down_((height + edge - 1) / edge) {}
  [[nodiscard]] std::size_t count() const { return across_ * down_; }
  [[nodiscard]] std::size_t pixels_of_a_tile() const { return edge_ * edge_; }
  /// Calls f(x, y, place) for each pixel of a tile; `place` counts in a memory in which tiles follow each other.
  template <class F>
  void for_each_pixel(std::size_t tile, F f) const {
    const std::size_t left = tile % across_ * edge_;
    const std::size_t top = tile / across_ * edge_;
    for (std::size_t y = top; y < top + edge_ && y < height_; ++y) {
      for (std::size_t x = left; x < left + edge_ && x < width_; ++x) f(x, y, tile * pixels_of_a_tile() + (y - top) * edge_ + (x - left));
    }
  }
  /// The image whose pixels lie in `pixels`, tile by tile.
  [[nodiscard]] Image image_of(const Pixel* pixels) const {
    Image image(width_, height_);
    for (std::size_t tile = 0; tile < count(); ++tile)
      for_each_pixel(tile, [&](std::size_t x, std::size_t y, std::size_t place) { image.at(x, y) = pixels[place]; });
    return image;
  }

 private:
  std::size_t width_;
  std::size_t height_;
  std::size_t edge_;
  std::size_t across_;
  std::size_t down_;
};

}  // namespace splash2
