// How work and memory are divided among processors: contiguous parts, each on whole pages, so that with Placement::block() a part's
// pages have their home at the node whose thread owns the part, and no page is written by two nodes without need.
#pragma once

#include <cstddef>
#include <cstdint>

namespace splash2 {

inline constexpr std::size_t kPageBytes = 4096;

/// Rounds bytes up to whole pages.
constexpr std::size_t whole_pages(std::size_t bytes) { return (bytes + kPageBytes - 1) / kPageBytes * kPageBytes; }

/// [first, last) of `items` for part `part` of `parts`; sizes differ by at most one.
struct Part {
  std::size_t first = 0;
  std::size_t last = 0;
  [[nodiscard]] constexpr std::size_t size() const { return last - first; }
  static constexpr Part of(std::size_t items, int part, int parts) {
    const auto p = static_cast<std::size_t>(part);
    const auto n = static_cast<std::size_t>(parts);
    return {items * p / n, items * (p + 1) / n};
  }
};

}  // namespace splash2
