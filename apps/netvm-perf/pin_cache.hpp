// A pin-down cache, as dynamic pinning systems have it (Tezuka et al., IPPS 1998): what NetVM is compared to. A buffer is pinned with
// mlock() when it is used first and stays so until its place is needed: a hash table to find blocks, a list by recency to choose the victim.
//
// Invariants
//  1. Memory is pinned in aligned blocks of one size, so that no two entries overlap: munlock() of one never unpins another's.
//  2. At most `capacity` blocks are pinned; every pinned block is in the cache, and none is when it is destroyed.
// Threads: one.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace netvm::perf {

class PinCache {
 public:
  /// `block_bytes`: a multiple of the page.
  PinCache(std::size_t capacity, std::size_t block_bytes);
  ~PinCache();
  PinCache(const PinCache&) = delete;
  PinCache& operator=(const PinCache&) = delete;

  /// Pins what the bytes touch, if it is not pinned. Throws std::runtime_error when the kernel refuses.
  void pin(const std::byte* at, std::size_t bytes) {
    const std::uintptr_t end = reinterpret_cast<std::uintptr_t>(at) + bytes;
    for (std::uintptr_t block = reinterpret_cast<std::uintptr_t>(at) / block_bytes_; block * block_bytes_ < end; ++block) pin_block(block);
  }

  [[nodiscard]] std::uint64_t hits() const { return hits_; }
  [[nodiscard]] std::uint64_t misses() const { return misses_; }
  [[nodiscard]] std::size_t pinned() const { return used_; }
  [[nodiscard]] bool holds(const std::byte* at) const { return find(reinterpret_cast<std::uintptr_t>(at) / block_bytes_) != kNone; }

 private:
  static constexpr std::uint32_t kNone = UINT32_MAX;
  struct Entry {
    std::uintptr_t block;
    std::uint32_t newer;
    std::uint32_t older;
  };

  void pin_block(std::uintptr_t block) {
    const std::uint32_t slot = find(block);
    if (slot == kNone) return miss(block);
    ++hits_;
    const std::uint32_t entry = table_[slot];
    if (entry == newest_) return;
    unlink(entry);
    link_newest(entry);
  }
  [[nodiscard]] std::size_t home_of(std::uintptr_t block) const { return (block * 0x9e3779b97f4a7c15ULL) >> shift_; }
  /// The slot of the table that names the block's entry, or kNone.
  [[nodiscard]] std::uint32_t find(std::uintptr_t block) const {
    for (std::size_t slot = home_of(block);; slot = (slot + 1) & mask_) {
      if (table_[slot] == kNone) return kNone;
      if (entries_[table_[slot]].block == block) return static_cast<std::uint32_t>(slot);
    }
  }
  void miss(std::uintptr_t block);
  void erase_slot(std::size_t slot);
  void unlink(std::uint32_t entry);
  void link_newest(std::uint32_t entry);

  std::size_t block_bytes_;
  std::vector<Entry> entries_;
  std::vector<std::uint32_t> table_;  // open addressing, a quarter full at the most
  std::size_t mask_;
  unsigned shift_;
  std::size_t used_ = 0;
  std::uint32_t newest_ = kNone;
  std::uint32_t oldest_ = kNone;
  std::uint64_t hits_ = 0;
  std::uint64_t misses_ = 0;
};

/// Empty if so many bytes can be pinned, else a sentence that says why not and what to do.
[[nodiscard]] std::string cannot_pin(std::size_t bytes);

}  // namespace netvm::perf
