// What the stories of redirect share.
#pragma once

#include <cstddef>
#include <vector>

#include "tests/support/nic_paging.hpp"
#include "tests/support/nic_world.hpp"

namespace netvm::test {

inline NicWorldOptions in_order() {
  NicWorldOptions options;
  options.network.in_order = true;
  return options;
}

inline std::vector<std::byte> bytes_of(std::size_t count, unsigned salt) {
  std::vector<std::byte> out(count);
  for (std::size_t i = 0; i < count; ++i) out[i] = static_cast<std::byte>(i * 37 + i / 241 + salt);
  return out;
}

}  // namespace netvm::test
