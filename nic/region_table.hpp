// Region table: which parts of a node's memory others may touch, and with which key.
//
// Invariants
//  1. An entry's key is 0 while the entry is free or being changed. A request's key is never 0 (0 is refused), so it matches only a
//     complete entry; the other fields do not change while the key stands.
//  2. Whoever uses an entry checks the key again after locking a page and before touching it. So revocation is: key = 0, then wait
//     until every page lock that existed has gone (ShadowPageTable::drain). After that no access under the old key can begin or go on.
//  3. Keys are 64 random bits. The last key of an entry is remembered: its holders are told E_REVOKED, everybody else E_KEY.
// Threads: find(): any, of any process that maps the device. create() and revoke(): the owning node's threads, serialised by the caller.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "nic/verbs.hpp"
#include "runtime/env.hpp"
#include "runtime/ids.hpp"
#include "runtime/status.hpp"

namespace netvm::nic {

/// In device memory. 0 everywhere: free.
struct alignas(kCacheLine) RegionEntry {
  std::atomic<std::uint64_t> key;          ///< invariant 1
  std::atomic<std::uint64_t> revoked_key;  ///< of the region that was here last: distinguishes E_REVOKED from E_KEY
  std::atomic<std::uint64_t> first_page;
  std::atomic<std::uint64_t> pages;
  std::atomic<std::uint32_t> rights;
  std::atomic<std::uint32_t> generation;  ///< how many regions have been here
  std::atomic<std::uint32_t> in_use;
};
static_assert(sizeof(RegionEntry) == kCacheLine);

class RegionTable final {
 public:
  static constexpr std::uint32_t kEntries = 256;
  static constexpr std::uint64_t kBytes = kEntries * sizeof(RegionEntry);

  /// Over kEntries entries (zeroed: all free) of `node`.
  RegionTable(RegionEntry* entries, NodeId node) : entries_(entries), node_(node) {}

  /// Status::exhausted if no entry is free. The pages must lie in the node's memory (the caller has checked).
  Result<RemoteRegion> create(Env& env, PageRange pages, Rights rights);
  /// Complete when it returns. E_KEY if it names no region of this table, E_REVOKED if it is revoked already. `shadow`: the node's shadow
  /// page table.
  template <class Shadow>
  Status revoke(const RemoteRegion& region, Shadow& shadow) {
    PageRange pages;
    if (const Status status = close(region, &pages); !ok(status)) return status;
    shadow.drain(pages);
    entries_[region.id.value].in_use.store(0, std::memory_order_relaxed);  // relaxed: only the owner reads it
    return Status::ok;
  }

  /// What a request may touch.
  struct Grant {
    const RegionEntry* entry = nullptr;
    std::uint64_t first_byte = 0;  ///< address of the access in the node's memory: bytes from its start
  };
  /// Key, range and rights, in this order. *grant is set only on success.
  [[gnu::always_inline]] Status find(RegionId id, std::uint64_t key, std::uint64_t offset, std::uint64_t bytes, Rights need,
                                     Grant* grant) const {
    if (grants(entries_, id, key, offset, bytes, need, grant)) [[likely]]
      return Status::ok;
    return why_not(id, key, offset, bytes, need);
  }
  /// The same without saying why not: no call, so that who uses it needs no stack.
  [[gnu::always_inline]] static bool grants(const RegionEntry* entries, RegionId id, std::uint64_t key, std::uint64_t offset,
                                            std::uint64_t bytes, Rights need, Grant* grant) {
    if (id.value >= kEntries || key == 0) [[unlikely]]
      return false;
    const RegionEntry& entry = entries[id.value];
    if (entry.key.load(std::memory_order_acquire) != key) [[unlikely]]  // acquire: partner is create()'s release of the key
      return false;
    const std::uint64_t length = entry.pages.load(std::memory_order_relaxed) * kPageSize;   // relaxed: published by the key
    const auto rights = static_cast<Rights>(entry.rights.load(std::memory_order_relaxed));  // relaxed: published by the key
    if (offset > length || bytes > length - offset || !allows(rights, need)) [[unlikely]]
      return false;
    *grant = {&entry, entry.first_page.load(std::memory_order_relaxed) * kPageSize + offset};  // relaxed: published by the key
    return true;
  }
  /// Invariant 2: call after locking the page.
  static bool still_valid(const RegionEntry& entry, std::uint64_t key) { return entry.key.load() == key; }

  [[nodiscard]] const RegionEntry& entry(RegionId id) const { return entries_[id.value]; }
  [[nodiscard]] const RegionEntry* entries() const { return entries_; }

 private:
  Status close(const RemoteRegion& region, PageRange* pages);  // invariant 2: the key goes
  [[nodiscard]] Status why_not(RegionId id, std::uint64_t key, std::uint64_t offset, std::uint64_t bytes, Rights need) const;
  static Status why_not(const RegionEntry& entry, std::uint64_t key);

  RegionEntry* entries_;
  NodeId node_;
  std::uint32_t next_ = 0;  // where create() looks first: a freed entry is reused late
};

}  // namespace netvm::nic
