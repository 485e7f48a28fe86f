#include "apps/kit/file_area.hpp"

#include <sys/mman.h>

#include <atomic>
#include <cstdio>
#include <mutex>
#include <new>

#include "runtime/ids.hpp"

namespace netvm::kit {

namespace {

constexpr std::uintptr_t kBase =
    0x1f00'0000'0000;  // below the shared memory (dsm/api/job_runtime.hpp), far from what Linux chooses by itself
constexpr std::size_t kSlice = std::size_t{16} << 20;

struct FreeCell {
  FreeCell* next;
};

std::mutex g_mutex;
FreeCell* g_free = nullptr;  // under the mutex, as g_fresh
std::uintptr_t g_fresh = 0;  // cells from here on were never used
std::uintptr_t g_end = 0;    // of this node's slice
int g_node = 0;
std::atomic<std::size_t> g_bytes{0};  // of all slices; 0: not open

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
  g_node = node;
  g_bytes.store(bytes, std::memory_order_release);  // release: partner is node_of()
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

std::optional<int> FileArea::node_of(const void* at) {
  const std::uintptr_t into = reinterpret_cast<std::uintptr_t>(at) - kBase;
  if (into >= g_bytes.load(std::memory_order_acquire)) return std::nullopt;  // acquire: partner is open()'s release
  return static_cast<int>(into / kSlice);
}

bool FileArea::is_foreign(const void* file) {
  const std::optional<int> node = node_of(file);
  return node && *node != g_node;
}

}  // namespace netvm::kit
