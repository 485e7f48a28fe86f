#include "dsm/homes.hpp"

#include <atomic>

#include "runtime/check.hpp"
#include "runtime/random.hpp"

namespace netvm::dsm {

NodeId Homes::arbiter(PageId page) const {
  const std::uint64_t nodes = nic_.nodes();
  const std::uint64_t index = page.value - config_.layout.shared.first.value;
  // A rotation of each group of `nodes` pages: one word a group at every node, as claim_offset() needs it.
  return NodeId{static_cast<std::uint32_t>((index % nodes + mix64(index / nodes) % nodes) % nodes)};
}

std::uint64_t Homes::claim_offset(PageId page) const {
  return config_.layout.claims_offset + (page.value - config_.layout.shared.first.value) / nic_.nodes() * sizeof(std::uint64_t);
}

std::optional<NodeId> Homes::computed(PageId page, const Extent& extent) const {
  const std::uint32_t living = extent.dead.living(nic_.nodes());
  const std::uint64_t index = (page.value - extent.pages.first.value) >> extent.unit_shift;
  switch (extent.placement) {
    case Placement::at_node:
      return NodeId{extent.home};
    case Placement::block: {
      const std::uint64_t per_node = (extent.units() + living - 1) / living;
      return extent.dead.living_at(index / per_node);
    }
    case Placement::cyclic:
      // Slabs are short: their pages are dealt out by page number, so that not all begin at node 0.
      return extent.dead.living_at((extent.is_slab() ? page.value : index) % living);
    case Placement::first_touch:
      break;
  }
  const NodeId keeper = arbiter(page);
  if (!extent.dead.contains(keeper)) return std::nullopt;
  return extent.dead.living_from(keeper, nic_.nodes());
}

Result<NodeId> Homes::find(PageId page, const Extent& extent) {
  if (const auto home = computed(page, extent)) return *home;
  nic::AtomicArgs claim;
  claim.op = nic::AtomicOp::compare_swap;
  claim.compare = 0;
  claim.operand = std::uint64_t{nic_.node().value} + 1;
  const Result<std::uint64_t> old = nic_.atomic(config_.system[arbiter(page).value], claim_offset(page), claim);
  if (!old) return old.status();
  if (*old == 0) return nic_.node();
  return claimed_by(page, *old);
}

NodeId Homes::claimed_by(PageId page, std::uint64_t claim) const {
  NETVM_CHECK(claim <= nic_.nodes(), "the claim of page %llu names node %llu, which does not exist",
              static_cast<unsigned long long>(page.value), static_cast<unsigned long long>(claim - 1));
  return NodeId{static_cast<std::uint32_t>(claim - 1)};
}

Result<std::optional<NodeId>> Homes::look_up(PageId page, const Extent& extent) {
  if (const auto home = computed(page, extent)) return home;
  std::uint64_t claim = 0;
  const Status status = nic_.read(config_.system[arbiter(page).value], claim_offset(page), &claim, sizeof claim);
  if (!ok(status)) return status;
  if (claim == 0) return std::optional<NodeId>();
  return std::optional(claimed_by(page, claim));
}

void Homes::forget_claims(const Extent& extent) {
  if (extent.placement != Placement::first_touch) return;
  for (std::uint64_t p = extent.pages.first.value; p != extent.pages.end(); p += extent.unit_pages()) {
    const PageId page{p};
    if (arbiter(page) != nic_.node()) continue;
    std::byte* word = vm_.frame(config_.layout.system.first) + claim_offset(page);
    const std::atomic_ref<std::uint64_t> claim(*reinterpret_cast<std::uint64_t*>(word));
    if (claim.load() != 0) claim.store(0);  // never claimed: the word's page need not even exist
  }
}

}  // namespace netvm::dsm
