#include "dsm/page_signals.hpp"

#include <bit>

#include "dsm/dsm.hpp"

namespace netvm::dsm {

PageSignals::PageSignals(const DsmParts& parts)
    : config_(parts.config),
      nic_(parts.nic),
      shared_(parts.config.layout.shared),
      system_(parts.vm.frame(parts.config.layout.system.first)),
      bits_(parts.config.layout.signals_offset),
      summary_(bits_ + (shared_.count / 64 + 1) * 8),
      count_(summary_ + (shared_.count / (64 * 64) + 1) * 8),
      summary_words_(shared_.count / (64 * 64) + 1) {}

std::atomic_ref<std::uint64_t> PageSignals::word(std::uint64_t offset) const {
  return std::atomic_ref<std::uint64_t>(*reinterpret_cast<std::uint64_t*>(system_ + offset));
}

void PageSignals::post(PageId page, NodeId to, nic::Completion* completions) {
  const nic::RemoteRegion& area = config_.system[to.value];
  const std::uint64_t index = index_of(page);
  nic::AtomicArgs set;
  set.op = nic::AtomicOp::fetch_or;
  set.operand = std::uint64_t{1} << index % 64;
  nic_.post_atomic(area, bits_offset(index), set, completions);
  set.operand = std::uint64_t{1} << index / 64 % 64;
  nic_.post_atomic(area, summary_offset(index), set, completions + 1);
  nic::AtomicArgs add;
  add.op = nic::AtomicOp::fetch_add;
  add.operand = 1;
  nic_.post_atomic(area, count_, add, completions + 2);
}

bool PageSignals::changed() const { return word(count_).load() != counted_; }

void PageSignals::collect(std::vector<PageId>& pages) {
  counted_ = word(count_).load();  // first: what is signalled meanwhile is looked for next time, perhaps in vain
  for (std::uint64_t s = 0; s < summary_words_; ++s) {
    if (word(summary_ + s * 8).load() == 0) continue;
    for (std::uint64_t summary = word(summary_ + s * 8).exchange(0); summary != 0; summary &= summary - 1) {
      const std::uint64_t group = s * 64 + static_cast<std::uint64_t>(std::countr_zero(summary));
      for (std::uint64_t bits = word(bits_ + group * 8).exchange(0); bits != 0; bits &= bits - 1) {
        const std::uint64_t index = group * 64 + static_cast<std::uint64_t>(std::countr_zero(bits));
        if (index < shared_.count) pages.push_back(PageId{shared_.first.value + index});
      }
    }
  }
}

void PageSignals::forget(PageRange pages) {
  for (std::uint64_t p = pages.first.value; p != pages.end(); ++p) {
    const std::uint64_t index = index_of(PageId{p});
    const std::uint64_t bit = std::uint64_t{1} << index % 64;
    if ((word(bits_offset(index)).load() & bit) != 0) word(bits_offset(index)).fetch_and(~bit);
  }
}

}  // namespace netvm::dsm
