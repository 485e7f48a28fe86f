// TwinPool: page-sized buffers for twins, recycled. Grows in chunks and keeps them: a program that wrote much once will again.
// Threads: any; never blocks.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "runtime/env.hpp"
#include "runtime/ids.hpp"

namespace netvm::dsm {

class TwinPool {
 public:
  TwinPool() = default;
  ~TwinPool();
  TwinPool(const TwinPool&) = delete;
  TwinPool& operator=(const TwinPool&) = delete;

  /// A buffer of kPageSize bytes, page aligned, content undefined.
  [[nodiscard]] std::byte* take();
  void give(std::byte* twin);

  /// Twins in use now, and the most there ever were.
  [[nodiscard]] std::uint64_t in_use() const;
  [[nodiscard]] std::uint64_t peak() const;

 private:
  static constexpr std::size_t kChunkPages = 64;
  void grow();  // lock_ held

  mutable SpinLock lock_;
  std::vector<std::byte*> free_;
  std::vector<std::byte*> chunks_;
  std::uint64_t in_use_ = 0;
  std::uint64_t peak_ = 0;
};

}  // namespace netvm::dsm
