#include "apps/splash2/common/image.hpp"

#include <fmt/format.h>
#include <png.h>

#include <algorithm>
#include <cmath>

namespace splash2 {

Pixel pixel_of(Vec3 colour) {
  Pixel pixel = 0xff000000U;
  for (int channel = 0; channel < 3; ++channel) {
    const double shown = std::pow(std::clamp(colour[channel], 0.0, 1.0), 1 / 2.2);
    pixel |= static_cast<Pixel>(std::lround(255 * shown)) << (8 * channel);
  }
  return pixel;
}

void Image::print() const {
  for (std::size_t y = 0; y < height_; ++y) {
    for (std::size_t x = 0; x < width_; ++x) fmt::print("{:06x} ", at(x, y) & 0xffffffU);
    fmt::print("\n");
  }
}

std::string Image::write_png(const std::string& path) const {
  std::vector<std::uint8_t> bytes;
  bytes.reserve(3 * pixels_.size());
  for (const Pixel pixel : pixels_) {
    for (const int shift : {0, 8, 16}) bytes.push_back(static_cast<std::uint8_t>(pixel >> shift));
  }
  png_image png{};
  png.version = PNG_IMAGE_VERSION;
  png.width = static_cast<png_uint_32>(width_);
  png.height = static_cast<png_uint_32>(height_);
  png.format = PNG_FORMAT_RGB;
  if (png_image_write_to_file(&png, path.c_str(), 0, bytes.data(), 0, nullptr) != 0) return {};
  return fmt::format("cannot write {}: {}", path, png.message);
}

Check all_set(const Image& image) {
  std::size_t missing = 0;
  for (std::size_t y = 0; y < image.height(); ++y) {
    for (std::size_t x = 0; x < image.width(); ++x) missing += image.at(x, y) >> 24U != 255U ? 1 : 0;
  }
  return {"complete", missing == 0,
          missing == 0 ? fmt::format("all {} pixels are set", image.width() * image.height())
                       : fmt::format("{} pixels were never set", missing)};
}

Check compare(const Image& image, const Image& expected) {
  std::size_t different = 0;
  std::string first;
  for (std::size_t y = 0; y < image.height(); ++y) {
    for (std::size_t x = 0; x < image.width(); ++x) {
      if (image.at(x, y) != expected.at(x, y) && different++ == 0)
        first = fmt::format("({}, {}): {:08x} instead of {:08x}", x, y, image.at(x, y), expected.at(x, y));
    }
  }
  return {"reference", different == 0,
          different == 0 ? std::string("equal to the sequential run's image, pixel by pixel")
                         : fmt::format("{} pixels differ from the sequential run's, the first at {}", different, first)};
}

void write_if_asked(const Image& image, const std::string& path, std::vector<Check>& checks) {
  if (path.empty()) return;
  const std::string wrong = image.write_png(path);
  if (wrong.empty()) {
    fmt::print("  image: {}\n", path);
  } else {
    checks.push_back({"image", false, wrong});
  }
}

}  // namespace splash2
