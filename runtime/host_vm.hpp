// Host VM: a node's physical memory (frames), mapped twice, and the application's rights to it.
//
// Invariants
//  1. The frame of page p lies at offset p * kPageSize of the node's frames (a sparse memfd): the page's number is its frame's.
//     In the frame view it is always readable and writable; only the NIC and the protocols use that view.
//  2. The application view lies at the same address on every node; pages of a window (add_window) lie elsewhere. A page is accessible there with exactly the rights last
//     given by set_access(); a page never given rights has none. Lowering rights is complete when set_access() returns: no
//     thread of this process can use the old ones. With a memory budget a right may be out of effect (pager.hpp): the access then
//     faults, the host VM brings the page in, and nobody is called.
//  3. An access without the right calls FaultHandler::on_fault in the faulting thread, then runs again.
//  4. A page that was never written reads as zeros.
//  5. The residency listener (the NIC's shadow page table) hears on_unmap *before* a frame goes away and on_map *after* it is there.
//  6. With a memory budget a frame may be touched only while it is pinned, or under the listener's own lock that on_unmap waits for.
//
// A system call given application memory without the right fails with EFAULT instead of taking a fault: take the faults first
// (Dsm::touch). A process made by fork() has no application view: its accesses there end in SIGSEGV. Core files leave both views out.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "runtime/app_windows.hpp"
#include "runtime/env.hpp"
#include "runtime/ids.hpp"
#include "runtime/status.hpp"
#include "runtime/unique_fd.hpp"

namespace netvm {

/// What an application may do with a page.
enum class Access : std::uint8_t { none = 0, read = 1, write = 2 /* and read */ };

/// How a missing right is noticed.
enum class TrapKind : std::uint8_t {
  userfaultfd,  ///< UFFD_FEATURE_SIGBUS, minor + missing + write-protect on the application view; needs Linux 6.4 (CONTINUE_MODE_WP)
  mprotect,     ///< SIGSEGV on a protected application view; any Linux; limited by vm.max_map_count
  checked,      ///< no hardware: accessors ask before each access (simulator, ThreadSanitizer)
};
[[nodiscard]] std::string_view to_string(TrapKind kind);

/// The application touched a page without the right.
class FaultHandler {
 public:
  virtual ~FaultHandler() = default;
  /// Runs in the faulting thread (inside a signal handler for the hardware traps) and may block. Returns false if the
  /// page belongs to nobody: the access then ends as an ordinary SIGSEGV at that address.
  virtual bool on_fault(PageId page, bool write) noexcept = 0;
  /// For the message about a wild access at that offset of the range: where it lies, ended by a zero byte. In the faulting thread.
  virtual void describe(std::uint64_t /*offset*/, std::span<char> /*text*/) const noexcept {}
};

/// What a listener's users did with a page since it was last asked.
struct PageUse {
  bool referenced = true;
  bool written = true;
};

/// Somebody who keeps a copy of what is resident and uses it: the NIC. Calls for one page are serialised; those for others are not.
class ResidencyListener {
 public:
  virtual ~ResidencyListener() = default;
  virtual void on_map(PageRange pages) noexcept = 0;
  /// Returns when nobody uses the pages any more.
  virtual void on_unmap(PageRange pages) noexcept = 0;
  /// The same for several ranges at once: for a listener to whom a call costs more than a page.
  virtual void on_unmap_all(std::span<const PageRange> ranges) noexcept {
    for (const PageRange& pages : ranges) on_unmap(pages);
  }
  /// Asked of mapped pages now and then, and of each page once more after it was unmapped: the last answer must miss no write. Never blocks. A
  /// listener that keeps no account answers with everything: right, but then pages are saved that did not change.
  virtual PageUse take_use(PageId /*page*/) noexcept { return {}; }
  /// What the listener knows of the page, for a report: "the NIC's entry is EVICTING". In a signal handler; ends with a zero, or leaves it empty.
  virtual void describe(PageId /*page*/, std::span<char> /*text*/) const noexcept {}
};

/// What becomes of the bytes of a page that the pager takes away.
enum class Departure : std::uint8_t {
  save,  ///< nobody else has them: to the backing store, if they changed
  drop,  ///< they can be had again elsewhere: thrown away, however dirty, and no copy is kept. The page is zeros when it comes back
  keep,  ///< the page stays for now and another one goes. For a moment only: it is asked again when its turn comes
};

/// Whose bytes lie in the pages: the DSM. With a memory budget the pager asks it of each page that it has chosen to take away.
class PageOwner {
 public:
  virtual ~PageOwner() = default;
  /// Runs in the thread that needs room, with whatever locks that thread holds, maybe in a signal handler: must not block (try_lock, not lock) and
  /// calls nothing of the host VM but set_access() of this page. The page is not resident any more for others: a pin or fault of it
  /// waits until the eviction is over. Its frame is still there, and the NIC may still use it.
  /// Who answers drop has taken the application's right away before (set_access to none), and gives it back only after it has pinned and filled
  /// the page: so the next access goes to the FaultHandler and not to the pager. Never asked of pinned, wired or discarded pages.
  /// An owner that keeps page after page makes the budget give way, as pins do.
  virtual Departure on_evict(PageId page) noexcept = 0;
};

/// Why a trap can or cannot be used here.
struct TrapProbe {
  bool usable = false;
  std::string reason;  ///< for the start-up line and for errors: "userfaultfd needs Linux 6.4 for UFFDIO_CONTINUE_MODE_WP; this is 6.1"
};
[[nodiscard]] TrapProbe probe_trap(TrapKind kind);

class HostVm;
class BackingStore;
class Stats;

/// Frames that stay where they are while this object lives: the pager does not take them away. Move-only. Pins nest.
class FramePins {
 public:
  FramePins() = default;
  FramePins(FramePins&& other) noexcept : vm_(std::exchange(other.vm_, nullptr)), pages_(other.pages_) {}
  FramePins& operator=(FramePins&& other) noexcept {
    std::swap(vm_, other.vm_);
    std::swap(pages_, other.pages_);
    return *this;
  }
  ~FramePins() { release(); }
  void release();
  [[nodiscard]] PageRange pages() const { return pages_; }
  [[nodiscard]] bool holds() const { return vm_ != nullptr; }

