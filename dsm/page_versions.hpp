// PageVersions: pages by the version in which they were written last. Its size is that of the set of pages, however often they are written; asking what
// was written after a version costs what the answer has.
//
// Invariants
//  1. A page is in there once, with the highest version that was noted for it.
// Threads: not synchronised.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <utility>
#include <vector>

#include "runtime/ids.hpp"

namespace netvm::dsm {

class PageVersions {
 public:
  void note(PageId page, std::uint64_t version) {
    const auto [at, is_new] = of_page_.try_emplace(page, version);
    if (!is_new) {
      if (at->second >= version) return;
      by_version_.erase({at->second, page});
      at->second = version;
    }
    by_version_.insert({version, page});
  }

  /// visit(version, pages) for each version above `after`, in order; the pages are in order, too.
  template <class Visit>
  void each_after(std::uint64_t after, Visit&& visit) const {
    std::vector<PageId> pages;
    for (auto at = by_version_.lower_bound({after + 1, PageId{0}}); at != by_version_.end();) {
      const std::uint64_t version = at->first;
      pages.clear();
      for (; at != by_version_.end() && at->first == version; ++at) pages.push_back(at->second);
      visit(version, std::as_const(pages));
    }
  }
  /// All pages, in order.
  [[nodiscard]] std::vector<PageId> pages() const {
    std::vector<PageId> all;
    all.reserve(of_page_.size());
    for (const auto& [page, version] : of_page_) all.push_back(page);
    return all;
  }
  [[nodiscard]] std::size_t size() const { return of_page_.size(); }
  void clear() {
    of_page_.clear();
    by_version_.clear();
  }

 private:
  std::map<PageId, std::uint64_t> of_page_;
  std::set<std::pair<std::uint64_t, PageId>> by_version_;
};

}  // namespace netvm::dsm
