#include "dsm/sharing_map.hpp"

#include <algorithm>
#include <atomic>
#include <bit>
#include <mutex>

#include "runtime/check.hpp"

namespace netvm::dsm {

SharingMap::SharingMap(const DsmConfig& config, HostVm& vm, nic::Nic& nic, PageTable& table)
    : config_(config),
      nic_(nic),
      table_(table),
      shared_(config.layout.shared),
      system_(vm.frame(config.layout.system.first)),
      bits_(config.layout.sharing_offset),
      summary_(bits_ + (shared_.count / 64 + 1) * 8),
      count_(summary_ + (shared_.count / (64 * 64) + 1) * 8),
      summary_words_(shared_.count / (64 * 64) + 1),
      seen_(shared_.count / 64 + 1) {
  NETVM_CHECK(seen_.valid(), "no address space for the sharing map: lower NETVM_ADDRESS_SPACE");
}

std::atomic_ref<std::uint64_t> SharingMap::word(std::uint64_t offset) const {
  return std::atomic_ref<std::uint64_t>(*reinterpret_cast<std::uint64_t*>(system_ + offset));
}

void SharingMap::post_announce(PageId page, NodeId home, nic::Completion* completions) {
  const nic::RemoteRegion& map = config_.system[home.value];
  const std::uint64_t index = index_of(page);
  nic::AtomicArgs set;
  set.op = nic::AtomicOp::fetch_or;
  set.operand = std::uint64_t{1} << index % 64;
  nic_.post_atomic(map, bits_offset(index), set, completions);
  set.operand = std::uint64_t{1} << index / 64 % 64;
  nic_.post_atomic(map, summary_offset(index), set, completions + 1);
  nic::AtomicArgs add;
  add.op = nic::AtomicOp::fetch_add;
  add.operand = 1;
  nic_.post_atomic(map, count_, add, completions + 2);
}

std::size_t SharingMap::post_announce(PageRange pages, NodeId home, nic::Completion* completions) {
  NETVM_CHECK(pages.count <= kMostPages, "%llu pages are announced at once", static_cast<unsigned long long>(pages.count));
  const nic::RemoteRegion& map = config_.system[home.value];
  const std::uint64_t first = index_of(pages.first);
  const std::uint64_t end = first + pages.count;
  std::size_t steps = 0;
  nic::AtomicArgs set;
  set.op = nic::AtomicOp::fetch_or;
  for (std::uint64_t word = first / 64; word * 64 < end; ++word) {
    const std::uint64_t from = std::max(first, word * 64) % 64;
    const std::uint64_t count = std::min(end, word * 64 + 64) - std::max(first, word * 64);
    set.operand = (~std::uint64_t{0} >> (64 - count)) << from;
    nic_.post_atomic(map, bits_offset(word * 64), set, completions + steps++);
  }
  // Every word's own bit of the summary after the word, as for one page.
  for (std::uint64_t word = first / 64; word * 64 < end; ++word) {
    set.operand = std::uint64_t{1} << word % 64;
    nic_.post_atomic(map, summary_offset(word * 64), set, completions + steps++);
  }
  nic::AtomicArgs add;
  add.op = nic::AtomicOp::fetch_add;
  add.operand = 1;
  nic_.post_atomic(map, count_, add, completions + steps++);
  return steps;
}

bool SharingMap::is_shared(PageId page) const {
  const std::uint64_t index = index_of(page);
  return (word(bits_offset(index)).load() >> index % 64 & 1) != 0;
}

void SharingMap::inherit(PageId page) {
  const std::uint64_t index = index_of(page);
  const std::uint64_t bit = std::uint64_t{1} << index % 64;
  const std::scoped_lock guard(seen_lock_);
  word(bits_offset(index)).fetch_or(bit);
  seen_[index / 64] |= bit;
}

bool SharingMap::changed(unsigned protocol) const {
  std::atomic_thread_fence(std::memory_order_seq_cst);  // invariant 2; partner: the reader's atomics before its read
  return word(count_).load() != counted_.load() || (aside_.load() >> protocol & 1) != 0;
}

void SharingMap::collect(unsigned protocol, std::vector<PageId>& pages) {
  const std::scoped_lock guard(collect_lock_);
  const std::uint64_t count = word(count_).load();  // first: what is announced meanwhile is collected next time, perhaps again
  for (std::uint64_t s = 0; s < summary_words_; ++s) {
    if (word(summary_ + s * 8).load() == 0) continue;
    std::uint64_t summary = word(summary_ + s * 8).exchange(0);
    for (; summary != 0; summary &= summary - 1) {
      const std::uint64_t group = s * 64 + static_cast<std::uint64_t>(std::countr_zero(summary));
      const std::scoped_lock seen(seen_lock_);
      const std::uint64_t bits = word(bits_ + group * 8).load();
      std::uint64_t fresh = bits & ~seen_[group];
      seen_[group] |= bits;
      for (; fresh != 0; fresh &= fresh - 1) {
        const PageId page{shared_.first.value + group * 64 + static_cast<std::uint64_t>(std::countr_zero(fresh))};
        const PageEntry& entry = table_[page];
        if (!entry.attached()) continue;  // not touched here so far: whoever writes it first looks at its bit
        if (entry.protocol() != protocol) {
          waiting_[entry.protocol()].push_back(page);
          aside_.fetch_or(std::uint64_t{1} << entry.protocol());
        } else {
          pages.push_back(page);
        }
      }
    }
  }
  if (const auto mine = waiting_.find(protocol); mine != waiting_.end()) {
    pages.insert(pages.end(), mine->second.begin(), mine->second.end());
    waiting_.erase(mine);
    aside_.fetch_and(~(std::uint64_t{1} << protocol));
  }
  counted_.store(count);  // last: who sees it sees what was put aside for him
}

void SharingMap::forget(PageRange pages) {
  for (std::uint64_t p = pages.first.value; p != pages.end(); ++p) {
    const std::uint64_t index = index_of(PageId{p});
    const std::uint64_t keep = ~(std::uint64_t{1} << index % 64);
    const std::scoped_lock guard(seen_lock_);
    if ((word(bits_offset(index)).load() & ~keep) != 0) word(bits_offset(index)).fetch_and(keep);
    if ((seen_[index / 64] & ~keep) != 0) seen_[index / 64] &= keep;
  }
}

}  // namespace netvm::dsm
