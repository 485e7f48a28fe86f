#include "apps/kit/file_area.hpp"

#include <sys/mman.h>

#include <cstdio>
#include <mutex>
#include <new>

#include "runtime/ids.hpp"

namespace netvm::kit {

namespace {

struct FreeCell {
  FreeCell* next;
};

std::mutex g_mutex;
FreeCell* g_free = nullptr;  // under the mutex, as g_fresh
std::uintptr_t g_fresh = 0;  // cells from here on were never used
std::uintptr_t g_end = 0;    // of this node's slice

}  // namespace

void FileArea::open(int node, int nodes) {
  const std::size_t bytes = static_cast<std::size_t>(nodes) * kSlice;
  constexpr int kFlags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE;
  void* const wanted = reinterpret_cast<void*>(kBase);
  void* const at = ::mmap(wanted, bytes, PROT_NONE, kFlags, -1, 0);
  if (at == MAP_FAILED) return;
  const std::uintptr_t mine = kBase + static_cast<std::size_t>(node) * kSlice;
  if (at != wanted ||
      ::mprotect(reinterpret_cast<void*>(mine), kSlice, PROT_READ | PROT_WRITE) != 0) {  // old kernels take the address for a hint
    ::munmap(at, bytes);
    return;
  }
  g_fresh = mine;
  g_end = mine + kSlice;
  node_ = node;
  bytes_.store(bytes, std::memory_order_release);  // release: partner is node_of()
}

void* FileArea::take(std::size_t bytes) {
  if (bytes < sizeof(FILE) || bytes > kCell) return nullptr;
  const std::lock_guard guard(g_mutex);
  if (FreeCell* const cell = g_free; cell != nullptr) {
    g_free = cell->next;
    return cell;
  }
  if (g_fresh == g_end) return nullptr;
  void* const cell = reinterpret_cast<void*>(g_fresh);
  g_fresh += kCell;
  return cell;
}

bool FileArea::give_back(void* memory) {
  if (!contains(memory)) return false;
  const std::lock_guard guard(g_mutex);
  g_free = new (memory) FreeCell{g_free};
  return true;
}

}  // namespace netvm::kit
