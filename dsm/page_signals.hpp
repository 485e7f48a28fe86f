// PageSignals: "something about this page", from any node to any node, by NIC atomics alone; the one who is told looks when he likes, and an empty look
// costs one load.
//
// In each node's system area: one bit a page; a summary, one bit for each 64 of those; and a count of signals. The sender sets the page's bit, the
// summary's bit, and adds 1 to the count. Who looks takes the summary away, and does with the pages' bits what he likes: takes them away, too, so that a page may be
// signalled again, or leaves them as a record (sharing_map.hpp).
//
// Invariants
//  1. A signal whose completions have ended is found by every look that begins afterwards, unless one before has found it.
//  2. Signals carry nothing and may be merged: the page comes once.
// Threads: any; looks one at a time.
#pragma once

#include <atomic>
#include <bit>
#include <cstdint>
#include <vector>

#include "dsm/dsm.hpp"
#include "nic/nic.hpp"
#include "runtime/host_vm.hpp"

namespace netvm::dsm {

class PageSignals {
 public:
  /// Of the memory at that offset in every node's system area.
  PageSignals(const DsmConfig& config, HostVm& vm, nic::Nic& nic, std::uint64_t offset);

  /// How many completions a signal needs.
  static constexpr std::size_t kSteps = 3;
  void post(PageId page, NodeId to, nic::Completion* completions) { (void)post(PageRange{page, 1}, to, completions); }
  /// The same for neighbouring pages, at most kMostPages; returns how many completions it used, at most kMostSteps.
  static constexpr std::uint64_t kMostPages = 64;
  static constexpr std::size_t kMostSteps = 5;
  std::size_t post(PageRange pages, NodeId to, nic::Completion* completions);

  // ---- of this node's own
  /// Whether there may be signals that no look has found.
  [[nodiscard]] bool changed() const { return word(count_).load() != counted_.load(); }
  /// Calls visit(index of the first page, the bits of 64 pages) where there may be signals since the last call.
  template <class Visit>
  void look(Visit&& visit) {
    const std::uint64_t count = word(count_).load();  // first: what is signalled meanwhile is looked for next time, perhaps in vain
    for (std::uint64_t s = 0; s < summary_words_; ++s) {
      if (word(summary_ + s * 8).load() == 0) continue;
      for (std::uint64_t summary = word(summary_ + s * 8).exchange(0); summary != 0; summary &= summary - 1) {
        const std::uint64_t group = s * 64 + static_cast<std::uint64_t>(std::countr_zero(summary));
        visit(group * 64, word(bits_ + group * 8));
      }
    }
    counted_.store(count);  // last: who finds nothing new sees what this look has found
  }
  /// Takes the bits away, and appends the pages signalled since the last call.
  void collect(std::vector<PageId>& pages);
  [[nodiscard]] bool is_set(PageId page) const;
  void set(PageId page);
  /// The pages' memory was freed, and nobody signals them any more.
  void forget(PageRange pages);

  [[nodiscard]] std::uint64_t index_of(PageId page) const { return page.value - shared_.first.value; }

 private:
  [[nodiscard]] std::atomic_ref<std::uint64_t> word(std::uint64_t offset) const {
    return std::atomic_ref<std::uint64_t>(*reinterpret_cast<std::uint64_t*>(system_ + offset));
  }
  [[nodiscard]] std::uint64_t bits_offset(std::uint64_t index) const { return bits_ + index / 64 * 8; }
  [[nodiscard]] std::uint64_t summary_offset(std::uint64_t index) const { return summary_ + index / (64 * 64) * 8; }

  const DsmConfig& config_;
  nic::Nic& nic_;
  PageRange shared_;
  std::byte* system_;   // this node's system area
  std::uint64_t bits_;  // offsets in the system area
  std::uint64_t summary_;
  std::uint64_t count_;
  std::uint64_t summary_words_;
  std::atomic<std::uint64_t> counted_{0};  // the count when the last look began
};

}  // namespace netvm::dsm
