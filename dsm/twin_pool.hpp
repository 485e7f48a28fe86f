// TwinPool: buffers for twins, of 1, 2, 4, 8 or 16 pages, recycled. Grows in chunks and keeps them: a program that wrote much once will again.
// Threads: any; never blocks.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "dsm/extent.hpp"
#include "runtime/env.hpp"
#include "runtime/ids.hpp"

namespace netvm::dsm {

class TwinPool {
 public:
  TwinPool() = default;
  ~TwinPool();
  TwinPool(const TwinPool&) = delete;
  TwinPool& operator=(const TwinPool&) = delete;

  /// A buffer of kPageSize << unit_shift bytes, page aligned, content undefined.
  [[nodiscard]] std::byte* take(std::uint8_t unit_shift = 0);
  void give(std::byte* twin, std::uint8_t unit_shift = 0);

  /// Bytes of the twins in use now, and the most there ever were.
  [[nodiscard]] std::uint64_t bytes_in_use() const;
  [[nodiscard]] std::uint64_t peak_bytes() const;

 private:
  static constexpr std::size_t kChunkPages = 64;
  void grow(std::uint8_t unit_shift);  // lock_ held

  mutable SpinLock lock_;
  std::array<std::vector<std::byte*>, kMaxUnitShift + 1> free_;  // by unit_shift
  std::vector<std::byte*> chunks_;
  std::uint64_t pages_in_use_ = 0;
  std::uint64_t peak_pages_ = 0;
};

}  // namespace netvm::dsm
