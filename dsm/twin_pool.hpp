// TwinPool: buffers for twins, of 1, 2, 4, 8 or 16 pages, recycled. Grows in chunks and keeps their addresses: a program that wrote much once will again.
//
// Invariants
//  1. Under a memory budget the pages of the twins in use are charged to it (HostVm::charge): frames make room for them.
//  2. Under a budget the memory of buffers that nobody uses goes back to the system, but for a 32nd of the budget, which waits to be used again.
// Threads: any; never blocks.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "dsm/extent.hpp"
#include "runtime/env.hpp"
#include "runtime/host_vm.hpp"
#include "runtime/ids.hpp"

namespace netvm::dsm {

class TwinPool {
 public:
  /// `vm`: whose budget, if it has one, counts the twins; null: nobody's. It outlives this.
  explicit TwinPool(HostVm* vm = nullptr);
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
  /// Of one size: those with memory, last given first, and those without.
  struct Free {
    std::vector<std::byte*> warm;
    std::vector<std::byte*> cold;
  };
  void grow(std::uint8_t unit_shift);  // lock_ held

  HostVm* const vm_;  // null: no budget
  const std::uint64_t most_warm_;
  mutable SpinLock lock_;
  std::array<Free, kMaxUnitShift + 1> free_;  // by unit_shift
  std::vector<std::byte*> chunks_;
  std::uint64_t warm_pages_ = 0;
  std::uint64_t pages_in_use_ = 0;
  std::uint64_t peak_pages_ = 0;
};

}  // namespace netvm::dsm
