// Allocator: the map of the shared area, kept by node 0. Pure: no messages, no memory of the area is touched.
//
// Invariants
//  1. Every page is free, in a live extent, or in a retiring one (freed, but some node may still have state of it). Free neighbours are merged.
//  2. A small object (up to kMaxSlot) lies inside one page of a slab; a slab holds objects of one slot size, protocol, placement, home and dead nodes only,
//     and with first touch those of one node only, so that nodes that allocate for themselves do not share pages by accident.
//  3. A freed slot is not handed out again before its whole slab was retired: only then is it known to be zero on every node.
//     (Nodes recycle their own small objects before they come back here: allocation_service.hpp.)
//  4. An extent begins at a multiple of its coherence unit and is whole units long: a unit never straddles extents, and so never homes or protocols.
//  5. Offsets count from the start of the global range, as everywhere.
// Threads: one at a time (messages to node 0 are handled one after the other).
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "dsm/extent.hpp"
#include "runtime/status.hpp"

namespace netvm::dsm {

/// What is asked of the allocator.
struct AllocRequest {
  std::uint64_t bytes = 0;
  std::uint64_t alignment = 16;
  std::uint32_t requester = 0;
  std::uint32_t home = 0;
  std::uint8_t protocol = 0;
  Placement placement = Placement::first_touch;
  std::uint8_t unit_shift = 0;    ///< as in Extent; slabs ignore it
  std::uint8_t reserved[5] = {};  ///< no padding: requests travel as bytes
  AllocationName name = {};       ///< slabs ignore it
  DeadNodes dead = {};            ///< what is allocated must have homes that live
};

struct Allocation {
  std::uint64_t offset = 0;
  Extent extent;
};

class Allocator {
 public:
  /// Larger objects get pages of their own.
  static constexpr std::uint32_t kMaxSlot = 2048;
  static constexpr std::uint64_t kMaxAlignment = std::uint64_t{1} << 30;
  static constexpr std::uint64_t kSlabPages = 4;

  explicit Allocator(PageRange pages);

  /// E_INVALID: zero bytes or a bad alignment. E_EXHAUSTED: no run of free pages is long enough (see explain_exhaustion()).
  Result<Allocation> allocate(const AllocRequest& request);

  /// Gives memory back. If that ends an extent it goes into retirement, and the caller must tell every node and then call
  /// finish_retirement(); else nothing more is to be done. E_INVALID: nothing was allocated at that offset.
  Result<std::optional<Extent>> free(std::uint64_t offset);
  /// Every node has forgotten the extent: its pages are free again. E_INVALID: no such extent is retiring.
  Status finish_retirement(std::uint64_t serial);

  /// The live extent that contains the page.
  [[nodiscard]] std::optional<Extent> describe(PageId page) const;

  [[nodiscard]] std::uint64_t free_bytes() const { return free_pages_ * kPageSize; }
  [[nodiscard]] std::uint64_t used_bytes() const { return used_bytes_; }
  [[nodiscard]] std::uint64_t largest_free_bytes() const;
  [[nodiscard]] bool retiring() const { return !retiring_.empty(); }
  /// For a person: how much was asked, what is left, what to do.
  [[nodiscard]] std::string explain_exhaustion(const AllocRequest& request) const;

  /// The slot size that serves an object; 0 if it gets pages of its own. Equal requests get equal slots on every node.
  [[nodiscard]] static std::uint32_t slot_for(std::uint64_t bytes, std::uint64_t alignment);

 private:
  struct SlabKey {
    std::uint32_t slot_bytes, owner, home;
    std::uint8_t protocol;
    Placement placement;
    DeadNodes dead;
    friend auto operator<=>(const SlabKey&, const SlabKey&) = default;
  };
  struct Live {
    Extent extent;
    std::vector<std::uint64_t> used_slots;  // slabs: one bit a slot, set while allocated
    std::uint64_t next_slot = 0;            // slabs: slots before this were handed out once (invariant 3)
    std::uint64_t live_slots = 0;
  };

  static SlabKey key_of(const AllocRequest& request, std::uint32_t slot_bytes);
  static SlabKey key_of(const Extent& slab);
  static std::uint64_t slots_of(const Extent& slab) { return slab.slots_per_page() * slab.pages.count; }
  static std::uint64_t slot_offset(const Extent& slab, std::uint64_t slot);
  Result<Allocation> allocate_slot(const AllocRequest& request, std::uint32_t slot_bytes);
  Result<std::optional<Extent>> free_slot(Live& slab, std::uint64_t offset);
  std::optional<PageRange> take_pages(std::uint64_t count, std::uint64_t alignment_pages);
  void give_pages(PageRange pages);
  Live& add_extent(const AllocRequest& request, PageRange pages, std::uint32_t slot_bytes);
  Extent retire(std::map<std::uint64_t, Live>::iterator live);

  PageRange pages_;
  std::map<std::uint64_t, std::uint64_t> free_;  // first page -> count; never adjacent
  std::map<std::uint64_t, Live> live_;           // first page -> extent
  std::map<std::uint64_t, Extent> retiring_;     // serial -> extent
  std::map<SlabKey, std::uint64_t> open_slabs_;  // key -> first page of the slab that still has fresh slots
  std::uint64_t next_serial_ = 1;
  std::uint64_t free_pages_ = 0;
  std::uint64_t used_bytes_ = 0;
};

}  // namespace netvm::dsm
