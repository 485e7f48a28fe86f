// The floor under a page fault: what the bare trap mechanism costs on this machine, in code that does nothing else.
#pragma once

#include "runtime/host_vm.hpp"

namespace netvm::perf {

/// Nanoseconds a page, touched in random order. Each is the median over the rounds of a round's mean, as the rows of netvm-perf are
/// medians over batches. All 0 for the checked trap, which takes no faults.
struct TrapFloor {
  double read_fault_ns = 0;            ///< no right -> read: signal, enter the page write-protected, run the load again
  double upgrade_ns = 0;               ///< read -> write
  double write_fault_ns = 0;           ///< no right -> write
  double protect_ns = 0;               ///< write -> read; one system call a page, no signal
  double revoke_ns = 0;                ///< write -> no right; one system call a page, no signal
  double read_fault_with_copy_ns = 0;  ///< as read_fault_ns, and the page's 4 KiB are copied in first: a page miss without a protocol
  double upgrade_with_copy_ns = 0;     ///< as upgrade_ns, and the page's 4 KiB are copied away first: a twin without a protocol
};

/// Measures on `pages` pages (1 .. 16384) of its own. Takes over SIGSEGV and SIGBUS meanwhile and passes on what is not its own, so other
/// threads' faults stay right; one caller at a time. Throws std::runtime_error if the mechanism cannot be used here.
[[nodiscard]] TrapFloor measure_trap_floor(TrapKind kind, int pages, int rounds);

/// Takes the application's rights to pages of a job away by one system call that nobody is told of; nanoseconds a page. Whoever uses one next has its right
/// put back (HostVm does so where the kernel drops a page table entry). Not for the checked trap.
[[nodiscard]] double time_bare_revoke(TrapKind kind, std::byte* first, std::size_t pages);

}  // namespace netvm::perf
