// How the global range is divided. The same on every node; all offsets count from the range's base.
#pragma once

#include <algorithm>
#include <cstdint>

#include "runtime/ids.hpp"

namespace netvm::dsm {

/// [system | symmetric | shared]. System pages are the runtime's (lock tables, first-touch claims) and have no application access.
/// Symmetric pages are each node's own, at the same address everywhere (for put, get, atomics). Shared pages are coherent.
struct Layout {
  PageRange system;
  PageRange symmetric;
  PageRange shared;

  /// Of the system area, per node: the lock table, then one 8-byte home claim for each shared page this node arbitrates, then the record of
  /// which pages at home here others have fetched (dsm/sharing_map.hpp), then the words that protocols keep at a page's home (dsm/home_words.hpp), then
  /// the signals about pages (dsm/page_signals.hpp).
  std::uint64_t lock_slots = 0;      ///< power of two; 16 bytes each, from the start of the area
  std::uint64_t claims_offset = 0;   ///< bytes from the start of the area
  std::uint64_t sharing_offset = 0;  ///< bytes from the start of the area; one bit a page, one bit for each 64 of those, one word
  std::uint64_t words_offset = 0;    ///< bytes from the start of the area; kHomeWords words a page
  std::uint64_t signals_offset = 0;  ///< bytes from the start of the area; as the sharing map

  static constexpr std::uint64_t kHomeWords = 2;

  static Layout divide(std::uint64_t pages, std::uint32_t nodes) {
    Layout layout;
    layout.lock_slots = 1024;
    while (layout.lock_slots < (std::uint64_t{1} << 20) && layout.lock_slots * 16 < pages * kPageSize / 64) layout.lock_slots *= 2;
    layout.claims_offset = layout.lock_slots * 16;
    const std::uint64_t claim_bytes = (pages / nodes + 1) * 8;
    const std::uint64_t sharing_words = pages / 64 + 1 + pages / (64 * 64) + 1 + 1;
    layout.sharing_offset = (layout.claims_offset + claim_bytes + kCacheLine - 1) / kCacheLine * kCacheLine;
    layout.words_offset = (layout.sharing_offset + sharing_words * 8 + kCacheLine - 1) / kCacheLine * kCacheLine;
    layout.signals_offset = layout.words_offset + pages * kHomeWords * 8;
    const std::uint64_t system_pages = (layout.signals_offset + sharing_words * 8 + kPageSize - 1) / kPageSize;
    const std::uint64_t symmetric_pages = std::max<std::uint64_t>(pages / 8, 1);
    layout.system = {PageId{0}, system_pages};
    layout.symmetric = {PageId{system_pages}, symmetric_pages};
    layout.shared = {PageId{system_pages + symmetric_pages}, pages - system_pages - symmetric_pages};
    return layout;
  }
};

}  // namespace netvm::dsm
