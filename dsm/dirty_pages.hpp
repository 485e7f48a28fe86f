// DirtyPages: the pages that a node has written since its last release, by protocols with twins (PageEntry::kDirty).
//
// Who clears the flag alone leaves the page's name on the list: take() may name pages that are dirty no more, or belong to another allocation by now.
// Threads: any. The flag is guarded as the protocol says; the list has a lock of its own, a leaf.
#pragma once

#include <algorithm>
#include <mutex>
#include <vector>

#include "dsm/page_table.hpp"

namespace netvm::dsm {

/// Ascending, each once.
inline void put_in_order(std::vector<PageId>& pages) {
  std::sort(pages.begin(), pages.end());
  pages.erase(std::unique(pages.begin(), pages.end()), pages.end());
}

class DirtyPages {
 public:
  void add(PageId page, PageEntry& entry) {
    if (entry.is_dirty()) return;
    entry.set_flag(PageEntry::kDirty);
    const std::scoped_lock guard(lock_);
    pages_.push_back(page);
  }
  /// What was added since this was called last: ascending, each page once.
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
  SpinLock lock_;
  std::vector<PageId> pages_;
};

}  // namespace netvm::dsm
