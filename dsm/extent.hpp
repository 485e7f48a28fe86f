// Extent: a run of whole coherence units that one protocol and one placement govern. A large allocation is an extent of its own; small ones
// share extents called slabs, cut into slots of one size.
//
// A coherence unit is 1, 2, 4, 8 or 16 pages that a protocol treats as one: fetched, compared, invalidated and homed together. It begins at a multiple
// of its size; it is named by its first page, its head. Objects in slabs have units of one page: a page of them is shared by accident often enough.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <string_view>

#include "dsm/dsm.hpp"
#include "runtime/dead_nodes.hpp"
#include "runtime/ids.hpp"

namespace netvm::dsm {

/// The largest unit has 16 pages (kMaxGranularity).
inline constexpr std::uint8_t kMaxUnitShift = 4;
static_assert(kPageSize << kMaxUnitShift == kMaxGranularity);

/// What the program calls an allocation, ended by a zero byte; all zeros: nothing.
using AllocationName = std::array<char, kMostName + 1>;
/// Keeps what fits, whole characters of UTF-8.
[[nodiscard]] inline AllocationName make_allocation_name(std::string_view text) {
  std::size_t length = std::min(text.substr(0, text.find('\0')).size(), kMostName);
  while (length < text.size() && length > 0 && (static_cast<unsigned char>(text[length]) & 0xC0) == 0x80) --length;
  AllocationName name{};
  text.copy(name.data(), length);
  return name;
}
[[nodiscard]] inline std::string_view to_string(const AllocationName& name) { return {name.data()}; }

struct Extent {
  PageRange pages;
  std::uint64_t serial = 0;      ///< never used twice: tells an extent from a later one at the same place
  std::uint64_t bytes = 0;       ///< asked for (large), or the whole slab
  std::uint32_t slot_bytes = 0;  ///< 0: large
  std::uint32_t owner = 0;       ///< slabs with first touch: the node whose small objects live here
  std::uint32_t home = 0;        ///< Placement::at_node
  std::uint8_t protocol = 0;     ///< index into protocols()
  Placement placement = Placement::first_touch;
  std::uint8_t unit_shift = 0;    ///< log2 of the pages of a coherence unit
  std::uint8_t reserved[1] = {};  ///< no padding: extents travel as bytes
  AllocationName name = {};       ///< of slabs none
  DeadNodes dead = {};            ///< when it was allocated: none of them is a home of its pages, or arbitrates their first touch

  [[nodiscard]] bool is_slab() const { return slot_bytes != 0; }
  [[nodiscard]] std::uint64_t unit_pages() const { return std::uint64_t{1} << unit_shift; }
  [[nodiscard]] std::uint64_t units() const { return pages.count >> unit_shift; }
  /// First page of the unit that the page lies in.
  [[nodiscard]] PageId head_of(PageId page) const { return PageId{page.value >> unit_shift << unit_shift}; }
  [[nodiscard]] std::uint64_t slots_per_page() const { return kPageSize / slot_bytes; }
  friend bool operator==(const Extent&, const Extent&) = default;
};

}  // namespace netvm::dsm
