#include "nic/firmware.hpp"

#include "runtime/host_vm.hpp"

namespace netvm::nic {

std::uint64_t apply(std::uint64_t& word, const AtomicArgs& args) {
  const std::atomic_ref<std::uint64_t> ref(word);
  switch (args.op) {
    case AtomicOp::fetch_add:
      return ref.fetch_add(args.operand);
    case AtomicOp::swap:
      return ref.exchange(args.operand);
    case AtomicOp::fetch_or:
      return ref.fetch_or(args.operand);
    case AtomicOp::compare_swap: {
      std::uint64_t old = args.compare;
      ref.compare_exchange_strong(old, args.operand);
      return old;
    }
    case AtomicOp::masked_cas: {
      std::uint64_t old = ref.load();
      while (((old ^ args.compare) & args.compare_mask) == 0) {
        if (ref.compare_exchange_weak(old, (old & ~args.swap_mask) | (args.operand & args.swap_mask))) break;
      }
      return old;
    }
  }
  return ref.load();
}

Outcome Firmware::execute_resident(Device& own, HostVm& vm, const WorkRequest& request, std::uint64_t span) {
  // A page can be taken away again between being brought in and being locked; that it happens this often means that it cannot be kept.
  constexpr int kAttempts = 64;
  for (int attempt = 0; attempt < kAttempts; ++attempt) {
    const Outcome outcome = execute(own, request);
    if (outcome.resident) return outcome;
    if (request.kind != WorkKind::read && own.shadow().entry(outcome.missing).state == PageState::read_only)
      return {.status = Status::perm};
    // The whole work request at once, from the page that is missing, but nothing outside its region.
    const RegionEntry& entry = own.regions().entry(request.region);
    const std::uint64_t region_end = entry.first_page.load() + entry.pages.load();
    const std::uint64_t wanted = std::max<std::uint64_t>((request.offset % kPageSize + span + kPageSize - 1) / kPageSize, 1);
    const std::uint64_t count = outcome.missing.value < region_end ? std::min(wanted, region_end - outcome.missing.value) : 1;
    if (const Status status = vm.make_resident({outcome.missing, count}); !ok(status)) return {.status = status};
  }
  return {.status = Status::fault_failed};
}

}  // namespace netvm::nic
