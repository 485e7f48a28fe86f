#include "dsm/twin_pool.hpp"

#include <algorithm>
#include <mutex>
#include <new>

#include "runtime/check.hpp"

namespace netvm::dsm {

TwinPool::~TwinPool() {
  for (std::byte* chunk : chunks_) ::operator delete (chunk, std::align_val_t{kPageSize});
}

void TwinPool::grow() {
  auto* chunk = static_cast<std::byte*>(::operator new (kChunkPages* kPageSize, std::align_val_t{kPageSize}));
  chunks_.push_back(chunk);
  // From the back, so that buffers are handed out in ascending order.
  for (std::size_t i = kChunkPages; i-- > 0;) free_.push_back(chunk + i * kPageSize);
}

std::byte* TwinPool::take() {
  const std::scoped_lock guard(lock_);
  if (free_.empty()) grow();
  std::byte* twin = free_.back();
  free_.pop_back();
  peak_ = std::max(peak_, ++in_use_);
  return twin;
}

void TwinPool::give(std::byte* twin) {
  const std::scoped_lock guard(lock_);
  NETVM_CHECK(in_use_ > 0, "a twin is given back that was never taken");
  --in_use_;
  free_.push_back(twin);
}

std::uint64_t TwinPool::in_use() const {
  const std::scoped_lock guard(lock_);
  return in_use_;
}

std::uint64_t TwinPool::peak() const {
  const std::scoped_lock guard(lock_);
  return peak_;
}

}  // namespace netvm::dsm
