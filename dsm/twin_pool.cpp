#include "dsm/twin_pool.hpp"

#include <algorithm>
#include <mutex>
#include <new>

#include "runtime/check.hpp"

namespace netvm::dsm {

TwinPool::~TwinPool() {
  for (std::byte* chunk : chunks_) ::operator delete (chunk, std::align_val_t{kPageSize});
}

void TwinPool::grow(std::uint8_t unit_shift) {
  auto* chunk = static_cast<std::byte*>(::operator new (kChunkPages* kPageSize, std::align_val_t{kPageSize}));
  chunks_.push_back(chunk);
  // From the back, so that buffers are handed out in ascending order.
  for (std::size_t i = kChunkPages >> unit_shift; i-- > 0;) free_[unit_shift].push_back(chunk + (i << unit_shift) * kPageSize);
}

std::byte* TwinPool::take(std::uint8_t unit_shift) {
  const std::scoped_lock guard(lock_);
  std::vector<std::byte*>& free = free_[unit_shift];
  if (free.empty()) grow(unit_shift);
  std::byte* twin = free.back();
  free.pop_back();
  pages_in_use_ += std::uint64_t{1} << unit_shift;
  peak_pages_ = std::max(peak_pages_, pages_in_use_);
  return twin;
}

void TwinPool::give(std::byte* twin, std::uint8_t unit_shift) {
  const std::scoped_lock guard(lock_);
  NETVM_CHECK(pages_in_use_ >= std::uint64_t{1} << unit_shift, "a twin is given back that was never taken");
  pages_in_use_ -= std::uint64_t{1} << unit_shift;
  free_[unit_shift].push_back(twin);
}

std::uint64_t TwinPool::bytes_in_use() const {
  const std::scoped_lock guard(lock_);
  return pages_in_use_ * kPageSize;
}

std::uint64_t TwinPool::peak_bytes() const {
  const std::scoped_lock guard(lock_);
  return peak_pages_ * kPageSize;
}

}  // namespace netvm::dsm
