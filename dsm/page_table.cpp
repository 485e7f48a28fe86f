#include "dsm/page_table.hpp"

#include <mutex>

namespace netvm::dsm {

static_assert(sizeof(PageEntry) == 40, "an entry a page: one percent of the memory it describes");

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
    entry.unit_shift_.store(unit_shift, std::memory_order_relaxed);  // relaxed: published by the store below
    entry.protocol_.store(static_cast<std::uint8_t>(protocol + 1),
                          std::memory_order_release);  // release: publishes the fields above to attached()
  }
}

bool PageEntry::untouched() const { return !attached() && !home_known() && data == 0 && state.load() == 0 && twin == nullptr; }

void PageEntry::clear() {
  // relaxed, all: the locks that the caller holds order them, and only the last store says that the page is nobody's
  access_.store(0, std::memory_order_relaxed);      // relaxed: see above
  unit_shift_.store(0, std::memory_order_relaxed);  // relaxed: see above
  state.store(0, std::memory_order_relaxed);        // relaxed: see above
  data = 0;
  twin = nullptr;
  region_ = 0;
  home_.store(0, std::memory_order_relaxed);      // relaxed: see above
  protocol_.store(0, std::memory_order_release);  // release: partner is attached()
}

void PageTable::detach(Env& env, PageRange pages) {
  if (pages.count == 0) return;
  NETVM_CHECK(contains(pages.first) && pages.end() <= pages_.end(), "detaching pages outside the shared area");
  for (std::uint64_t p = pages.first.value; p != pages.end(); ++p) {
    PageEntry& entry = (*this)[PageId{p}];
    if (entry.untouched()) continue;  // taking its locks would cost memory
    const PageGuard guard(env, entry);
    const std::scoped_lock latched(entry.latch);
    entry.clear();
  }
}

}  // namespace netvm::dsm
