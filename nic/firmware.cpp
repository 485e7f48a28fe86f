#include "nic/firmware.hpp"

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

}  // namespace netvm::nic
