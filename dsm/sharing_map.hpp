// SharingMap: which pages at home here another node has ever read. A home need not tell anybody that it writes a page which nobody else has: no
// write protection, no faults, no notices. (Private pages are most of what many programs have. Compare exclusive mode in Cashmere-2L, Stets et al. 1997,
// and Pyxis in Argo, Kaxiras et al. 2015.)
//
// A reader signals the page to its home (page_signals.hpp) and only then reads it, once for each page. The bits stay: they are the map.
//
// Invariants
//  1. Announce before reading: the atomics and the read of one channel take effect in the order of posting.
//  2. The home orders its earlier stores before its look at the count (a full fence, changed()). So of a home's store S before a release R and another
//     node's first read F of that page: F sees S, or R sees the announcement (store buffering, forbidden by the two fences).
//  3. Pages of several protocols share the map: whoever looks finds for all, and puts aside what is another protocol's.
//  4. Bits are set by the first reader and stay until the page's memory is freed. Every node announces for itself: that a bit is set already does
//     not say that the home could have noticed.
// Threads: any.
#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <vector>

#include "dsm/dsm.hpp"
#include "dsm/page_signals.hpp"
#include "dsm/page_table.hpp"
#include "nic/nic.hpp"
#include "runtime/env.hpp"
#include "runtime/host_vm.hpp"
#include "runtime/ids.hpp"
#include "runtime/sparse_memory.hpp"

namespace netvm::dsm {

class SharingMap {
 public:
  SharingMap(const DsmConfig& config, HostVm& vm, nic::Nic& nic, PageTable& table);

  /// How many completions an announcement needs.
  static constexpr std::size_t kSteps = PageSignals::kSteps;
  /// Tells the home that this node is going to read neighbouring pages, at most kMostPages: posts kSteps atomics for one, at most kMostSteps for more, and returns
  /// how many. A read posted afterwards to the same home comes after them.
  static constexpr std::uint64_t kMostPages = PageSignals::kMostPages;
  static constexpr std::size_t kMostSteps = PageSignals::kMostSteps;
  std::size_t post_announce(PageRange pages, NodeId home, nic::Completion* completions) { return signals_.post(pages, home, completions); }

  /// At home: whether another node has announced the page.
  [[nodiscard]] bool is_shared(PageId page) const { return signals_.is_set(page); }
  /// At home: counts the page as announced, and as collected. For a home that inherits readers from another one.
  void inherit(PageId page);
  /// At home: whether there may be announcements of the protocol's pages that collect() has not returned. Orders the caller's earlier stores before the look.
  [[nodiscard]] bool changed(unsigned protocol) const;
  /// At home: appends the protocol's pages that were announced since the last call.
  void collect(unsigned protocol, std::vector<PageId>& pages);
  /// The pages' memory was freed, and nobody reads it any more.
  void forget(PageRange pages);

 private:
  PageTable& table_;
  PageRange shared_;
  PageSignals signals_;
  std::atomic<std::uint64_t> aside_{0};  // a bit for each protocol that has something in waiting_
  SpinLock collect_lock_;                // guards waiting_ and changes of aside_; looks one at a time
  std::map<unsigned, std::vector<PageId>> waiting_;
  // Guards seen_ together with the bits as collect() saw them: a page that is forgotten between the two would stay seen, and the first
  // reader of its next life would not be noticed.
  SpinLock seen_lock_;
  SparseArray<std::uint64_t> seen_;  // bits that collect() has returned
};

}  // namespace netvm::dsm
