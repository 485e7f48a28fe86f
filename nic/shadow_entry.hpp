// The entry of the shadow page table: one 64-bit word a page.
//
//   | generation 16 | lock count 10 | written 1 | referenced 1 | state 4 | frame 32 |
//
// Who changes what
//  state, frame, generation   the node whose page it is: its host VM (map, unmap), and its NIC's driver (faulting, redirecting)
//  lock count                 initiators, under CasPageLock only; 0 otherwise
//  referenced, written        initiators, only while they hold the page's lock, and only if not set yet; cleared by the page's node
// so each change is one atomic read-modify-write of the word: none may lose another's.
#pragma once

#include <cstdint>

namespace netvm::nic {

enum class PageState : std::uint8_t {
  invalid = 0,                ///< not resident, or never was
  read_only = 1,              ///< resident; may be a source
  read_write = 2,             ///< resident; may be a source and a destination
  evicting = 3,               ///< the host takes it away; locks drain
  faulting = 4,               ///< data for it has arrived; the host is bringing it in
  redirecting = 5,            ///< resident, but earlier data for it still lies in system buffers
  evicting_wanted = 6,        ///< evicting, and faulting as soon as that is done
  redirecting_read_only = 7,  ///< redirecting, but what waits will be refused: the host has mapped the page read-only meanwhile
};

[[nodiscard]] constexpr const char* to_string(PageState state) {
  switch (state) {
    case PageState::invalid:
      return "INVALID";
    case PageState::read_only:
      return "RO";
    case PageState::read_write:
      return "RW";
    case PageState::evicting:
      return "EVICTING";
    case PageState::faulting:
      return "FAULTING";
    case PageState::redirecting:
      return "REDIRECTING";
    case PageState::evicting_wanted:
      return "EVICTING (wanted)";
    case PageState::redirecting_read_only:
      return "REDIRECTING (RO)";
  }
  return "unknown";
}

/// Whether data waits for a page in that state.
[[nodiscard]] constexpr bool redirects_in(PageState state) { return state >= PageState::faulting; }
static_assert(PageState::evicting < PageState::faulting);

/// Whether the host has mapped a page in that state read-only.
[[nodiscard]] constexpr bool is_read_only(PageState state) {
  return state == PageState::read_only || state == PageState::redirecting_read_only;
}

/// What a page is locked for.
enum class LockFor : std::uint8_t {
  read,   ///< resident pages
  write,  ///< resident, writable pages
  drain,  ///< the NIC's own copy from system buffers: writable pages, redirecting ones, too
};

struct ShadowEntry {
  std::uint32_t frame = 0;
  PageState state = PageState::invalid;
  bool referenced = false;
  bool written = false;
  std::uint16_t locks = 0;
  std::uint16_t generation = 0;

  static constexpr unsigned kStateShift = 32, kLockShift = 38, kGenerationShift = 48;
  static constexpr std::uint64_t kStateMask = std::uint64_t{0xf} << kStateShift;
  static constexpr std::uint64_t kReferenced = std::uint64_t{1} << 36;
  static constexpr std::uint64_t kWritten = std::uint64_t{1} << 37;
  static constexpr std::uint64_t kUseMask = kReferenced | kWritten;
  static constexpr std::uint64_t kOneLock = std::uint64_t{1} << kLockShift;
  static constexpr std::uint64_t kLockMask = std::uint64_t{0x3ff} << kLockShift;
  static constexpr std::uint64_t kOneGeneration = std::uint64_t{1} << kGenerationShift;  // wraps in the top bits
  static constexpr std::uint16_t kMaxLocks = 0x3ff;

  static constexpr std::uint64_t state_bits(PageState s) { return static_cast<std::uint64_t>(s) << kStateShift; }
  static constexpr PageState state_of(std::uint64_t word) { return static_cast<PageState>((word & kStateMask) >> kStateShift); }
  static constexpr std::uint64_t with_state(std::uint64_t word, PageState s) { return (word & ~kStateMask) | state_bits(s); }

  /// Whether a page in that state may be locked for that.
  template <LockFor kWhat>
  static constexpr bool allows(std::uint64_t word) {
    const PageState state = state_of(word);
    if (kWhat == LockFor::read) return state == PageState::read_write || state == PageState::read_only;
    if (kWhat == LockFor::drain) return state == PageState::read_write || state == PageState::redirecting;
    return state == PageState::read_write;
  }
  /// What the usual page's word is, up to what is_nothing_unusual() leaves out: readable and writable, used for that before, in the frame of the page's
  /// own number. Those of pages one behind the other count up.
  template <LockFor kWhat>
  static constexpr std::uint64_t usual(std::uint64_t page) {
    return page | state_bits(PageState::read_write) | use_bits<kWhat>();
  }
  /// Whether two words, or any of several pairs (their differences or'ed), are alike in what matters.
  template <LockFor kWhat>
  static constexpr bool is_nothing_unusual(std::uint64_t difference) {
    static_assert(kWhat != LockFor::drain);
    constexpr unsigned kNotCompared = kWhat == LockFor::read ? 27 : 26;  // what lies above `referenced`, above `written`
    return difference << kNotCompared == 0;
  }
  template <LockFor kWhat>
  static constexpr bool is_usual(std::uint64_t word, std::uint64_t page) {
    return is_nothing_unusual<kWhat>(word ^ usual<kWhat>(page));
  }
  /// The bits that an access sets.
  template <LockFor kWhat>
  static constexpr std::uint64_t use_bits() {
    return kWhat == LockFor::read ? kReferenced : kUseMask;
  }
  /// What pages that are locked together have alike, but for the frames, which count up.
  template <LockFor kWhat>
  static constexpr std::uint64_t run_bits() {
    return std::uint64_t{UINT32_MAX} | kStateMask | use_bits<kWhat>();
  }

  [[nodiscard]] constexpr std::uint64_t encode() const {
    return std::uint64_t{frame} | state_bits(state) | (referenced ? kReferenced : 0) | (written ? kWritten : 0) |
           std::uint64_t{locks} << kLockShift | std::uint64_t{generation} << kGenerationShift;
  }
  static constexpr ShadowEntry decode(std::uint64_t word) {
    return {static_cast<std::uint32_t>(word),
            state_of(word),
            (word & kReferenced) != 0,
            (word & kWritten) != 0,
            static_cast<std::uint16_t>((word & kLockMask) >> kLockShift),
            static_cast<std::uint16_t>(word >> kGenerationShift)};
  }
};

}  // namespace netvm::nic
