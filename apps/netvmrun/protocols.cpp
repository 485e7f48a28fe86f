#include <string_view>
#include <vector>

#include "apps/netvmrun/options.hpp"
#include "dsm/protocol.hpp"

namespace netvm::run {

std::vector<std::string_view> protocol_names() {
  std::vector<std::string_view> names;
  for (const auto& entry : dsm::protocols()) names.push_back(entry.traits.name);
  return names;
}

}  // namespace netvm::run
