#include "dsm/page_signals.hpp"

#include <algorithm>

#include "runtime/check.hpp"

namespace netvm::dsm {

PageSignals::PageSignals(const DsmConfig& config, HostVm& vm, nic::Nic& nic, std::uint64_t offset)
    : config_(config),
      nic_(nic),
      shared_(config.layout.shared),
      system_(vm.frame(config.layout.system.first)),
      bits_(offset),
      summary_(bits_ + (shared_.count / 64 + 1) * 8),
      count_(summary_ + (shared_.count / (64 * 64) + 1) * 8),
      summary_words_(shared_.count / (64 * 64) + 1) {}

std::size_t PageSignals::post(PageRange pages, NodeId to, nic::Completion* completions) {
  NETVM_CHECK(pages.count <= kMostPages, "%llu pages are signalled at once", static_cast<unsigned long long>(pages.count));
  const nic::RemoteRegion& area = config_.system[to.value];
  const std::uint64_t first = index_of(pages.first);
  const std::uint64_t end = first + pages.count;
  std::size_t steps = 0;
  nic::AtomicArgs set;
  set.op = nic::AtomicOp::fetch_or;
  for (std::uint64_t word = first / 64; word * 64 < end; ++word) {
    const std::uint64_t from = std::max(first, word * 64) % 64;
    const std::uint64_t count = std::min(end, word * 64 + 64) - std::max(first, word * 64);
    set.operand = (~std::uint64_t{0} >> (64 - count)) << from;
    nic_.post_atomic(area, bits_offset(word * 64), set, completions + steps++);
  }
  // Every word's own bit of the summary after the word.
  for (std::uint64_t word = first / 64; word * 64 < end; ++word) {
    set.operand = std::uint64_t{1} << word % 64;
    nic_.post_atomic(area, summary_offset(word * 64), set, completions + steps++);
  }
  nic::AtomicArgs add;
  add.op = nic::AtomicOp::fetch_add;
  add.operand = 1;
  nic_.post_atomic(area, count_, add, completions + steps++);
  return steps;
}

void PageSignals::collect(std::vector<PageId>& pages) {
  look([&](std::uint64_t first, std::atomic_ref<std::uint64_t> bits) {
    for (std::uint64_t set = bits.exchange(0); set != 0; set &= set - 1) {
      const std::uint64_t index = first + static_cast<std::uint64_t>(std::countr_zero(set));
      if (index < shared_.count) pages.push_back(PageId{shared_.first.value + index});
    }
  });
}

bool PageSignals::is_set(PageId page) const {
  const std::uint64_t index = index_of(page);
  return (word(bits_offset(index)).load() >> index % 64 & 1) != 0;
}

void PageSignals::set(PageId page) {
  const std::uint64_t index = index_of(page);
  word(bits_offset(index)).fetch_or(std::uint64_t{1} << index % 64);
}

void PageSignals::forget(PageRange pages) {
  for (std::uint64_t p = pages.first.value; p != pages.end(); ++p) {
    const std::uint64_t index = index_of(PageId{p});
    const std::uint64_t bit = std::uint64_t{1} << index % 64;
    if ((word(bits_offset(index)).load() & bit) != 0) word(bits_offset(index)).fetch_and(~bit);
  }
}

}  // namespace netvm::dsm
