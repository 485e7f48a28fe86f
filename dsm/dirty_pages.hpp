// DirtyPages: the pages that a node has written since its last release, by protocols with twins (PageEntry::kDirty).
//
// Who clears the flag leaves the page's name on the list, and a page that is freed does, too. So a name says only "look at this page": its memory may
// belong to another protocol by now, in whose state the same bit means something else, or to a later allocation of this protocol. has() says whether
// the page is dirty in its present life, and while the lock of the flag is held it stays so: on_detach() takes that lock, too.
// Threads: any. The flag is guarded as the protocol says; the list has a lock of its own, a leaf.
#pragma once

#include <algorithm>
#include <mutex>
#include <vector>

#include "dsm/page_table.hpp"
#include "dsm/protocol_env.hpp"

namespace netvm::dsm {

/// Ascending, each once.
inline void put_in_order(std::vector<PageId>& pages) {
  // Notices name runs of pages, so mostly they are in order; comparing neighbours costs a tenth of sorting them.
  if (!std::is_sorted(pages.begin(), pages.end())) std::sort(pages.begin(), pages.end());
  pages.erase(std::unique(pages.begin(), pages.end()), pages.end());
}

class DirtyPages {
 public:
  explicit DirtyPages(const ProtocolEnv& env) : env_(env) {}

  void add(PageId page, PageEntry& entry) {
    if (entry.is_dirty()) return;
    entry.set_flag(PageEntry::kDirty);
    const std::scoped_lock guard(lock_);
    pages_.push_back(page);
  }
  /// Whether the page is this protocol's, and dirty. Under the flag's lock.
  [[nodiscard]] bool has(const PageEntry& entry) const { return env_.owns(entry) && entry.is_dirty(); }
  /// What was added since this was called last: ascending, each page once. Ask has() of each under its lock before anything is done with it.
  [[nodiscard]] std::vector<PageId> take() {
    std::vector<PageId> taken;
    {
      const std::scoped_lock guard(lock_);
      taken.swap(pages_);
    }
    put_in_order(taken);
    return taken;
  }

 private:
  const ProtocolEnv& env_;
  SpinLock lock_;
  std::vector<PageId> pages_;
};

}  // namespace netvm::dsm
