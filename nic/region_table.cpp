#include "nic/region_table.hpp"

namespace netvm::nic {

Result<RemoteRegion> RegionTable::create(Env& env, PageRange pages, Rights rights) {
  for (std::uint32_t tried = 0; tried < kEntries; ++tried) {
    const std::uint32_t index = (next_ + tried) % kEntries;
    RegionEntry& entry = entries_[index];
    if (entry.in_use.load(std::memory_order_relaxed) != 0) continue;  // relaxed: only the owner writes it, serialised
    std::uint64_t key = env.random();
    while (key == 0 || key == entry.revoked_key.load(std::memory_order_relaxed)) key = env.random();  // relaxed: as above
    entry.in_use.store(1, std::memory_order_relaxed);                                                 // relaxed: as above
    entry.first_page.store(pages.first.value, std::memory_order_relaxed);                             // relaxed: published by the key
    entry.pages.store(pages.count, std::memory_order_relaxed);                                        // relaxed: published by the key
    entry.rights.store(static_cast<std::uint32_t>(rights), std::memory_order_relaxed);                // relaxed: published by the key
    entry.generation.fetch_add(1, std::memory_order_relaxed);                                         // relaxed: published by the key
    entry.key.store(key, std::memory_order_release);  // release: partner is find()'s acquire
    next_ = index + 1;
    return RemoteRegion{node_, RegionId{index}, key, pages.count * kPageSize};
  }
  return Status::exhausted;
}

Status RegionTable::close(const RemoteRegion& region, PageRange* pages) {
  if (region.node != node_ || region.id.value >= kEntries || region.key == 0) return Status::key;
  RegionEntry& entry = entries_[region.id.value];
  if (entry.key.load() != region.key) return why_not(entry, region.key);
  entry.revoked_key.store(region.key, std::memory_order_relaxed);  // relaxed: published by the next store
  entry.key.store(0);                                              // seq_cst: before drain()'s look at the locks (invariant 2)
  *pages = {PageId{entry.first_page.load()}, entry.pages.load()};
  return Status::ok;
}

// Of what grants() has refused. The entry may have changed since: a key that fits by now came too late.
Status RegionTable::why_not(RegionId id, std::uint64_t key, std::uint64_t offset, std::uint64_t bytes, Rights need) const {
  if (id.value >= kEntries || key == 0) return Status::key;
  const RegionEntry& entry = entries_[id.value];
  if (entry.key.load() != key) return why_not(entry, key);
  const std::uint64_t length = entry.pages.load() * kPageSize;
  if (offset > length || bytes > length - offset) return Status::range;
  return allows(static_cast<Rights>(entry.rights.load()), need) ? Status::key : Status::perm;
}

Status RegionTable::why_not(const RegionEntry& entry, std::uint64_t key) {
  return entry.revoked_key.load(std::memory_order_relaxed) == key ? Status::revoked : Status::key;  // relaxed: only words an error
}

}  // namespace netvm::nic
