// SmallObjects: this node's freed small objects, for its own next allocations of the kind.
//
// Why here and not in node 0's map: memory handed out must be zeros. The node that frees an object writes the zeros itself, through the application's
// view; it hands the object out again itself, so that the program's own synchronisation orders the zeros before every later use, as it orders
// any other write. Another node could be handed the object before the zeros reach it.
//
// Invariants
//  1. Only objects that this node allocated are kept; others go back to node 0, which reuses their slab when all of it is free.
//  2. A kept object is allocated in node 0's map.
// Threads: any; never blocks.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <tuple>
#include <vector>

#include "dsm/allocator.hpp"
#include "dsm/extent.hpp"
#include "runtime/env.hpp"

namespace netvm::dsm {

class SmallObjects {
 public:
  /// An object that serves the request, zeroed already.
  std::optional<std::uint64_t> take(const AllocRequest& request);

  /// This node was handed the object by node 0.
  void note_allocated(const Extent& slab, std::uint64_t offset);

  enum class Fate : std::uint8_t {
    keep,     ///< write zeros, then call keep()
    give,     ///< tell node 0
    invalid,  ///< not an object, or freed already
  };
  /// The program frees what lies at that offset of the slab.
  /// Kept is what later requests may be given, which come with those dead nodes.
  Fate free(const Extent& slab, std::uint64_t offset, const DeadNodes& dead);
  /// The object is zeros and may be taken.
  void keep(const Extent& slab, std::uint64_t offset);

  /// The slab was retired.
  void forget(const Extent& slab);

 private:
  static constexpr std::size_t kMaxKept = 256;  // of a kind
  enum class Slot : std::uint8_t { not_ours, in_use, zeroing, kept };
  using Kind =
      std::tuple<std::uint32_t, std::uint8_t, Placement, std::uint32_t, DeadNodes>;  // slot size, protocol, placement, home, dead nodes
  struct Kept {
    std::uint64_t offset;
    std::uint64_t serial;
    std::uint64_t slot;
  };
  static Kind kind_of(const Extent& slab) { return {slab.slot_bytes, slab.protocol, slab.placement, slab.home, slab.dead}; }
  static std::uint64_t slot_of(const Extent& slab, std::uint64_t offset);  // UINT64_MAX: no object begins there

  SpinLock lock_;
  std::map<std::uint64_t, std::vector<Slot>> slots_;  // by serial of the slab
  std::map<Kind, std::vector<Kept>> kept_;
};

}  // namespace netvm::dsm
