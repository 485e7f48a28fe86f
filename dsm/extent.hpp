// Extent: a run of whole pages that one protocol and one placement govern. A large allocation is an extent of its own; small ones share
// extents called slabs, cut into slots of one size.
#pragma once

#include <cstdint>

#include "dsm/dsm.hpp"
#include "runtime/ids.hpp"

namespace netvm::dsm {

struct Extent {
  PageRange pages;
  std::uint64_t serial = 0;      ///< never used twice: tells an extent from a later one at the same place
  std::uint64_t bytes = 0;       ///< asked for (large), or the whole slab
  std::uint32_t slot_bytes = 0;  ///< 0: large
  std::uint32_t owner = 0;       ///< slabs with first touch: the node whose small objects live here
  std::uint32_t home = 0;        ///< Placement::at_node
  std::uint8_t protocol = 0;     ///< index into protocols()
  Placement placement = Placement::first_touch;
  std::uint8_t reserved[2] = {};  ///< no padding: extents travel as bytes

  [[nodiscard]] bool is_slab() const { return slot_bytes != 0; }
  [[nodiscard]] std::uint64_t slots_per_page() const { return kPageSize / slot_bytes; }
  friend bool operator==(const Extent&, const Extent&) = default;
};

}  // namespace netvm::dsm
