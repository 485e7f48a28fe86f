// AppWindows: runs of pages that the application sees elsewhere than in the main range: over a program's own data, say, so that its globals are shared.
//
// Invariants
//  1. A window is added once and stays as long as the host VM; there are at most kMost. They overlap neither in pages nor in addresses.
//  2. A page of a window has no other place: in the main range nobody gets at it.
// Threads: lookups from any, in signal handlers too, without a lock. add() from one at a time, before anybody uses the window.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

#include "runtime/ids.hpp"

namespace netvm {

struct AppWindow {
  PageRange pages{};
  std::uintptr_t address = 0;  ///< of the first page

  [[nodiscard]] std::uint64_t bytes() const { return pages.count * kPageSize; }
  [[nodiscard]] std::byte* page(PageId p) const {
    return reinterpret_cast<std::byte*>(address + (p.value - pages.first.value) * kPageSize);
  }
};

class AppWindows {
 public:
  static constexpr std::uint32_t kMost = 16;

  /// The window of a page; null: it lies in the main range.
  [[nodiscard]] const AppWindow* of(PageId page) const {
    return find([page](const AppWindow& window) { return window.pages.contains(page); });
  }
  /// The window that the address lies in, or null.
  [[nodiscard]] const AppWindow* at(std::uintptr_t address) const {
    return find([address](const AppWindow& window) { return address - window.address < window.bytes(); });
  }
  /// A window that shares an address with [begin, begin + bytes), or null.
  [[nodiscard]] const AppWindow* overlapping(std::uintptr_t begin, std::uint64_t bytes) const {
    return find([=](const AppWindow& window) { return begin < window.address + window.bytes() && window.address < begin + bytes; });
  }
  /// A window that shares a page with the range, or null.
  [[nodiscard]] const AppWindow* overlapping(PageRange pages) const {
    return find([=](const AppWindow& window) { return pages.first.value < window.pages.end() && window.pages.first.value < pages.end(); });
  }
  [[nodiscard]] bool none() const { return count() == 0; }
  [[nodiscard]] bool full() const { return count() == kMost; }

  void add(const AppWindow& window) {
    const std::uint32_t n = count();
    windows_[n] = window;
    count_.store(n + 1, std::memory_order_release);  // release: partner is count()
  }

  template <class F>
  void for_each(F&& f) const {
    for (std::uint32_t i = 0; i < count(); ++i) f(windows_[i]);
  }

 private:
  [[nodiscard]] std::uint32_t count() const { return count_.load(std::memory_order_acquire); }  // acquire: partner is add()
  template <class Match>
  [[nodiscard]] const AppWindow* find(Match&& match) const {
    const std::uint32_t n = count();
    for (std::uint32_t i = 0; i < n; ++i) {
      if (match(windows_[i])) return &windows_[i];
    }
    return nullptr;
  }

  std::array<AppWindow, kMost> windows_{};
  std::atomic<std::uint32_t> count_{0};
};

}  // namespace netvm
