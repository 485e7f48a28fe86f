// FrameCheck: notices who touches a frame that is not there. The frame view is always readable and writable, and a frame that was taken away
// reads as zeros without a word: an access without the page's lock, or after its eviction, would be wrong data somewhere else, much later. With this on it
// ends the process at the very access, with the page's name.
//
// How: the view is registered with userfaultfd for missing pages in SIGBUS mode, and frames are made through the file (Residency), never by touching
// them. So a page of the view without a frame raises SIGBUS, for loads and stores; a system call that is handed one fails with EFAULT.
//
// Invariants
//  1. Whatever is reported was a bug, also if the frame is there again by the time of the report.
//  2. Accesses to frames that exist are not slowed down but by the ordinary page fault of their first touch.
// For tests and for the debugging of whole jobs (NETVM_CHECK_FRAMES). Threads: any, once it is made. A child made by fork() is not watched.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "runtime/fault_signal.hpp"
#include "runtime/host_vm.hpp"
#include "runtime/ids.hpp"
#include "runtime/status.hpp"
#include "runtime/unique_fd.hpp"

namespace netvm {

/// Says what it knows of a page, for the report.
class FrameWitness {
 public:
  virtual ~FrameWitness() = default;
  /// "node 2's page is not resident; ...". In a signal handler: no allocation, no locks. Ends with a zero.
  virtual void describe_frame(PageId page, std::span<char> text) const noexcept = 0;
};

class FrameCheck final : private SignalFaultTarget {
 public:
  /// Whether this kernel can do it, and why not.
  [[nodiscard]] static TrapProbe probe();
  /// Watches a shared mapping of a memory file. The witness outlives the check, the view is unmapped after it. On failure *why says what.
  static Result<std::unique_ptr<FrameCheck>> watch(std::byte* view, std::uint64_t bytes, const FrameWitness& witness, std::string* why);
  ~FrameCheck() override;
  /// These pages are touched at any time, by right: one that was never made reads as zeros.
  void exempt(PageRange pages);
  FrameCheck(const FrameCheck&) = delete;
  FrameCheck& operator=(const FrameCheck&) = delete;

 private:
  FrameCheck(std::byte* view, const FrameWitness& witness, UniqueFd fd);
  FaultVerdict on_signal(const SignalFault& fault) noexcept override;

  std::uintptr_t begin_;
  const FrameWitness& witness_;
  UniqueFd fd_;
  bool attached_ = false;
};

}  // namespace netvm
