#include "dsm/page_table.hpp"

#include <sys/mman.h>

#include <cstring>

namespace netvm::dsm {

static_assert(sizeof(PageEntry) == 40, "an entry a page: one percent of the memory it describes");

namespace {

constexpr std::uintptr_t align_up(std::uintptr_t value) { return (value + kPageSize - 1) & ~(std::uintptr_t{kPageSize} - 1); }
constexpr std::uintptr_t align_down(std::uintptr_t value) { return value & ~(std::uintptr_t{kPageSize} - 1); }

}  // namespace

void PageLock::lock_slow(Env& env) {
  const Nanos spin_until = env.now() + env.spin_budget();
  while (env.now() < spin_until) {
    env.relax();
    if (try_lock()) return;
  }
  while (state_.exchange(2, std::memory_order_acquire) != 0) {  // acquire: partner is unlock()'s exchange
    const ParkOn held{&state_, 2};
    env.park({&held, 1}, kForever);
  }
}

PageTable::PageTable(PageRange pages) : pages_(pages), entries_(pages.count) {
  NETVM_CHECK(entries_.valid(), "no address space for a page table of %llu pages: lower NETVM_ADDRESS_SPACE",
              static_cast<unsigned long long>(pages.count));
}

void PageTable::attach(PageRange pages, unsigned protocol, std::uint32_t region, std::uint8_t unit_shift) {
  // Backwards: who finds any page of a unit attached finds its head attached, or waits for the head's lock.
  for (std::uint64_t p = pages.end(); p-- > pages.first.value;) {
    PageEntry& entry = (*this)[PageId{p}];
    entry.region_ = region;
    entry.unit_shift_ = unit_shift;
    entry.protocol_.store(static_cast<std::uint8_t>(protocol + 1),
                          std::memory_order_release);  // release: publishes the fields above to attached()
  }
}

void PageTable::detach(PageRange pages) {
  if (pages.count == 0) return;
  NETVM_CHECK(contains(pages.first) && pages.end() <= pages_.end(), "detaching pages outside the shared area");
  auto* const first = reinterpret_cast<std::byte*>(&(*this)[pages.first]);
  auto* const last = first + pages.count * sizeof(PageEntry);
  auto* const whole_first = reinterpret_cast<std::byte*>(align_up(reinterpret_cast<std::uintptr_t>(first)));
  auto* const whole_last = reinterpret_cast<std::byte*>(align_down(reinterpret_cast<std::uintptr_t>(last)));
  if (whole_first >= whole_last) {
    std::memset(first, 0, static_cast<std::size_t>(last - first));
    return;
  }
  std::memset(first, 0, static_cast<std::size_t>(whole_first - first));
  std::memset(whole_last, 0, static_cast<std::size_t>(last - whole_last));
  const int result = madvise(whole_first, static_cast<std::size_t>(whole_last - whole_first), MADV_DONTNEED);
  NETVM_CHECK(result == 0, "the kernel does not take pages of the page table back");
}

}  // namespace netvm::dsm
