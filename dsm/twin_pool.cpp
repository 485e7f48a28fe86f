#include "dsm/twin_pool.hpp"

#include <sys/mman.h>

#include <algorithm>
#include <mutex>
#include <new>

#include "runtime/check.hpp"

namespace netvm::dsm {

TwinPool::TwinPool(HostVm* vm)
    : vm_(vm != nullptr && vm->has_budget() ? vm : nullptr), most_warm_(vm_ != nullptr ? vm_->budget_pages() / 32 : UINT64_MAX) {}

TwinPool::~TwinPool() {
  for (std::byte* chunk : chunks_) ::operator delete (chunk, std::align_val_t{kPageSize});
}

void TwinPool::grow(std::uint8_t unit_shift) {
  auto* chunk = static_cast<std::byte*>(::operator new (kChunkPages* kPageSize, std::align_val_t{kPageSize}));
  chunks_.push_back(chunk);
  // From the back, so that buffers are handed out in ascending order.
  for (std::size_t i = kChunkPages >> unit_shift; i-- > 0;) free_[unit_shift].cold.push_back(chunk + (i << unit_shift) * kPageSize);
}

std::byte* TwinPool::take(std::uint8_t unit_shift) {
  const std::uint64_t pages = std::uint64_t{1} << unit_shift;
  if (vm_ != nullptr) vm_->charge(static_cast<std::int64_t>(pages));
  const std::scoped_lock guard(lock_);
  Free& free = free_[unit_shift];
  if (free.warm.empty() && free.cold.empty()) grow(unit_shift);
  std::vector<std::byte*>& from = free.warm.empty() ? free.cold : free.warm;
  if (&from == &free.warm) warm_pages_ -= pages;
  std::byte* twin = from.back();
  from.pop_back();
  pages_in_use_ += pages;
  peak_pages_ = std::max(peak_pages_, pages_in_use_);
  return twin;
}

void TwinPool::give(std::byte* twin, std::uint8_t unit_shift) {
  const std::uint64_t pages = std::uint64_t{1} << unit_shift;
  bool warm = false;
  {
    const std::scoped_lock guard(lock_);
    NETVM_CHECK(pages_in_use_ >= pages, "a twin is given back that was never taken");
    pages_in_use_ -= pages;
    warm = warm_pages_ + pages <= most_warm_;
    if (warm) {
      warm_pages_ += pages;
      free_[unit_shift].warm.push_back(twin);
    }
  }
  if (!warm) {  // no system call under the lock
    (void)::madvise(twin, pages * kPageSize, MADV_DONTNEED);
    const std::scoped_lock guard(lock_);
    free_[unit_shift].cold.push_back(twin);
  }
  if (vm_ != nullptr) vm_->charge(-static_cast<std::int64_t>(pages));
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
