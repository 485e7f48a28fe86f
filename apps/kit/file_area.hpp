// FileArea: the memory of every FILE that this node opens lies in a range of addresses that is this node's own, so the address of a FILE says which node
// opened it. A FILE is of use on that node only: its buffer and its descriptor are private to the process.
//
// Invariants
//  1. Node n's FILEs lie in slice n of the area, at the same addresses in all processes. A node has rights to its own slice only, so
//     what reads another node's FILE without a call that is looked at (stdio_calls.cpp), such as an inlined putc_unlocked(), crashes and is told what it read.
//  2. Blocks are cells of one size. What is larger than a FILE, or finds the slice full, comes from the C library's heap as ever, and is not recognised.
// Threads: any; node_of() also in a signal handler.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <optional>

#include "apps/kit/thread_state.hpp"

namespace netvm::kit {

class FileArea {
 public:
  static constexpr std::size_t kCell = 1024;  ///< the C library's FILE with its lock and what wide characters need is about 560 bytes

  /// Where the system has something else at those addresses, no FILE of this node lies in the area, and none is recognised here.
  static void open(int node, int nodes);

  /// While one lives, the calling thread is in a call of the C library that opens a FILE: what that allocates may be one.
  class Opening {
   public:
    Opening() { ++t_state.opening; }
    ~Opening() { --t_state.opening; }
    Opening(const Opening&) = delete;
    Opening& operator=(const Opening&) = delete;
  };

  /// Memory for a FILE. Null: that size is none of a FILE's, or there is no room. in_runtime().
  static void* take(std::size_t bytes);
  /// False: it is not of this area.
  static bool give_back(void* memory);
  [[nodiscard]] static bool contains(const void* memory) { return node_of(memory).has_value(); }
  /// Which node's FILE lies at that address; nothing: none of the area.
  [[nodiscard]] static std::optional<int> node_of(const void* at) {
    const std::uintptr_t into = reinterpret_cast<std::uintptr_t>(at) - kBase;
    if (into >= bytes_.load(std::memory_order_acquire)) return std::nullopt;  // acquire: partner is open()'s release
    return static_cast<int>(into / kSlice);
  }
  /// Whether another node has opened that file, or it is the standard input elsewhere than on node 0.
  [[nodiscard]] static bool is_foreign(const void* file) {
    const std::optional<int> node = node_of(file);
    return node ? *node != node_ : file == stdin && node_ != 0;
  }

 private:
  static constexpr std::uintptr_t kBase =
      0x1f00'0000'0000;  // below the shared memory (dsm/api/job_runtime.hpp), far from what Linux chooses by itself
  static constexpr std::size_t kSlice = std::size_t{16} << 20;

  static inline int node_ = 0;
  static inline std::atomic<std::size_t> bytes_{0};  // of all slices; 0: not open
};

}  // namespace netvm::kit
