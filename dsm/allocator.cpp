#include "dsm/allocator.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <bit>

#include "runtime/check.hpp"
#include "runtime/settings.hpp"

namespace netvm::dsm {

Allocator::Allocator(PageRange pages) : pages_(pages), free_pages_(pages.count) {
  if (pages.count != 0) free_.emplace(pages.first.value, pages.count);
}

std::uint32_t Allocator::slot_for(std::uint64_t bytes, std::uint64_t alignment) {
  const std::uint64_t need = std::max(bytes, alignment);
  if (need > kMaxSlot) return 0;
  // Multiples of 16 up to 128, then four steps between powers of two; powers of two where more than 16 must divide the slot.
  if (alignment > 16) return static_cast<std::uint32_t>(std::bit_ceil(need));
  if (need <= 128) return static_cast<std::uint32_t>((need + 15) & ~std::uint64_t{15});
  const std::uint64_t step = std::bit_ceil(need) / 8;
  return static_cast<std::uint32_t>((need + step - 1) / step * step);
}

Allocator::SlabKey Allocator::key_of(const AllocRequest& request, std::uint32_t slot_bytes) {
  const bool own = request.placement == Placement::first_touch;
  const bool fixed = request.placement == Placement::at_node;
  return {slot_bytes, own ? request.requester : 0, fixed ? request.home : 0, request.protocol, request.placement, request.dead};
}

Allocator::SlabKey Allocator::key_of(const Extent& slab) {
  return {slab.slot_bytes, slab.owner, slab.home, slab.protocol, slab.placement, slab.dead};
}

std::uint64_t Allocator::slot_offset(const Extent& slab, std::uint64_t slot) {
  const std::uint64_t per_page = slab.slots_per_page();
  return (slab.pages.first.value + slot / per_page) * kPageSize + slot % per_page * slab.slot_bytes;
}

std::optional<PageRange> Allocator::take_pages(std::uint64_t count, std::uint64_t alignment_pages) {
  // Best fit: the shortest free run that holds the aligned pages; the first of equals.
  auto best = free_.end();
  std::uint64_t best_first = 0;
  for (auto it = free_.begin(); it != free_.end(); ++it) {
    const std::uint64_t first = (it->first + alignment_pages - 1) / alignment_pages * alignment_pages;
    const std::uint64_t skipped = first - it->first;
    if (skipped >= it->second || it->second - skipped < count) continue;
    if (best == free_.end() || it->second < best->second) {
      best = it;
      best_first = first;
    }
  }
  if (best == free_.end()) return std::nullopt;
  const std::uint64_t run_first = best->first;
  const std::uint64_t run_end = best->first + best->second;
  free_.erase(best);
  if (best_first > run_first) free_.emplace(run_first, best_first - run_first);
  if (run_end > best_first + count) free_.emplace(best_first + count, run_end - best_first - count);
  free_pages_ -= count;
  return PageRange{PageId{best_first}, count};
}

void Allocator::give_pages(PageRange pages) {
  std::uint64_t first = pages.first.value;
  std::uint64_t count = pages.count;
  free_pages_ += count;
  auto next = free_.lower_bound(first);
  if (next != free_.end() && next->first == first + count) {
    count += next->second;
    next = free_.erase(next);
  }
  if (next != free_.begin()) {
    auto before = std::prev(next);
    if (before->first + before->second == first) {
      before->second += count;
      return;
    }
  }
  free_.emplace(first, count);
}

Allocator::Live& Allocator::add_extent(const AllocRequest& request, PageRange pages, std::uint32_t slot_bytes) {
  const SlabKey key = key_of(request, slot_bytes);
  Live live;
  live.extent.pages = pages;
  live.extent.serial = next_serial_++;
  live.extent.bytes = slot_bytes == 0 ? request.bytes : pages.count * kPageSize;
  live.extent.slot_bytes = slot_bytes;
  live.extent.owner = key.owner;
  live.extent.home = key.home;
  live.extent.protocol = request.protocol;
  live.extent.placement = request.placement;
  live.extent.dead = request.dead;
  live.extent.unit_shift = slot_bytes == 0 ? request.unit_shift : std::uint8_t{0};
  if (slot_bytes == 0) live.extent.name = request.name;
  if (slot_bytes != 0) live.used_slots.assign((slots_of(live.extent) + 63) / 64, 0);
  return live_.emplace(pages.first.value, std::move(live)).first->second;
}

Result<Allocation> Allocator::allocate(const AllocRequest& request) {
  const bool right = request.bytes != 0 && request.alignment <= kMaxAlignment && std::has_single_bit(request.alignment) &&
                     request.unit_shift <= kMaxUnitShift;
  if (!right) return Status::invalid;
  const std::uint32_t slot = slot_for(request.bytes, request.alignment);
  if (slot != 0) return allocate_slot(request, slot);
  const std::uint64_t unit = std::uint64_t{1} << request.unit_shift;
  const std::uint64_t used = request.bytes / kPageSize + (request.bytes % kPageSize != 0 ? 1 : 0);
  const std::uint64_t count = (used + unit - 1) / unit * unit;
  const std::uint64_t alignment_pages = std::max<std::uint64_t>(request.alignment / kPageSize, unit);
  const std::optional<PageRange> pages = take_pages(count, alignment_pages);
  if (!pages) return Status::exhausted;
  const Live& live = add_extent(request, *pages, 0);
  used_bytes_ += request.bytes;
  return Allocation{pages->first.value * kPageSize, live.extent};
}

Result<Allocation> Allocator::allocate_slot(const AllocRequest& request, std::uint32_t slot_bytes) {
  const SlabKey key = key_of(request, slot_bytes);
  auto open = open_slabs_.find(key);
  if (open == open_slabs_.end()) {
    // Where the range is nearly full a slab of one page still serves.
    std::optional<PageRange> pages = take_pages(kSlabPages, 1);
    if (!pages) pages = take_pages(1, 1);
    if (!pages) return Status::exhausted;
    add_extent(request, *pages, slot_bytes);
    open = open_slabs_.emplace(key, pages->first.value).first;
  }
  Live& slab = live_.at(open->second);
  const std::uint64_t slot = slab.next_slot++;
  slab.used_slots[slot / 64] |= std::uint64_t{1} << (slot % 64);
  ++slab.live_slots;
  if (slab.next_slot == slots_of(slab.extent)) open_slabs_.erase(open);
  used_bytes_ += slot_bytes;
  return Allocation{slot_offset(slab.extent, slot), slab.extent};
}

Extent Allocator::retire(std::map<std::uint64_t, Live>::iterator live) {
  const Extent extent = live->second.extent;
  if (extent.is_slab()) {
    const auto open = open_slabs_.find(key_of(extent));
    if (open != open_slabs_.end() && open->second == extent.pages.first.value) open_slabs_.erase(open);
  }
  live_.erase(live);
  retiring_.emplace(extent.serial, extent);
  return extent;
}

Result<std::optional<Extent>> Allocator::free_slot(Live& slab, std::uint64_t offset) {
  const Extent& extent = slab.extent;
  const std::uint64_t in_page = offset % kPageSize;
  const std::uint64_t slot = (offset / kPageSize - extent.pages.first.value) * extent.slots_per_page() + in_page / extent.slot_bytes;
  if (in_page % extent.slot_bytes != 0 || in_page / extent.slot_bytes >= extent.slots_per_page()) return Status::invalid;
  const std::uint64_t bit = std::uint64_t{1} << (slot % 64);
  if ((slab.used_slots[slot / 64] & bit) == 0) return Status::invalid;
  slab.used_slots[slot / 64] &= ~bit;
  used_bytes_ -= extent.slot_bytes;
  if (--slab.live_slots != 0) return std::optional<Extent>{};
  return std::optional<Extent>{retire(live_.find(extent.pages.first.value))};
}

Result<std::optional<Extent>> Allocator::free(std::uint64_t offset) {
  auto it = live_.upper_bound(offset / kPageSize);
  if (it == live_.begin()) return Status::invalid;
  --it;
  if (!it->second.extent.pages.contains(PageId{offset / kPageSize})) return Status::invalid;
  if (it->second.extent.is_slab()) return free_slot(it->second, offset);
  if (offset != it->first * kPageSize) return Status::invalid;
  used_bytes_ -= it->second.extent.bytes;
  return std::optional<Extent>{retire(it)};
}

Status Allocator::finish_retirement(std::uint64_t serial) {
  const auto it = retiring_.find(serial);
  if (it == retiring_.end()) return Status::invalid;
  give_pages(it->second.pages);
  retiring_.erase(it);
  return Status::ok;
}

std::optional<Extent> Allocator::describe(PageId page) const {
  auto it = live_.upper_bound(page.value);
  if (it == live_.begin()) return std::nullopt;
  --it;
  if (!it->second.extent.pages.contains(page)) return std::nullopt;
  return it->second.extent;
}

std::uint64_t Allocator::largest_free_bytes() const {
  std::uint64_t largest = 0;
  for (const auto& [first, count] : free_) largest = std::max(largest, count);
  return largest * kPageSize;
}

std::string Allocator::explain_exhaustion(const AllocRequest& request) const {
  std::string text = fmt::format("no room for {} ({} bytes, aligned to {}) in shared memory: {} of {} are free, the largest piece is {}; ",
                                 format_bytes(request.bytes), request.bytes, request.alignment, format_bytes(free_bytes()),
                                 format_bytes(pages_.count * kPageSize), format_bytes(largest_free_bytes()));
  text += "free memory that is no longer used, or start the job with a larger NETVM_ADDRESS_SPACE (netvmrun --address-space)";
  return text;
}

}  // namespace netvm::dsm
