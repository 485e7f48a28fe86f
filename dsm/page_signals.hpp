// PageSignals: "something about this page has changed", from any node to any node, by NIC atomics alone; the one who is told looks when he likes, and an
// empty look costs one load.
//
// In each node's system area: one bit a page; a summary, one bit for each 64 of those; and a count of signals. The sender sets the page's bit, the
// summary's bit, and adds 1 to the count. The receiver takes the bits away, so that a page may be signalled again.
//
// Invariants
//  1. A signal whose completions have ended is found by every collect() that begins afterwards, unless one before has returned it.
//  2. Signals carry nothing and may be merged: the page comes once.
// Threads: post() and forget() any; changed(), collect() one at a time.
#pragma once

#include <atomic>
#include <cstdint>
#include <vector>

#include "dsm/protocol_env.hpp"
#include "nic/nic.hpp"

namespace netvm::dsm {

class PageSignals {
 public:
  explicit PageSignals(const DsmParts& parts);

  /// How many completions a signal needs.
  static constexpr std::size_t kSteps = 3;
  void post(PageId page, NodeId to, nic::Completion* completions);

  /// Whether there may be signals to this node that collect() has not returned.
  [[nodiscard]] bool changed() const;
  /// Appends the pages signalled since the last call.
  void collect(std::vector<PageId>& pages);
  /// The pages' memory was freed, and nobody signals them any more.
  void forget(PageRange pages);

 private:
  [[nodiscard]] std::uint64_t index_of(PageId page) const { return page.value - shared_.first.value; }
  [[nodiscard]] std::atomic_ref<std::uint64_t> word(std::uint64_t offset) const;  // of this node's own
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
  std::uint64_t counted_ = 0;  // the count at the last collect()
};

}  // namespace netvm::dsm
