#include "dsm/allocation_wire.hpp"

#include <cstring>

#include "dsm/protocol.hpp"

namespace netvm::dsm {

std::vector<std::byte> encode(const AllocationMessage& message, std::string_view text) {
  std::vector<std::byte> wire(sizeof(message) + text.size());
  std::memcpy(wire.data(), &message, sizeof(message));
  if (!text.empty()) std::memcpy(wire.data() + sizeof(message), text.data(), text.size());
  return wire;
}

namespace {

bool valid(const AllocRequest& request, std::uint32_t nodes) {
  return request.requester < nodes && request.home < nodes && request.protocol < protocols().size() &&
         request.placement <= Placement::at_node && request.unit_shift <= kMaxUnitShift && request.name.back() == '\0' &&
         request.dead.fits(nodes);
}

bool valid(const Extent& extent, std::uint32_t nodes, PageRange shared) {
  if (extent.pages.count == 0) return extent == Extent{};
  const std::uint64_t first = extent.pages.first.value;
  const bool inside = shared.contains(extent.pages.first) && extent.pages.count <= shared.end() - first;
  return inside && extent.owner < nodes && extent.home < nodes && extent.protocol < protocols().size() &&
         extent.placement <= Placement::at_node && extent.slot_bytes <= Allocator::kMaxSlot && extent.unit_shift <= kMaxUnitShift &&
         first % extent.unit_pages() == 0 && extent.pages.count % extent.unit_pages() == 0 && extent.name.back() == '\0' &&
         extent.dead.fits(nodes);
}

}  // namespace

bool decode(std::span<const std::byte> wire, std::uint32_t nodes, PageRange shared, AllocationMessage* message, std::string* text) {
  if (wire.size() < sizeof(AllocationMessage)) return false;
  AllocationMessage decoded;
  std::memcpy(static_cast<void*>(&decoded), wire.data(), sizeof(decoded));
  const bool kinds = decoded.kind >= AllocationKind::allocate && decoded.kind <= AllocationKind::died && decoded.status <= Status::invalid;
  if (decoded.kind == AllocationKind::died && decoded.id >= nodes) return false;
  if (!kinds || !valid(decoded.request, nodes) || !valid(decoded.extent, nodes, shared)) return false;
  *message = decoded;
  const auto rest = wire.subspan(sizeof(AllocationMessage));
  text->assign(reinterpret_cast<const char*>(rest.data()), rest.size());
  return true;
}

}  // namespace netvm::dsm
