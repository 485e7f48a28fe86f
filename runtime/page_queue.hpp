// PageQueue: a queue of pages in order of entry, linked through the pages' own entries, so that a page can leave from the middle and nothing is allocated.
// A page is in one queue at most. Not synchronised.
#pragma once

#include <cstdint>

#include "runtime/check.hpp"
#include "runtime/ids.hpp"
#include "runtime/sparse_memory.hpp"

namespace netvm {

/// Part of a page's entry. Page number + 1; 0: nobody.
struct PageLinks {
  std::uint64_t before;
  std::uint64_t after;
};

/// Entry derives from PageLinks.
template <class Entry>
class PageQueue {
 public:
  explicit PageQueue(const SparseArray<Entry>& entries) : entries_(entries) {}

  [[nodiscard]] std::uint64_t size() const { return size_; }
  [[nodiscard]] bool empty() const { return size_ == 0; }

  void push(PageId page) {
    entries_[page.value].before = last_;
    entries_[page.value].after = 0;
    (last_ == 0 ? first_ : entries_[last_ - 1].after) = page.value + 1;
    last_ = page.value + 1;
    ++size_;
  }
  /// Takes the page that has been here longest. Requires one.
  PageId pop() {
    NETVM_CHECK(size_ != 0, "an empty queue of pages has no first one");
    const PageId page{first_ - 1};
    remove(page);
    return page;
  }
  /// Requires that the page is in this queue.
  void remove(PageId page) {
    const PageLinks links = entries_[page.value];
    (links.before == 0 ? first_ : entries_[links.before - 1].after) = links.after;
    (links.after == 0 ? last_ : entries_[links.after - 1].before) = links.before;
    --size_;
  }

 private:
  const SparseArray<Entry>& entries_;
  std::uint64_t first_ = 0;
  std::uint64_t last_ = 0;
  std::uint64_t size_ = 0;
};

}  // namespace netvm
