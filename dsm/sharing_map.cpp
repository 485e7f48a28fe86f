#include "dsm/sharing_map.hpp"

#include <atomic>
#include <bit>
#include <mutex>

#include "runtime/check.hpp"

namespace netvm::dsm {

SharingMap::SharingMap(const DsmConfig& config, HostVm& vm, nic::Nic& nic, PageTable& table)
    : table_(table), shared_(config.layout.shared), signals_(config, vm, nic, config.layout.sharing_offset), seen_(shared_.count / 64 + 1) {
  NETVM_CHECK(seen_.valid(), "no address space for the sharing map: lower NETVM_ADDRESS_SPACE");
}

void SharingMap::inherit(PageId page) {
  const std::uint64_t index = signals_.index_of(page);
  const std::scoped_lock guard(seen_lock_);
  signals_.set(page);
  seen_[index / 64] |= std::uint64_t{1} << index % 64;
}

bool SharingMap::changed(unsigned protocol) const {
  std::atomic_thread_fence(std::memory_order_seq_cst);  // invariant 2; partner: the reader's atomics before its read
  return signals_.changed() || (aside_.load() >> protocol & 1) != 0;
}

void SharingMap::collect(unsigned protocol, std::vector<PageId>& pages) {
  const std::scoped_lock guard(collect_lock_);
  signals_.look([&](std::uint64_t first, std::atomic_ref<std::uint64_t> announced) {
    const std::scoped_lock seen(seen_lock_);
    const std::uint64_t bits = announced.load();
    std::uint64_t fresh = bits & ~seen_[first / 64];
    seen_[first / 64] |= bits;
    for (; fresh != 0; fresh &= fresh - 1) {
      const PageId page{shared_.first.value + first + static_cast<std::uint64_t>(std::countr_zero(fresh))};
      const PageEntry& entry = table_[page];
      if (!entry.attached()) continue;  // not touched here so far: whoever writes it first looks at its bit
      if (entry.protocol() != protocol) {
        waiting_[entry.protocol()].push_back(page);
        aside_.fetch_or(std::uint64_t{1} << entry.protocol());
      } else {
        pages.push_back(page);
      }
    }
  });
  const auto mine = waiting_.find(protocol);
  if (mine == waiting_.end()) return;
  pages.insert(pages.end(), mine->second.begin(), mine->second.end());
  waiting_.erase(mine);
  aside_.fetch_and(~(std::uint64_t{1} << protocol));
}

void SharingMap::forget(PageRange pages) {
  for (std::uint64_t p = pages.first.value; p != pages.end(); ++p) {
    const std::uint64_t index = signals_.index_of(PageId{p});
    const std::uint64_t bit = std::uint64_t{1} << index % 64;
    const std::scoped_lock guard(seen_lock_);
    signals_.forget({PageId{p}, 1});
    if ((seen_[index / 64] & bit) != 0) seen_[index / 64] &= ~bit;
  }
}

}  // namespace netvm::dsm
