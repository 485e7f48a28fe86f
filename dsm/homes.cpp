#include "dsm/homes.hpp"

#include <atomic>

#include "runtime/check.hpp"

namespace netvm::dsm {

NodeId Homes::arbiter(PageId page) const {
  return NodeId{static_cast<std::uint32_t>((page.value - config_.layout.shared.first.value) % nic_.nodes())};
}

std::uint64_t Homes::claim_offset(PageId page) const {
  return config_.layout.claims_offset + (page.value - config_.layout.shared.first.value) / nic_.nodes() * sizeof(std::uint64_t);
}

NodeId Homes::compute(PageId page, const Extent& extent, std::uint32_t nodes) {
  const std::uint64_t index = page.value - extent.pages.first.value;
  switch (extent.placement) {
    case Placement::at_node:
      return NodeId{extent.home};
    case Placement::block: {
      const std::uint64_t per_node = (extent.pages.count + nodes - 1) / nodes;
      return NodeId{static_cast<std::uint32_t>(index / per_node)};
    }
    case Placement::cyclic:
      // Slabs are short: their pages are dealt out by page number, so that not all begin at node 0.
      return NodeId{static_cast<std::uint32_t>((extent.is_slab() ? page.value : index) % nodes)};
    case Placement::first_touch:
      break;
  }
  NETVM_CHECK(false, "the home of page %llu follows from no rule", static_cast<unsigned long long>(page.value));
  return NodeId{};
}

Result<NodeId> Homes::find(PageId page, const Extent& extent) {
  if (computable(extent)) return compute(page, extent, nic_.nodes());
  nic::AtomicArgs claim;
  claim.op = nic::AtomicOp::compare_swap;
  claim.compare = 0;
  claim.operand = std::uint64_t{nic_.node().value} + 1;
  const Result<std::uint64_t> old = nic_.atomic(config_.system[arbiter(page).value], claim_offset(page), claim);
  if (!old) return old.status();
  if (*old == 0) return nic_.node();
  NETVM_CHECK(*old <= nic_.nodes(), "the claim of page %llu names node %llu, which does not exist",
              static_cast<unsigned long long>(page.value), static_cast<unsigned long long>(*old - 1));
  return NodeId{static_cast<std::uint32_t>(*old - 1)};
}

void Homes::forget_claims(const Extent& extent) {
  if (computable(extent)) return;
  const std::uint64_t nodes = nic_.nodes();
  const std::uint64_t shared_first = config_.layout.shared.first.value;
  const std::uint64_t first_index = extent.pages.first.value - shared_first;
  // The first page of the extent that this node arbitrates, then every nodes-th.
  for (std::uint64_t i = (nic_.node().value + nodes - first_index % nodes) % nodes; i < extent.pages.count; i += nodes) {
    const PageId page{extent.pages.first.value + i};
    std::byte* word = vm_.frame(config_.layout.system.first) + claim_offset(page);
    const std::atomic_ref<std::uint64_t> claim(*reinterpret_cast<std::uint64_t*>(word));
    if (claim.load() != 0) claim.store(0);  // never claimed: the word's page need not even exist
  }
}

}  // namespace netvm::dsm
