// Shadow page table: the NIC's own view of which pages of its node are resident, where, with which rights; and the brief lock under
// which the NIC touches a page (Ong 2003, chapter 3: what replaces pinning).
//
// Invariants
//  1. A frame is touched by the NIC only while the page's lock count (of the entry) is not 0, or inside the host itself.
//  2. A lock is taken only in state RO (for reading) or RW; it is held for one chunk of at most a page and never across a wait.
//  3. Unmapping: state EVICTING first (no new lock), wait until the lock count is 0, then INVALID with the next generation.
//     The host takes the frame away after that only.
//  4. Mapping goes INVALID -> RO | RW after the frame is filled. EVICTING, FAULTING and REDIRECTING refuse locks like INVALID.
//  5. A lock that was taken by CAS before a change elsewhere (a region's key) is seen by whoever looks for locks after that change:
//     locking and drain() are seq_cst. This is how a revocation drains.
// Threads: any, of any process that maps the device. The listener's functions: the host VM's, serialised per page.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>

#include "runtime/host_vm.hpp"
#include "runtime/ids.hpp"

namespace netvm::nic {

enum class PageState : std::uint8_t {
  invalid = 0,      ///< not resident, or never was
  read_only = 1,    ///< resident; may be a source
  read_write = 2,   ///< resident; may be a source and a destination
  evicting = 3,     ///< the host takes it away; locks drain
  faulting = 4,     ///< the host is bringing it in
  redirecting = 5,  ///< resident, but earlier data for it still lies in system buffers
};

/// The entry: one 64-bit word. | generation 16 | lock count 12 | state 4 | frame 32 |
struct ShadowEntry {
  std::uint32_t frame = 0;
  PageState state = PageState::invalid;
  std::uint16_t locks = 0;
  std::uint16_t generation = 0;

  static constexpr unsigned kStateShift = 32, kLockShift = 36, kGenerationShift = 48;
  static constexpr std::uint64_t kOneLock = std::uint64_t{1} << kLockShift;
  static constexpr std::uint64_t kLockMask = std::uint64_t{0xfff} << kLockShift;
  static constexpr std::uint64_t kStateMask = std::uint64_t{0xf} << kStateShift;
  static constexpr std::uint16_t kMaxLocks = 0xfff;

  static constexpr std::uint64_t state_bits(PageState s) { return static_cast<std::uint64_t>(s) << kStateShift; }
  static constexpr PageState state_of(std::uint64_t word) { return static_cast<PageState>((word & kStateMask) >> kStateShift); }
  [[nodiscard]] constexpr std::uint64_t encode() const {
    return std::uint64_t{frame} | state_bits(state) | std::uint64_t{locks} << kLockShift | std::uint64_t{generation} << kGenerationShift;
  }
  static constexpr ShadowEntry decode(std::uint64_t word) {
    return {static_cast<std::uint32_t>(word), state_of(word), static_cast<std::uint16_t>((word & kLockMask) >> kLockShift),
            static_cast<std::uint16_t>(word >> kGenerationShift)};
  }
};

class ShadowPageTable final : public ResidencyListener {
 public:
  /// Over `pages` words at `entries` (zeroed: all INVALID).
  ShadowPageTable(std::atomic<std::uint64_t>* entries, std::uint64_t pages);

  static constexpr std::uint64_t bytes_needed(std::uint64_t pages) { return pages * sizeof(std::uint64_t); }
  [[nodiscard]] std::uint64_t pages() const { return pages_; }
  [[nodiscard]] ShadowEntry entry(PageId page) const { return ShadowEntry::decode(entries_[page.value].load()); }

  /// Locks a resident page for one access. False if it is not resident (or not writable, for a write). *frame is set only on success.
  bool try_lock(PageId page, bool write, std::uint64_t* frame) {
    std::atomic<std::uint64_t>& entry = entries_[page.value];
    std::uint64_t word = entry.load(std::memory_order_relaxed);  // relaxed: the exchange below decides
    for (;;) {
      const PageState state = ShadowEntry::state_of(word);
      if (state != PageState::read_write && (write || state != PageState::read_only)) return false;
      if ((word & ShadowEntry::kLockMask) == ShadowEntry::kLockMask) {  // 4095 locks at once: wait for one to end, they are short
        word = yield_and_reload(entry);
        continue;
      }
      if (entry.compare_exchange_weak(word, word + ShadowEntry::kOneLock)) break;  // seq_cst: invariant 5
    }
    *frame = static_cast<std::uint32_t>(word);
    return true;
  }
  void unlock(PageId page) {
    entries_[page.value].fetch_sub(ShadowEntry::kOneLock, std::memory_order_release);  // release: partner is drain()'s load
  }

  /// Waits until no lock that existed at the call is left on any of the pages. New ones may come. For revocation, by the host that maps.
  void drain(PageRange pages);

  /// The host's side of the protocol of invariants 3 and 4.
  void on_map(PageRange pages) noexcept override { map(pages, true); }
  void on_unmap(PageRange pages) noexcept override;
  void map(PageRange pages, bool writable) noexcept;

 private:
  static std::uint64_t yield_and_reload(const std::atomic<std::uint64_t>& entry);

  static constexpr std::uint64_t kChunk = kPageSize / sizeof(std::uint64_t);  // entries on one page of the table

  std::atomic<std::uint64_t>* entries_;
  std::uint64_t pages_;
  // Of the host's side: which pages of the table were ever written. The others are all INVALID, and looking would give them memory.
  std::unique_ptr<std::atomic<bool>[]> mapped_once_;
};

}  // namespace netvm::nic
