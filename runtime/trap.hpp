// Traps: how the application's missing right to a page is noticed. The strategy behind HostVm::set_access().
//
// Invariants
//  1. A mechanism changes only the application view; HostVm has made the frames resident before rights are raised.
//  2. apply() is complete when it returns: lowered rights can be used by no thread.
//  3. Everything here may run inside a signal handler: no allocation, no locks of the C library.
//
// The double mapping and SIGBUS-mode userfaultfd replace the thesis's kernel pager (chapter 3).
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "runtime/app_windows.hpp"
#include "runtime/host_vm.hpp"
#include "runtime/settings.hpp"
#include "runtime/unique_fd.hpp"

namespace netvm {

/// The memory that the application sees: `bytes` at `base`, a shared mapping of the frames (of nothing for the checked trap), but for the pages
/// that lie in windows.
struct AppView {
  std::byte* base = nullptr;
  std::uint64_t bytes = 0;
  const AppWindows* windows = nullptr;  ///< may be null; outlives the view

  [[nodiscard]] std::byte* page(PageId p) const {
    const AppWindow* window = windows != nullptr ? windows->of(p) : nullptr;
    return window != nullptr ? window->page(p) : base + p.value * kPageSize;
  }
  /// The longest run from the start of `pages` on whose addresses are one run, too.
  [[nodiscard]] PageRange first_piece(PageRange pages) const {
    if (windows == nullptr || windows->none()) return pages;
    std::uint64_t end = pages.end();
    if (const AppWindow* window = windows->of(pages.first)) {
      end = std::min(end, window->pages.end());
    } else {
      windows->for_each([&](const AppWindow& other) {
        if (other.pages.first.value > pages.first.value) end = std::min(end, other.pages.first.value);
      });
    }
    return {pages.first, end - pages.first.value};
  }
};

/// A signal that reports a failed access inside the application view.
struct TrapSignal {
  int number = 0;  ///< SIGSEGV or SIGBUS
  int code = 0;    ///< si_code
};

class TrapMechanism {
 public:
  explicit TrapMechanism(const AppView& view) : view_(view) {}
  TrapMechanism(const TrapMechanism&) = delete;
  TrapMechanism& operator=(const TrapMechanism&) = delete;
  virtual ~TrapMechanism() = default;

  /// Changes the rights of the whole range; all of it had `from`, which differs from `to`.
  void apply(PageRange pages, Access from, Access to) {
    while (pages.count > 0) {
      const PageRange piece = view_.first_piece(pages);
      apply_to_piece(piece, from, to);
      pages = {PageId{piece.end()}, pages.count - piece.count};
    }
  }

  /// Takes charge of a window that has just been mapped, with the protection of the main range and no rights. False: the kernel refuses, see `*why`.
  virtual bool cover(const AppWindow& window, std::string* why) = 0;

  /// The page has the right `have`, but an access that needs no more faulted: whatever the kernel dropped is put back.
  virtual void restore(PageId page, Access have) = 0;

  /// Whether the signal is this mechanism's way of saying that a right is missing.
  [[nodiscard]] virtual bool reports_fault(const TrapSignal& signal) const = 0;

  /// The page belongs to nobody: from now on an access raises SIGSEGV itself. False if accesses already do.
  virtual bool expose(PageId page) = 0;
  /// Undoes expose().
  virtual void conceal(PageId page) = 0;

 protected:
  [[nodiscard]] const AppView& view() const { return view_; }

 private:
  /// apply() for pages whose addresses are one run.
  virtual void apply_to_piece(PageRange pages, Access from, Access to) = 0;

  AppView view_;
};

/// Protection (mmap's PROT_ flags) that the application view must have when the mechanism is made.
[[nodiscard]] int initial_protection(TrapKind kind);

/// The mechanisms. Null where the kernel refuses; `*why` then says in a sentence what and what to do.
std::unique_ptr<TrapMechanism> make_userfaultfd_trap(const AppView& view, std::string* why);
std::unique_ptr<TrapMechanism> make_mprotect_trap(const AppView& view, std::string* why);
std::unique_ptr<TrapMechanism> make_checked_trap(const AppView& view, std::string* why);

/// Each tries the mechanism on two pages of its own. probe_trap() dispatches to them.
[[nodiscard]] TrapProbe probe_userfaultfd();
[[nodiscard]] TrapProbe probe_mprotect();

/// Which trap a setting means on this machine.
struct ResolvedTrap {
  std::optional<TrapKind> kind;  ///< none: the trap that was asked for cannot be used here
  std::string reason;            ///< for the start-up line; without a kind an error that names the traps that can be used
};
/// automatic: userfaultfd, else mprotect, never checked (raw pointers need hardware). An explicit choice is kept or refused.
[[nodiscard]] ResolvedTrap resolve_trap(TrapChoice choice);

/// "6.18.4": for the reasons above.
[[nodiscard]] std::string kernel_release();

/// A memfd of `bytes` bytes, mapped as the host VM maps its frames: what probes and measurements work on.
struct TrialMemory {
  TrialMemory(std::uint64_t bytes, int app_protection);
  ~TrialMemory();
  TrialMemory(const TrialMemory&) = delete;
  TrialMemory& operator=(const TrialMemory&) = delete;
  [[nodiscard]] bool valid() const { return frames != nullptr && app != nullptr; }
  std::uint64_t bytes = 0;
  UniqueFd fd;
  std::byte* frames = nullptr;
  std::byte* app = nullptr;
};

}  // namespace netvm
