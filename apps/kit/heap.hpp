// Heap: malloc() in shared memory, for all nodes. Each node cuts small blocks out of chunks of its own; large ones are allocations of the DSM.
//
// A block may be freed by any node, which keeps it for its own next allocations: nobody owns pages, and who frees a block knows of all that was done with it
// before, or the program races. A node that frees more than it allocates gives blocks to common lists in shared memory, where others find them.
//
// Invariants
//  1. In front of each block lies its header, written before the block is handed out: its class, and where the block begins (aligned ones begin before).
//  2. What a node knows of free blocks lies in private memory, under a lock of their class; the common lists are threads through the blocks
//     themselves, under a mutex between the nodes.
//  3. A header says live or free: what is not live cannot be freed.
// Threads: any, on private stacks (in_runtime()). May block.
// After Hoard (Berger et al. 2000): per-node heaps, a common one that bounds what they keep.
#pragma once

#include <cstddef>
#include <cstdint>

namespace netvm::detail {
struct Runtime;
}

namespace netvm::kit {

class Heap {
 public:
  /// Collective.
  static void open(detail::Runtime& runtime);
  [[nodiscard]] static bool is_open();

  /// Null: there is no room. `alignment` is a power of two.
  static void* allocate(std::size_t bytes, std::size_t alignment, bool zeroed);
  /// False: no block begins there (freed twice, or a pointer into the middle).
  [[nodiscard]] static bool free(void* memory);
  /// Bytes from there to the end of the block; 0: no block begins there.
  [[nodiscard]] static std::size_t usable(const void* memory);
  /// Whether the address lies in shared memory. Any stack.
  [[nodiscard]] static bool is_shared(const void* memory);
};

}  // namespace netvm::kit
