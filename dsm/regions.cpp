#include "dsm/regions.hpp"

#include <iterator>
#include <mutex>

#include "dsm/protocol.hpp"

namespace netvm::dsm {

RegionDirectory::RegionDirectory() : chunks_(std::make_unique<std::array<std::atomic<Chunk*>, kChunks>>()) {}

RegionDirectory::~RegionDirectory() {
  for (std::atomic<Chunk*>& chunk : *chunks_) delete chunk.load();
}

Stats& RegionDirectory::stats(std::uint32_t region) const {
  Chunk* chunk = (*chunks_)[region / kChunk].load(std::memory_order_acquire);  // acquire: partner is take_index()'s release
  NETVM_CHECK(chunk != nullptr, "region %u was never made", region);
  return (*chunk)[region % kChunk];
}

std::uint32_t RegionDirectory::take_index() {
  if (!free_.empty()) {
    const std::uint32_t index = free_.back();
    free_.pop_back();
    return index;
  }
  const std::uint32_t index = next_ == kLast ? kLast : next_++;
  std::atomic<Chunk*>& chunk = (*chunks_)[index / kChunk];
  if (chunk.load(std::memory_order_relaxed) == nullptr) {  // relaxed: only written under lock_
    chunk.store(new Chunk(), std::memory_order_release);   // release: partner is at()'s acquire
  }
  return index;
}

std::optional<RegionDirectory::Found> RegionDirectory::find_before(PageId page) const {
  const std::scoped_lock guard(lock_);
  const auto it = by_page_.upper_bound(page.value);
  if (it == by_page_.begin()) return std::nullopt;
  return std::prev(it)->second;
}

std::optional<RegionDirectory::Found> RegionDirectory::find(PageId page) const {
  const std::optional<Found> found = find_before(page);
  if (!found || !found->extent.pages.contains(page)) return std::nullopt;
  return found;
}

std::uint32_t RegionDirectory::add(const Extent& extent) {
  const std::scoped_lock guard(lock_);
  const auto it = by_page_.find(extent.pages.first.value);
  if (it != by_page_.end()) {
    NETVM_CHECK(it->second.extent.serial == extent.serial, "an extent was handed out again before this node forgot it");
    return it->second.region;
  }
  const std::uint32_t index = take_index();
  by_page_.emplace(extent.pages.first.value, Found{extent, index});
  return index;
}

void RegionDirectory::retire_counts(const Found& region) {
  auto& sums = gone_[region.extent.protocol];
  Stats& counts = stats(region.region);
  for (std::size_t i = 0; i < kStatCount; ++i) {
    const auto stat = static_cast<Stat>(i);
    const std::uint64_t value = counts.get(stat);
    sums[i] += value;
    counts.add(stat, ~value + 1);  // back to 0
  }
}

void RegionDirectory::remove(const Extent& extent) {
  const std::scoped_lock guard(lock_);
  const auto it = by_page_.find(extent.pages.first.value);
  if (it == by_page_.end() || it->second.extent.serial != extent.serial) return;
  if (it->second.region != kLast) {
    retire_counts(it->second);
    free_.push_back(it->second.region);
  }
  by_page_.erase(it);
}

std::vector<RegionReport> RegionDirectory::report() const {
  const std::scoped_lock guard(lock_);
  std::vector<RegionReport> reports;
  for (const auto& [first, found] : by_page_) {
    const Stats& counts = stats(found.region);
    RegionReport report;
    report.name = to_string(found.extent.name);
    report.is_slab = found.extent.is_slab();
    report.offset = first * kPageSize;
    report.bytes = found.extent.bytes;
    report.granularity = found.extent.unit_pages() * kPageSize;
    report.protocol = protocols()[found.extent.protocol].traits.name;
    for (std::size_t i = 0; i < kStatCount; ++i) report.stats[i] = counts.get(static_cast<Stat>(i));
    reports.push_back(std::move(report));
  }
  for (const auto& [protocol, sums] : gone_) {
    RegionReport report;
    report.protocol = protocols()[protocol].traits.name;
    for (std::size_t i = 0; i < kStatCount; ++i) report.stats[i] = sums[i];
    reports.push_back(std::move(report));
  }
  return reports;
}

}  // namespace netvm::dsm
