// Heap: malloc() in shared memory, for all nodes. Each node cuts small blocks out of chunks of its own; large ones are allocations of the DSM.
//
// A block may be freed by any node, which keeps it for its own next allocations: nobody owns pages, and who frees a block knows of all that was done with it
// before, or the program races. A node that frees more than it allocates gives blocks to common lists in shared memory, where others find them.
//
// Invariants
//  1. In front of each block lies its header, written before the block is handed out: its class, and where the block begins (aligned ones begin before).
//  2. What a node knows of free blocks lies in private memory, under a lock of their class; the common lists are threads through the blocks
//     themselves, under a mutex between the nodes.
//  3. A header says live or free: what is not live cannot be freed. It also says which code of the program asked, for messages.
// Threads: any, on private stacks (in_runtime()). May block.
// After Hoard (Berger et al. 2000): per-node heaps, a common one that bounds what they keep.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>

namespace netvm::kit {

/// Where the heap's memory comes from. The same addresses mean the same memory to all nodes.
class HeapMemory {
 public:
  HeapMemory() = default;
  HeapMemory(const HeapMemory&) = delete;
  HeapMemory& operator=(const HeapMemory&) = delete;
  virtual ~HeapMemory() = default;
  /// Whole pages, zeroed. Null: there is no room.
  virtual std::byte* take(std::size_t bytes, std::size_t alignment) = 0;
  [[nodiscard]] virtual bool give_back(std::byte* pages) = 0;
  [[nodiscard]] virtual bool contains(const void* at) const = 0;
  /// The mutex between nodes that this word of the memory names.
  virtual void lock(const std::uint64_t* word) = 0;
  virtual void unlock(const std::uint64_t* word) = 0;
};

class Heap {
 public:
  /// `common` is zeroed memory of common_bytes(), the same on all nodes. Both outlive the heap.
  static void open(HeapMemory& memory, void* common);
  [[nodiscard]] static std::size_t common_bytes();
  [[nodiscard]] static bool is_open();

  /// Null: there is no room. `alignment` is a power of two. `code`: where the program asks.
  static void* allocate(std::size_t bytes, std::size_t alignment, bool zeroed, const void* code = nullptr);
  /// False: no block begins there (freed twice, or a pointer into the middle).
  [[nodiscard]] static bool free(void* memory);
  /// Bytes from there to the end of the block; 0: no block begins there.
  [[nodiscard]] static std::size_t usable(const void* memory);
  /// Whether the address lies in shared memory. Any stack.
  [[nodiscard]] static bool is_shared(const void* memory);

  struct Block {
    const std::byte* begin;
    std::size_t bytes;
    std::uintptr_t code;  ///< that asked; 0: unknown
  };
  /// The small block that is in use there, found by its header: for messages, for what the program writes may look like one. Reads the memory before `at`.
  [[nodiscard]] static std::optional<Block> find(const void* at);
};

}  // namespace netvm::kit
