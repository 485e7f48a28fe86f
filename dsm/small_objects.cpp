#include "dsm/small_objects.hpp"

#include <mutex>

namespace netvm::dsm {

std::uint64_t SmallObjects::slot_of(const Extent& slab, std::uint64_t offset) {
  const std::uint64_t in_page = offset % kPageSize;
  const std::uint64_t index = in_page / slab.slot_bytes;
  if (in_page % slab.slot_bytes != 0 || index >= slab.slots_per_page()) return UINT64_MAX;
  return (offset / kPageSize - slab.pages.first.value) * slab.slots_per_page() + index;
}

std::optional<std::uint64_t> SmallObjects::take(const AllocRequest& request) {
  const std::uint32_t slot_bytes = Allocator::slot_for(request.bytes, request.alignment);
  if (slot_bytes == 0) return std::nullopt;
  const std::uint32_t home = request.placement == Placement::at_node ? request.home : 0;
  const std::scoped_lock guard(lock_);
  const auto it = kept_.find({slot_bytes, request.protocol, request.placement, home, request.dead});
  if (it == kept_.end() || it->second.empty()) return std::nullopt;
  const Kept kept = it->second.back();
  it->second.pop_back();
  slots_.at(kept.serial)[kept.slot] = Slot::in_use;
  return kept.offset;
}

void SmallObjects::note_allocated(const Extent& slab, std::uint64_t offset) {
  const std::scoped_lock guard(lock_);
  std::vector<Slot>& slots = slots_[slab.serial];
  slots.resize(slab.slots_per_page() * slab.pages.count, Slot::not_ours);
  slots[slot_of(slab, offset)] = Slot::in_use;
}

SmallObjects::Fate SmallObjects::free(const Extent& slab, std::uint64_t offset, const DeadNodes& dead) {
  const std::uint64_t slot = slot_of(slab, offset);
  if (slot == UINT64_MAX) return Fate::invalid;
  const std::scoped_lock guard(lock_);
  const auto it = slots_.find(slab.serial);
  if (it == slots_.end() || it->second[slot] == Slot::not_ours) return Fate::give;
  if (it->second[slot] != Slot::in_use) return Fate::invalid;
  const bool full = slab.dead != dead || kept_[kind_of(slab)].size() >= kMaxKept;
  it->second[slot] = full ? Slot::not_ours : Slot::zeroing;
  return full ? Fate::give : Fate::keep;
}

void SmallObjects::keep(const Extent& slab, std::uint64_t offset) {
  const std::scoped_lock guard(lock_);
  const std::uint64_t slot = slot_of(slab, offset);
  slots_.at(slab.serial)[slot] = Slot::kept;
  kept_[kind_of(slab)].push_back({offset, slab.serial, slot});
}

void SmallObjects::forget(const Extent& slab) {
  if (!slab.is_slab()) return;
  const std::scoped_lock guard(lock_);
  slots_.erase(slab.serial);
}

}  // namespace netvm::dsm
