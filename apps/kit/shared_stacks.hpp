// Stacks of threads in shared memory, homed at the node whose thread runs on them; used again by later threads of the node.
#pragma once

#include <cstddef>
#include <cstdint>

namespace netvm::detail {
struct Runtime;
}

namespace netvm::kit {

struct SharedStack {
  std::uintptr_t begin = 0;  ///< 0: there was no room
  std::uintptr_t end = 0;

  /// At least that large, with a page below that nobody may touch (where the trap allows it) and its upper part ready for system calls. in_runtime().
  static SharedStack take(detail::Runtime& runtime, std::size_t bytes);
  void give_back() const;
};

}  // namespace netvm::kit
