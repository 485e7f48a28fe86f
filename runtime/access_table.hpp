// What the application may do with each page, as the host VM last said; and who is using that right at this moment.
//
// One 32-bit word a page: [ in-flight count : 27 | withheld : 2 | changing : 1 | access : 2 ].
//
// With a memory budget the pager withholds part of a right: everything of a page that is away (or that it watches), writing of a page
// that is unchanged since it was saved. What is left, the effective right, is what enter() grants and what the trap has been told. Without a budget
// nothing is ever withheld, and an all-zero word is a page without access.
//
// For the checked trap this *is* the mechanism: an accessor enters the page, copies, leaves. For the hardware traps it tells a
// missing right from a right whose page table entry the kernel dropped (reclaim, another thread was faster), and lets the latter
// be put back without racing against a revocation.
//
// Invariants
//  1. enter() succeeds only while the page grants the right. lower() returns when everybody who entered under the old right has left.
//  2. While `changing` is set nobody enters, so lower() ends even if others knock all the time.
//  3. lower() and raise() of one page are serialised by the caller; enter() and leave() come from any thread, also in signal handlers.
//  4. Without a budget only lower() sets and clears `changing`. With one, hold() and settle() do, and nobody calls lower() and raise(): the holder
//     alone changes the page's word and its page table entry. It holds for as long as a system call takes, never across I/O or a fiber switch.
//     Who holds several pages took them in ascending order.
#pragma once

#include <atomic>
#include <cstdint>

#include "runtime/env.hpp"
#include "runtime/host_vm.hpp"
#include "runtime/ids.hpp"
#include "runtime/sparse_memory.hpp"

namespace netvm {

/// What is not granted of a page although the application has the right.
enum class Withheld : std::uint8_t { nothing = 0, write = 1, all = 2 };

/// What is left of a right.
constexpr Access effective(Access access, Withheld withheld) {
  if (withheld == Withheld::nothing) return access;
  return withheld == Withheld::write && access != Access::none ? Access::read : Access::none;
}

class AccessTable {
 public:
  /// All pages with no access. Costs memory only for pages that are used.
  explicit AccessTable(std::uint64_t pages) : words_(pages) {}
  [[nodiscard]] bool valid() const { return words_.valid(); }

  [[nodiscard]] Access access(PageId page) const {
    return static_cast<Access>(words_[page.value].load(std::memory_order_acquire) & kAccessMask);  // acquire: partner is raise()
  }

  [[nodiscard]] Withheld withheld(PageId page) const {
    return withheld_of(words_[page.value].load(std::memory_order_acquire));  // acquire: partner is settle()
  }

  /// Begins a use of the page if it effectively grants `need`, and then returns what it grants; Access::none if it does not. Waits while the
  /// right is being lowered. Pair with leave().
  [[nodiscard]] Access enter(PageId page, Access need, Env& env);
  void leave(PageId page) {
    words_[page.value].fetch_sub(kOneInFlight, std::memory_order_release);  // release: what was done with the right; partner is lower()
  }

  /// Grants more. All pages must have `from`.
  void raise(PageRange pages, Access from, Access to);
  /// Grants less and waits until the old right is used by nobody. All pages must have `from`.
  void lower(PageRange pages, Access from, Access to, Env& env);

  // ---- with a memory budget: invariant 4
  /// Sets `changing`: waits for another holder. From now on nobody enters.
  void hold(PageId page, Env& env);
  /// The same if nobody else holds the page.
  [[nodiscard]] bool try_hold(PageId page);
  /// Waits until nobody uses the page. The caller holds it.
  void drain(PageId page, Env& env);
  /// Sets what the page grants and lets it go.
  void settle(PageId page, Access access, Withheld withheld);

 private:
  static constexpr std::uint32_t kAccessMask = 3;
  static constexpr std::uint32_t kChanging = 4;
  static constexpr std::uint32_t kWithheldShift = 3;
  static constexpr std::uint32_t kWithheldMask = std::uint32_t{3} << kWithheldShift;
  static constexpr std::uint32_t kOneInFlight = 32;

  static Withheld withheld_of(std::uint32_t word) { return static_cast<Withheld>((word & kWithheldMask) >> kWithheldShift); }
  static Access granted_by(std::uint32_t word) {
    const auto access = static_cast<Access>(word & kAccessMask);
    return (word & kWithheldMask) == 0 ? access : effective(access, withheld_of(word));
  }

  SparseArray<std::atomic<std::uint32_t>> words_;
};

}  // namespace netvm
