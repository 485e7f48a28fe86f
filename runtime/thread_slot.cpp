#include "runtime/thread_slot.hpp"

#include <atomic>
#include <bit>

namespace netvm {
namespace {

// Bit i: number i belongs to a thread. Constant-initialised, so it is there before and after every thread.
constinit std::atomic<std::uint64_t> taken_slots{0};

}  // namespace

// Gives the number back when its thread ends.
struct ThreadSlot::Owner {
  std::uint8_t slot = kShared;
  ~Owner() {
    slot_ = kShared;  // what this thread still does, it does where everybody may
    // release: what this thread has written, before the next owner's; partner is claim()'s acquire
    if (slot != kShared) taken_slots.fetch_and(~(std::uint64_t{1} << slot), std::memory_order_release);
  }
};

std::uint8_t ThreadSlot::claim() {
  static thread_local Owner owner;
  std::uint64_t taken = taken_slots.load(std::memory_order_relaxed);  // relaxed: the exchange decides
  for (;;) {
    const int free = std::countr_one(taken);
    if (free >= kShared) return kShared;
    // acquire: what the last owner has written; partner is ~Owner()'s release
    if (taken_slots.compare_exchange_weak(taken, taken | std::uint64_t{1} << free, std::memory_order_acquire)) {
      owner.slot = static_cast<std::uint8_t>(free);
      return owner.slot;
    }
  }
}

}  // namespace netvm
