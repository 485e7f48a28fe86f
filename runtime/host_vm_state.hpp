// The inner parts of a HostVm, for its own source files only.
#pragma once

#include <atomic>
#include <memory>

#include "runtime/access_table.hpp"
#include "runtime/fault_signal.hpp"
#include "runtime/host_vm.hpp"
#include "runtime/residency.hpp"
#include "runtime/trap.hpp"

namespace netvm {

/// Lives exactly as long as its HostVm. As a signal target it answers for the application view.
struct HostVm::State final : SignalFaultTarget {
  State(const HostVmConfig& host_config, int frames_fd, std::byte* frames, Env& host_env)
      : config(host_config), env(host_env), table(host_config.pages), residency(host_config.pages, frames_fd, frames, host_env) {}

  FaultVerdict on_signal(const SignalFault& fault) noexcept override;

  /// False if the page belongs to nobody or nobody listens.
  bool call_handler(PageId page, bool write) noexcept {
    FaultHandler* const target = handler.load(std::memory_order_acquire);  // acquire: partner is HostVm::set_fault_handler()
    return target != nullptr && target->on_fault(page, write);
  }

  FaultVerdict wild_access(const SignalFault& fault, PageId page) noexcept;

  const HostVmConfig config;
  Env& env;
  AccessTable table;
  Residency residency;
  std::unique_ptr<TrapMechanism> trap;
  std::atomic<FaultHandler*> handler{nullptr};
  std::atomic<std::uintptr_t> last_reported{0};  ///< a wild address already told of: one access may raise two signals
};

}  // namespace netvm