 private:
  friend class HostVm;
  FramePins(HostVm* vm, PageRange pages) : vm_(vm), pages_(pages) {}
  HostVm* vm_ = nullptr;
  PageRange pages_{};
};

struct HostVmConfig {
  std::uint64_t pages = 0;  ///< size of the global range, in pages
  std::uintptr_t base = 0;  ///< where the application view goes (page aligned); 0 with the checked trap: no application view
  TrapKind trap = TrapKind::checked;
  int frames_fd = -1;              ///< a memfd of the caller's to use for the frames (it is resized and stays the caller's); -1: make one
  std::uint64_t budget_pages = 0;  ///< frames that may be in memory at once; 0: all
  std::string backing = {};        ///< with a budget: where the others go; see FileBackingStore::open()
  std::shared_ptr<BackingStore> store = nullptr;  ///< instead of that file
  Stats* stats = nullptr;                         ///< counts page-ins and evictions; may be null
  bool check_frames =
      false;  ///< stop the process at an access to a frame that is not there (frame_check.hpp); Status::invalid where it cannot
};

/// One node's memory. Thread-safe; set_access() calls for one page must be serialised by the caller (the page lock of the DSM).
class HostVm {
 public:
  /// Reserves both views (costs no memory). Status::invalid for a bad configuration, exhausted if the address range is taken;
  /// `*why` then says in a sentence what was wrong and what to do.
  static Result<std::unique_ptr<HostVm>> create(const HostVmConfig& config, Env& env, std::string* why);
  ~HostVm();
  HostVm(const HostVm&) = delete;
  HostVm& operator=(const HostVm&) = delete;

  [[nodiscard]] std::uint64_t pages() const { return config_.pages; }
  [[nodiscard]] std::uint64_t bytes() const { return config_.pages * kPageSize; }
  [[nodiscard]] TrapKind trap() const { return config_.trap; }
  [[nodiscard]] int frames_fd() const { return frames_fd_; }

  /// Application view; null where the configuration gave no address. Under the checked trap nothing can be accessed through it.
  [[nodiscard]] std::byte* app_base() const { return reinterpret_cast<std::byte*>(config_.base); }
  /// Frame view of a page. Always readable and writable.
  [[nodiscard]] std::byte* frame(PageId page) const { return frame_base_ + page.value * kPageSize; }
  [[nodiscard]] std::byte* frame_base() const { return frame_base_; }

  /// The page of an address of the application view; false if it lies outside.
  [[nodiscard]] bool page_of(std::uintptr_t address, PageId* page) const;
  /// The same for a byte: its offset from the start of the memory.
  [[nodiscard]] bool offset_of(std::uintptr_t address, std::uint64_t* offset) const;
  /// Where the application sees the byte at that offset.
  [[nodiscard]] std::byte* app_address(std::uint64_t offset) const {
    const AppWindow* window = windows_.of(PageId{offset >> kPageShift});
    return window != nullptr ? window->page(PageId{offset >> kPageShift}) + offset % kPageSize : app_base() + offset;
  }

  /// From now on the application sees these pages at `address` (page aligned) and no longer in the main range. What is mapped there now is gone, with
  /// its contents. The application must have no right to the pages, and nobody may use the addresses meanwhile. Hardware traps only. Windows end
  /// with the host VM: nothing is mapped there afterwards. Status::invalid (a bad range, one that overlaps, the checked trap) or exhausted
  /// (AppWindows::kMost, or the kernel refuses); `*why` then says what was wrong.
  Status add_window(PageRange pages, std::uintptr_t address, std::string* why);
  [[nodiscard]] const AppWindows& windows() const { return windows_; }

  void set_fault_handler(FaultHandler* handler);
  void set_residency_listener(ResidencyListener* listener);
  /// Without one every page is saved. The owner outlives every use of the memory, or is taken back (null) when nobody evicts.
  void set_page_owner(PageOwner* owner);

