// Memory budget: how little of it a node can do with (NETVM_MEMORY).
#pragma once

#include <cstdint>

#include "runtime/ids.hpp"

namespace netvm {

/// In pages. A thread can have a page fault with the few pages that its access and its protocol need; the rest is for those who do not wait meanwhile.
[[nodiscard]] constexpr std::uint64_t least_budget_pages(std::uint32_t threads) {
  constexpr std::uint64_t kLeast = 64;
  constexpr std::uint64_t kLeastPerThread = 16;
  return kLeast + kLeastPerThread * threads;
}

}  // namespace netvm
