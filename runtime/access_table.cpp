#include "runtime/access_table.hpp"

#include "runtime/check.hpp"

namespace netvm {
namespace {

void check_rights(PageId page, std::uint32_t have, Access from, Access to) {
  NETVM_CHECK(have == static_cast<std::uint32_t>(from),
              "access of page %llu goes from %u to %u, but the page has %u (4 and more: another change of it is under way)",
              static_cast<unsigned long long>(page.value), static_cast<unsigned>(from), static_cast<unsigned>(to), have);
}

}  // namespace

Access AccessTable::enter(PageId page, Access need, Env& env) {
  std::atomic<std::uint32_t>& word = words_[page.value];
  std::uint32_t seen = word.load(std::memory_order_relaxed);  // relaxed: only a guess, the exchange below decides
  for (;;) {
    if ((seen & kChanging) != 0) {
      env.relax();
      seen = word.load(std::memory_order_relaxed);  // relaxed: as above
      continue;
    }
    const Access granted = granted_by(seen);
    if (granted < need) return Access::none;
    // acquire: the frame was filled before the right was given; partner is raise(). relaxed on failure: tried again.
    if (word.compare_exchange_weak(seen, seen + kOneInFlight, std::memory_order_acquire, std::memory_order_relaxed)) {
      return granted;
    }
  }
}

void AccessTable::raise(PageRange pages, Access from, Access to) {
  const std::uint32_t step = static_cast<std::uint32_t>(to) - static_cast<std::uint32_t>(from);
  for (std::uint64_t p = pages.first.value; p < pages.end(); ++p) {
    // release: publishes the frame's contents to those who enter; partner is enter()
    const std::uint32_t old = words_[p].fetch_add(step, std::memory_order_release);
    check_rights(PageId{p}, old & (kAccessMask | kChanging), from, to);
  }
}

void AccessTable::lower(PageRange pages, Access from, Access to, Env& env) {
  const std::uint32_t target = static_cast<std::uint32_t>(to);
  bool somebody_inside = false;
  for (std::uint64_t p = pages.first.value; p < pages.end(); ++p) {
    std::uint32_t old = words_[p].load(std::memory_order_relaxed);  // relaxed: only a guess, the exchange decides
    std::uint32_t next = 0;
    do {
      check_rights(PageId{p}, old & (kAccessMask | kChanging), from, to);
      next = (old & ~kAccessMask) | target | (old >= kOneInFlight ? kChanging : 0);
      // acquire: the uses that ended happened before this; partner is leave(). relaxed on failure: tried again.
    } while (!words_[p].compare_exchange_weak(old, next, std::memory_order_acquire, std::memory_order_relaxed));
    somebody_inside |= (next & kChanging) != 0;
  }
  if (!somebody_inside) return;
  for (std::uint64_t p = pages.first.value; p < pages.end(); ++p) {
    // acquire: the uses that ended happened before this; partner is leave()
    std::uint32_t seen = words_[p].load(std::memory_order_acquire);
    if ((seen & kChanging) == 0) continue;
    while (seen >= kOneInFlight) {
      env.relax();
      seen = words_[p].load(std::memory_order_acquire);  // acquire: partner is leave()
    }
    words_[p].fetch_and(~kChanging, std::memory_order_relaxed);  // relaxed: lets others try again, gives no right
  }
}

bool AccessTable::try_hold(PageId page) {
  // acquire: what the last holder did; partner is settle()
  return (words_[page.value].fetch_or(kChanging, std::memory_order_acquire) & kChanging) == 0;
}

void AccessTable::hold(PageId page, Env& env) {
  while (!try_hold(page)) env.relax();
}

void AccessTable::drain(PageId page, Env& env) {
  // acquire: the uses that ended happened before this; partner is leave()
  while (words_[page.value].load(std::memory_order_acquire) >= kOneInFlight) env.relax();
}

void AccessTable::settle(PageId page, Access access, Withheld withheld) {
  const std::uint32_t next = static_cast<std::uint32_t>(access) | static_cast<std::uint32_t>(withheld) << kWithheldShift;
  std::atomic<std::uint32_t>& word = words_[page.value];
  std::uint32_t old = word.load(std::memory_order_relaxed);  // relaxed: only a guess, the exchange decides
  NETVM_CHECK((old & kChanging) != 0, "page %llu is settled by somebody who does not hold it", static_cast<unsigned long long>(page.value));
  // Those who entered before may still leave. release: the page table entry and the frame; partners are enter() and try_hold().
  while (!word.compare_exchange_weak(old, (old & ~(kOneInFlight - 1)) | next, std::memory_order_release, std::memory_order_relaxed)) {
  }  // relaxed on failure: tried again
}

}  // namespace netvm
