// The inner parts of a HostVm, for its own source files only.
#pragma once

#include <atomic>
#include <memory>

#include "runtime/access_table.hpp"
#include "runtime/fault_signal.hpp"
#include "runtime/frame_check.hpp"
#include "runtime/host_vm.hpp"
#include "runtime/pager.hpp"
#include "runtime/residency.hpp"
#include "runtime/trap.hpp"

namespace netvm {

/// Lives exactly as long as its HostVm. As a signal target it answers for the application view.
struct HostVm::State final : SignalFaultTarget, FrameWitness {
  State(const HostVmConfig& host_config, const AppWindows& app_windows, int frames_fd, std::byte* frames, Env& host_env)
      : config(host_config),
        windows(app_windows),
        env(host_env),
        table(host_config.pages),
        residency(host_config.pages, frames_fd, frames, host_env,
                  host_config.check_frames ? Residency::Populate::through_file : Residency::Populate::through_view) {}

  FaultVerdict on_signal(const SignalFault& fault) noexcept override;
  void describe_frame(PageId page, std::span<char> text) const noexcept override;
  [[nodiscard]] bool resident(PageId page) const { return pager != nullptr ? pager->resident(page) : residency.resident(page); }

  /// False if the page belongs to nobody or nobody listens.
  bool call_handler(PageId page, bool write) noexcept {
    FaultHandler* const target = handler.load(std::memory_order_acquire);  // acquire: partner is HostVm::set_fault_handler()
    return target != nullptr && target->on_fault(page, write);
  }

  /// Whether the application has the right, and only the pager keeps it from using it. Then the page has been brought in.
  bool resolve(PageId page, Access need) noexcept {
    if (pager == nullptr || table.access(page) < need) return false;
    if (const Status status = pager->resolve(page, need == Access::write); !ok(status)) end_without(page, status);
    return true;
  }
  /// As HostVm's.
  [[noreturn]] void end_without(PageId page, Status why) const;

  FaultVerdict wild_access(const SignalFault& fault, PageId page) noexcept;

  const HostVmConfig config;
  const AppWindows& windows;
  Env& env;
  AccessTable table;
  Residency residency;
  std::unique_ptr<TrapMechanism> trap;
  std::shared_ptr<BackingStore> store;
  std::unique_ptr<Pager> pager;             ///< null without a memory budget
  std::unique_ptr<FrameCheck> frame_check;  ///< null unless the configuration asks for it
  std::atomic<FaultHandler*> handler{nullptr};
  std::atomic<std::uintptr_t> last_reported{0};  ///< a wild address already told of: one access may raise two signals
};

}  // namespace netvm