  /// Sets the application's rights to the pages. Every page of the range must have had exactly `from` before. Batched: one
  /// system call a range where the mechanism allows.
  void set_access(PageRange pages, Access from, Access to);

  /// Brings pages in (zero-filled the first time) and tells the listener about those that were not resident. Idempotent;
  /// serialised inside. Status::fault_failed where the kernel gives no memory, or the backing store cannot be read or (to make room) written.
  /// With a budget they may be gone again when it returns.
  Status make_resident(PageRange pages);
  [[nodiscard]] bool resident(PageId page) const;

  /// Brings the pages in and keeps them until the pins end. `write`: the holder may change the frames. Blocks where it must evict or
  /// read from the backing store; never waits for the network. Status::fault_failed as make_resident(), range outside the memory, exhausted
  /// for more than most_pins() pages. All or none. Holding pins while waiting for the network is fine, but costs the budget.
  Result<FramePins> pin(PageRange pages, bool write);
  /// The same where it takes no eviction and no waiting, because what has to be read is in the system's page cache; else no pins. For contexts that must not block.
  FramePins try_pin(PageRange pages, bool write);
  /// How many pages one pin may cover.
  [[nodiscard]] std::uint64_t most_pins() const;
  /// A hint: bring the pages in, soon, without waiting for it. Returns at once. Not from signal handlers.
  void prefetch(PageRange pages);

  // ---- the memory budget ------------------------------------------------------------------------------------------------------------
  [[nodiscard]] bool has_budget() const { return config_.budget_pages != 0; }
  /// 0: none.
  [[nodiscard]] std::uint64_t budget_pages() const { return config_.budget_pages; }
  /// The range's pages stay once they are in, and the budget does not count them: tables that are touched through frame() at any time. One range,
  /// before it is used.
  void wire(PageRange pages);
  /// Takes up to this many pages away now (gives memory back). Blocks. Returns how many went: pinned pages stay. Without a budget none do.
  std::uint64_t evict(std::uint64_t pages);
  /// Brings the page in if the application has the right, so that its next access does not fault (unless the page is gone again by then).
  void use_now(PageId page, bool write);
  /// Frames in memory that the budget counts; 0 without a budget.
  [[nodiscard]] std::uint64_t resident_pages() const;
  /// Which transfer to or from the backing store failed last, for a message after Status::fault_failed. Empty if none has.
  struct Failure {
    char text[512];
  };
  [[nodiscard]] Failure failure() const;
  /// For who needs a page that cannot be brought in and has nobody to tell, such as a load: says on standard error which page, why, and what to do, and
  /// ends the process with status 1, and so the job. Async-signal-safe; runs no destructor.
  [[noreturn]] void end_without(PageId page, Status why) const;
  /// For who needs a page that cannot be brought in and has somebody else to tell, such as the NIC a peer: says the same on standard error, with what
  /// follows, the first time in the process only. Any thread.
  void tell_of_failure(PageId page, const char* what_follows) const;
  /// Memory beside the frames that the budget is to count as well: so many pages more, or fewer. Frames keep half of the budget in any case. Never
  /// blocks: frames make room when the next of them comes.
  void charge(std::int64_t pages);
  /// Blocks until nothing is brought in in the background. Before the destructor, if prefetch() was ever called.
  void close();

  /// Throws the pages' contents away (they read as zeros afterwards) and gives the memory back. The pages' access must be none.
  void discard(PageRange pages);

  // ---- the checked trap: accessors --------------------------------------------------------------------------------
  /// Copies between private memory and the page range [address, address + bytes) of the global range (offsets, not
  /// pointers), taking the faults that hardware would take. An access that does not cross a page is atomic against
  /// set_access(); sizes 1, 2, 4, 8 (aligned) are single accesses that ThreadSanitizer sees.
  /// Returns false on a wild address. Valid for TrapKind::checked only.
  bool checked_load(std::uint64_t offset, void* to, std::size_t bytes);
  bool checked_store(std::uint64_t offset, const void* from, std::size_t bytes);

 public:
  struct State;  // host_vm_state.hpp: access table, residency, trap; for HostVm's own source files

 private:
  friend class FramePins;
  void unpin(PageRange pages);
  HostVm(const HostVmConfig& config, Env& env);
  bool map_views(std::string* why);
  bool window_is_right(const AppWindow& window, std::string* why) const;
  Status start_trap(std::string* why);
  Status start_pager(std::string* why);
  Status start_frame_check(std::string* why);

  HostVmConfig config_;
  Env& env_;
  AppWindows windows_;
  UniqueFd own_frames_;  // empty if the frames are the caller's
  int frames_fd_ = -1;
  std::byte* frame_base_ = nullptr;
  bool app_mapped_ = false;
  bool attached_ = false;  // to the signal handlers
  std::unique_ptr<State> state_;
};

inline void FramePins::release() {
  if (vm_ != nullptr) std::exchange(vm_, nullptr)->unpin(pages_);
}

}  // namespace netvm
