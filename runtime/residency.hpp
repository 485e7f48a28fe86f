// Residency: which frames exist, who is told, and the system calls that bring frames in and give them back.
//
// Invariants
//  1. A page's bit is set only while its frame exists and the listener has heard on_map for it: bit after on_map, on_unmap after bit.
//  2. Changes are serialised by one mutex, also against the listener's callbacks. Looking at a bit takes no lock.
//  3. May run inside a signal handler: no allocation, no locks of the C library.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "runtime/env.hpp"
#include "runtime/host_vm.hpp"
#include "runtime/ids.hpp"
#include "runtime/sparse_memory.hpp"
#include "runtime/status.hpp"

namespace netvm {

class AccessTable;

class Residency {
 public:
  /// How frames are made. Through the view they are in its page table at once; a view that is checked (FrameCheck) cannot make any.
  enum class Populate : std::uint8_t { through_view, through_file };
  /// `frames_fd` mapped in full at `frames`; nothing is resident.
  Residency(std::uint64_t pages, int frames_fd, std::byte* frames, Env& env, Populate how = Populate::through_view);
  [[nodiscard]] bool valid() const { return bits_.valid(); }

  void set_listener(ResidencyListener* listener) { listener_.store(listener); }
  [[nodiscard]] ResidencyListener* listener() const { return listener_.load(); }

  [[nodiscard]] bool resident(PageId page) const {
    return (bits_[page.value / kBits].load(std::memory_order_acquire) >> (page.value % kBits) & 1) != 0;  // acquire: partner is mark()
  }
  [[nodiscard]] bool resident(PageRange pages) const;

  /// See HostVm::make_resident.
  Status bring_in(PageRange pages);
  /// See HostVm::discard. Checks that the application has no right to them.
  void discard(PageRange pages, const AccessTable& rights);

  // ---- what the pager, which keeps its own account of what is resident, builds on
  /// Gives frames memory, zeroed where they had none. Status::fault_failed where the kernel has none.
  Status populate(PageRange pages);
  /// Takes the frames' memory away. Nobody may use them any more.
  void give_back(PageRange pages);

 private:
  static constexpr std::uint64_t kBits = 64;

  /// The longest run of pages from `first` on, before `end`, that are (or are not) resident.
  [[nodiscard]] PageRange run(PageId first, std::uint64_t end, bool wanted) const;
  void mark(PageRange pages, bool resident);

  int frames_fd_;
  std::byte* frames_;
  Populate how_;
  EnvMutex mutex_;
  std::atomic<ResidencyListener*> listener_{nullptr};
  SparseArray<std::atomic<std::uint64_t>> bits_;
};

}  // namespace netvm
