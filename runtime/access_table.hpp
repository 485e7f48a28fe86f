// What the application may do with each page, as the host VM last said; and who is using that right at this moment.
//
// One 32-bit word a page: [ in-flight count : 29 | changing : 1 | access : 2 ].
//
// For the checked trap this *is* the mechanism: an accessor enters the page, copies, leaves. For the hardware traps it tells a
// missing right from a right whose page table entry the kernel dropped (reclaim, another thread was faster), and lets the latter
// be put back without racing against a revocation.
//
// Invariants
//  1. enter() succeeds only while the page grants the right. lower() returns when everybody who entered under the old right has left.
//  2. While `changing` is set nobody enters, so lower() ends even if others knock all the time. Only lower() sets and clears it.
//  3. lower() and raise() of one page are serialised by the caller; enter() and leave() come from any thread, also in signal handlers.
#pragma once

#include <atomic>
#include <cstdint>

#include "runtime/env.hpp"
#include "runtime/host_vm.hpp"
#include "runtime/ids.hpp"
#include "runtime/sparse_memory.hpp"

namespace netvm {

class AccessTable {
 public:
  /// All pages with no access. Costs memory only for pages that are used.
  explicit AccessTable(std::uint64_t pages) : words_(pages) {}
  [[nodiscard]] bool valid() const { return words_.valid(); }

  [[nodiscard]] Access access(PageId page) const {
    return static_cast<Access>(words_[page.value].load(std::memory_order_acquire) & kAccessMask);  // acquire: partner is raise()
  }

  /// Begins a use of the page if it grants `need`, and then returns what it grants; Access::none if it does not. Waits while the
  /// right is being lowered. Pair with leave().
  [[nodiscard]] Access enter(PageId page, Access need, Env& env);
  void leave(PageId page) {
    words_[page.value].fetch_sub(kOneInFlight, std::memory_order_release);  // release: what was done with the right; partner is lower()
  }

  /// Grants more. All pages must have `from`.
  void raise(PageRange pages, Access from, Access to);
  /// Grants less and waits until the old right is used by nobody. All pages must have `from`.
  void lower(PageRange pages, Access from, Access to, Env& env);

 private:
  static constexpr std::uint32_t kAccessMask = 3;
  static constexpr std::uint32_t kChanging = 4;
  static constexpr std::uint32_t kOneInFlight = 8;

  SparseArray<std::atomic<std::uint32_t>> words_;
};

}  // namespace netvm
