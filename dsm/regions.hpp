// RegionDirectory: the extents that this node has met, and what happened in each of them.
//
// Invariants
//  1. The extents do not overlap. One that was removed is found no more.
//  2. Stats of a region stay where they are until the directory goes, so that counting needs no lock. A removed region's index is used again;
//     its counts are then added to those of all removed regions of its protocol.
// Threads: any; never blocks.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "dsm/extent.hpp"
#include "runtime/env.hpp"
#include "runtime/stats.hpp"

namespace netvm::dsm {

class RegionDirectory {
 public:
  RegionDirectory();
  ~RegionDirectory();
  RegionDirectory(const RegionDirectory&) = delete;
  RegionDirectory& operator=(const RegionDirectory&) = delete;

  struct Found {
    Extent extent;
    std::uint32_t region = 0;
  };
  [[nodiscard]] std::optional<Found> find(PageId page) const;
  /// The extent that the page lies in, or the last one before it.
  [[nodiscard]] std::optional<Found> find_before(PageId page) const;
  /// Makes the extent known; idempotent. Returns its region.
  std::uint32_t add(const Extent& extent);
  /// Forgets the extent with that serial number, if it is known.
  void remove(const Extent& extent);

  /// Calls use() if the page lies in a known extent of that serial number, which is not removed meanwhile. Returns whether. use() must not call back.
  template <class Use>
  bool while_known(PageId page, std::uint64_t serial, Use&& use) const {
    const std::scoped_lock guard(lock_);
    auto it = by_page_.upper_bound(page.value);
    if (it == by_page_.begin()) return false;
    --it;
    if (it->second.extent.serial != serial || !it->second.extent.pages.contains(page)) return false;
    use();
    return true;
  }

  /// Counters of a region.
  [[nodiscard]] Stats& stats(std::uint32_t region) const;
  /// Of all regions, by offset, then one for each protocol that had regions that are gone (bytes 0).
  [[nodiscard]] std::vector<RegionReport> report() const;

 private:
  static constexpr std::size_t kChunk = 64;
  static constexpr std::size_t kChunks = 4096;
  using Chunk = std::array<Stats, kChunk>;
  // The last index is shared by all regions beyond the table; it is never given back.
  static constexpr std::uint32_t kLast = kChunk * kChunks - 1;

  std::uint32_t take_index();               // lock_ held
  void retire_counts(const Found& region);  // lock_ held

  mutable SpinLock lock_;
  std::map<std::uint64_t, Found> by_page_;  // by first page
  std::vector<std::uint32_t> free_;
  std::uint32_t next_ = 0;
  std::map<std::uint8_t, std::array<std::uint64_t, kStatCount>> gone_;  // protocol -> counts
  std::unique_ptr<std::array<std::atomic<Chunk*>, kChunks>> chunks_;
};

}  // namespace netvm::dsm
