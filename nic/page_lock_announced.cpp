#include "nic/page_lock_announced.hpp"

#include <unistd.h>

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

std::uint64_t AnnouncedPageLock::Locker::first_use(const AnnouncedPageLock& scheme, std::uint8_t index, std::uint64_t word) {
  NETVM_CHECK(is_idle(word), "a thread locks a second page of a node's memory while it holds page %llu locked",
              static_cast<unsigned long long>(first_of(word)));
  AnnouncementUse& use = scheme.memory_.used[scheme.initiator_.value];
  use.process.store(::getpid());
  std::uint32_t seen = use.slots.load();
  while (seen <= index && !use.slots.compare_exchange_weak(seen, index + 1U)) {
  }
  std::atomic_thread_fence(std::memory_order_seq_cst);  // before the look at the entry; partner: await_unlocked()'s look at used
  return 1;
}

template <class Visit>
void AnnouncedPageLock::each_slot(NodeId node, Visit&& visit) const {
  if (node.value >= memory_.nodes) return;
  const std::uint32_t used = std::min<std::uint32_t>(memory_.used[node.value].slots.load(), ThreadSlot::kCount);
  for (std::uint32_t i = 0; i < used; ++i) visit(memory_.areas[node.value][i].word);
}

void AnnouncedPageLock::await_unlocked(std::span<const PageRange> ranges) const {
  const std::int32_t here = ::getpid();
  bool in_use = false;
  [[maybe_unused]] AsymmetricFence::Reach reach = AsymmetricFence::Reach::process;  // ThreadSanitizer's builds fence otherwise
  for (std::uint32_t node = 0; node < memory_.nodes; ++node) {
    if (memory_.used[node].slots.load() == 0) continue;
    in_use = true;
    if (memory_.used[node].process.load() != here) reach = AsymmetricFence::Reach::host;
  }
  if (!in_use) return;  // whoever announces from now on sees what the caller has changed
#if !NETVM_TSAN
  if (fence_ == Fence::light) AsymmetricFence::heavy(reach);
  std::atomic_thread_fence(std::memory_order_seq_cst);  // partner: the full fences of those who cannot have light ones
#endif
  for (std::uint32_t node = 0; node < memory_.nodes; ++node) {
    each_slot(NodeId{node}, [&](const std::atomic<std::uint64_t>& slot) {
      const std::uint64_t word = slot.load();  // seq_cst for ThreadSanitizer's sake; as an acquire its partner is unlock()'s release
      if (is_idle(word)) return;
      const std::uint64_t first = first_of(word);
      const std::uint64_t end = first + pages_of(word);
      const auto names = [first, end](PageRange pages) { return first < pages.end() && pages.first.value < end && pages.count != 0; };
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
  each_slot(node, [&](const std::atomic<std::uint64_t>& slot) {
    const std::uint64_t word = slot.load();
    if (!is_idle(word)) held += static_cast<std::uint32_t>(pages_of(word));
  });
  return held;
}

std::uint64_t AnnouncedPageLock::announced_by(NodeId node) const {
  std::uint64_t sum = 0;
  each_slot(node, [&](const std::atomic<std::uint64_t>& slot) { sum += slot.load() & kSequenceMask; });
  return sum;
}

}  // namespace netvm::nic
