#include "nic/page_lock_announced.hpp"

#include <algorithm>

#include "nic/backoff.hpp"
#include "runtime/check.hpp"

namespace netvm::nic {

namespace {

// Of the last slots, of whatever targets: threads without a number of their own are many, and short of time anyway.
constinit SpinLock shared_slot_lock;

}  // namespace

void AnnouncedPageLock::Locker::enter_shared() { shared_slot_lock.lock(); }
void AnnouncedPageLock::Locker::leave_shared() { shared_slot_lock.unlock(); }

std::uint64_t AnnouncedPageLock::Locker::first_use(std::uint64_t word) {
  NETVM_CHECK(word >> kSequenceBits == 0, "a thread locks a second page of a node's memory while it holds page %llu locked",
              static_cast<unsigned long long>((word >> kSequenceBits) - 1));
  std::atomic<std::uint32_t>& used = scheme_->memory_.used[scheme_->initiator_.value];
  std::uint32_t seen = used.load();
  while (seen <= index_ && !used.compare_exchange_weak(seen, index_ + 1U)) {
  }
  std::atomic_thread_fence(std::memory_order_seq_cst);  // before the look at the entry; partner: await_unlocked()'s look at used
  return 1;
}

template <class Visit>
void AnnouncedPageLock::each_slot(NodeId node, Visit&& visit) const {
  if (node.value >= memory_.nodes) return;
  const std::uint32_t used = std::min<std::uint32_t>(memory_.used[node.value].load(), ThreadSlot::kCount);
  for (std::uint32_t i = 0; i < used; ++i) visit(memory_.areas[node.value][i].word);
}

void AnnouncedPageLock::await_unlocked(std::span<const PageRange> ranges) const {
  std::uint32_t in_use = 0;
  for (std::uint32_t node = 0; node < memory_.nodes; ++node) in_use |= memory_.used[node].load();
  if (in_use == 0) return;  // whoever announces from now on sees what the caller has changed
#if !NETVM_TSAN
  if (fence_ == Fence::light) AsymmetricFence::heavy();
  std::atomic_thread_fence(std::memory_order_seq_cst);  // partner: the full fences of those who cannot have light ones
#endif
  for (std::uint32_t node = 0; node < memory_.nodes; ++node) {
    each_slot(NodeId{node}, [&](const std::atomic<std::uint64_t>& slot) {
      const std::uint64_t word = slot.load();  // seq_cst for ThreadSanitizer's sake; as an acquire its partner is unlock()'s release
      const std::uint64_t page = (word >> kSequenceBits) - 1;
      const auto names = [page](PageRange pages) { return page - pages.first.value < pages.count; };
      if (std::none_of(ranges.begin(), ranges.end(), names)) return;
      Backoff backoff;
      while (slot.load() == word) backoff.wait();  // a later announcement of the same thread has another sequence, and sees the change
    });
  }
}

void AnnouncedPageLock::release_dead(NodeId node) const {
  each_slot(node, [](std::atomic<std::uint64_t>& slot) { slot.fetch_and(kSequenceMask); });
}

std::uint32_t AnnouncedPageLock::held_by(NodeId node) const {
  std::uint32_t held = 0;
  each_slot(node, [&](const std::atomic<std::uint64_t>& slot) { held += slot.load() >> kSequenceBits != 0 ? 1 : 0; });
  return held;
}

std::uint64_t AnnouncedPageLock::announced_by(NodeId node) const {
  std::uint64_t sum = 0;
  each_slot(node, [&](const std::atomic<std::uint64_t>& slot) { sum += slot.load() & kSequenceMask; });
  return sum;
}

}  // namespace netvm::nic
