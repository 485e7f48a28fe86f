#include "apps/splash2/common/layout.hpp"

#include <numeric>

namespace splash2 {

void LayoutOptions::add_to(Options& options) {
  options.choice("--placement", placement, {"owner", "cyclic", "first-touch", "one-node"},
                 "Homes of the shared pages: where their processor is, in turn, where they are touched first, or all at node 0.");
  options.choice("--padding", padding, {"pages", "none"}, "Whether the data of each processor begin on a page of their own.");
}

netvm::AllocationOptions LayoutOptions::allocation(netvm::Consistency needs) const {
  netvm::AllocationOptions options{.placement = netvm::Placement::block()};
  if (placement == "cyclic") options.placement = netvm::Placement::cyclic();
  if (placement == "first-touch") options.placement = netvm::Placement::first_touch();
  if (placement == "one-node") options.placement = netvm::Placement::at(0);
  options.needs = needs;
  return options;
}

std::size_t LayoutOptions::padded(std::size_t count, std::size_t bytes) const {
  if (padding != "pages") return count;
  const std::size_t unit = std::lcm(bytes, kPageBytes) / bytes;  // objects that fill whole pages
  return (count + unit - 1) / unit * unit;
}

}  // namespace splash2
