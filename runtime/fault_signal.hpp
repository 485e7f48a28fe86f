// The process-wide handlers of SIGSEGV and SIGBUS: find whose memory was touched, let its host VM act, pass on what is nobody's.
//
// Invariants
//  1. The handlers are installed while at least one view is attached; afterwards the dispositions from before are back (unless
//     somebody else has installed his own on top meanwhile: his stay, and ours pass everything on).
//  2. SA_NODEFER and no SA_ONSTACK: the handler runs on the faulting fiber's stack, may block, and may fault itself. Where stacks lie in shared memory
//     themselves they cannot: fault_signals_on_alternate_stack().
//  3. What is not ours ends as without us: the previous handler is called, or the default action kills at the same instruction.
//  4. errno and the compiler's view of memory are as if nothing had happened between two runs of the faulting instruction.
//  5. A forked child has none of its parent's views: its accesses there end in SIGSEGV.
//
// attach() and detach() from any thread; never from a signal handler.
#pragma once

#include <csignal>
#include <cstdint>

namespace netvm {

enum class AccessKind : std::uint8_t { read, write, unknown };

/// One failed access.
struct SignalFault {
  int signal = 0;  ///< SIGSEGV or SIGBUS
  int code = 0;    ///< si_code
  std::uintptr_t address = 0;
  AccessKind kind = AccessKind::unknown;
};

enum class FaultVerdict : std::uint8_t {
  run_again,  ///< the access may succeed now
  pass_on,    ///< not ours: whoever was asked before us, or the default action
};

/// Owner of a range of addresses.
class SignalFaultTarget {
 public:
  virtual ~SignalFaultTarget() = default;
  /// Runs in the faulting thread, in the signal handler; may block.
  virtual FaultVerdict on_signal(const SignalFault& fault) noexcept = 0;
};

inline constexpr int kMaxFaultTargets = 256;

/// Routes signals for [begin, end) to the target; one target may have several ranges. False if kMaxFaultTargets ranges are attached already.
[[nodiscard]] bool attach_fault_target(std::uintptr_t begin, std::uintptr_t end, SignalFaultTarget* target);
/// All of its ranges. No thread may touch them any more.
void detach_fault_target(SignalFaultTarget* target);

/// From now on the handlers run on a thread's alternate stack (sigaltstack), if it has one, which must be large. Before the first attach_fault_target().
void fault_signals_on_alternate_stack();

/// Puts a handler in front of the one that is there, which is returned, so that the new one can pass signals on to it. On the stack that fault signals run on.
[[nodiscard]] struct sigaction handle_signal_before(int signal, void (*handler)(int, siginfo_t*, void*));

/// Whether the signal would go to a handler function if it were passed on (otherwise the default action ends the process).
[[nodiscard]] bool fault_signal_has_previous_handler(int signal);

/// One line "netvm[node N]: <what> 0x<address> (read|write): <text>" on stderr; async-signal-safe.
void report_bad_access(const char* what, std::uintptr_t address, AccessKind kind, const char* text);

}  // namespace netvm
