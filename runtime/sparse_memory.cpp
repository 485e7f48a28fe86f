#include "runtime/sparse_memory.hpp"

#include <sys/mman.h>

#include "runtime/ids.hpp"

namespace netvm {

SparseMemory::SparseMemory(std::uint64_t bytes) {
  if (bytes == 0) return;
  const std::uint64_t rounded = (bytes + kPageSize - 1) / kPageSize * kPageSize;
  void* data = ::mmap(nullptr, rounded, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (data == MAP_FAILED) return;
  // A huge page for one touched element would make sparse memory dense. Kernels without huge pages refuse; then none come.
  (void)::madvise(data, rounded, MADV_NOHUGEPAGE);
  data_ = static_cast<std::byte*>(data);
  bytes_ = rounded;
}

SparseMemory::~SparseMemory() {
  if (data_ != nullptr) ::munmap(data_, bytes_);
}

}  // namespace netvm
