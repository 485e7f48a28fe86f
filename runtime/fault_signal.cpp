#include "runtime/fault_signal.hpp"

#include <pthread.h>
#include <ucontext.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <mutex>

#include "runtime/check.hpp"
#include "runtime/log.hpp"

namespace netvm {
namespace {

struct Slot {
  std::atomic<SignalFaultTarget*> target{nullptr};  // null: free. Published last, withdrawn first.
  std::atomic<std::uintptr_t> begin{0};
  std::atomic<std::uintptr_t> end{0};
  std::atomic<bool> inherited{false};  // this process is a fork of the one that attached it
};

std::array<Slot, kMaxFaultTargets> slots;
std::atomic<int> slots_in_use{0};  // all slots from here on are free
std::mutex lifecycle;              // attach and detach
int attached = 0;
int stack_flag = 0;  // SA_ONSTACK or nothing

constexpr std::array kSignals{SIGSEGV, SIGBUS};
std::array<struct sigaction, kSignals.size()> previous_actions;

struct sigaction& previous_action(int signal) {
  return previous_actions[signal == SIGSEGV ? 0 : 1];
}

bool is_function(const struct sigaction& action) {
  if ((action.sa_flags & SA_SIGINFO) != 0) return action.sa_sigaction != nullptr;
  return action.sa_handler != SIG_DFL && action.sa_handler != SIG_IGN;
}

AccessKind access_kind([[maybe_unused]] const void* context) {
#if defined(__x86_64__)
  constexpr greg_t kWriteBit = 2;  // of the page fault's error code
  const auto* machine = static_cast<const ucontext_t*>(context);
  return (machine->uc_mcontext.gregs[REG_ERR] & kWriteBit) != 0 ? AccessKind::write : AccessKind::read;
#else
  return AccessKind::unknown;
#endif
}

Slot* find_slot(std::uintptr_t address) {
  const int count = slots_in_use.load(std::memory_order_acquire);  // acquire: partner is attach_fault_target()
  Slot* inherited = nullptr;
  for (int i = 0; i < count; ++i) {
    Slot& slot = slots[static_cast<std::size_t>(i)];
    if (slot.target.load(std::memory_order_acquire) == nullptr) continue;     // acquire: begin and end; partner is attach_fault_target()
    const std::uintptr_t begin = slot.begin.load(std::memory_order_relaxed);  // relaxed: ordered by target
    const std::uintptr_t end = slot.end.load(std::memory_order_relaxed);      // relaxed: ordered by target
    if (address - begin >= end - begin) continue;
    if (!slot.inherited.load()) return &slot;
    inherited = &slot;  // a forked child may have put a view of its own in the same place
  }
  return inherited;
}

// Calls the handler that was there before ours, as the kernel would have.
void call_previous(struct sigaction& previous, int signal, siginfo_t* info, void* context) {
  const struct sigaction action = previous;
  if ((action.sa_flags & static_cast<int>(SA_RESETHAND)) != 0) {
    previous = {};
    previous.sa_handler = SIG_DFL;
  }
  sigset_t mask = action.sa_mask;
  sigset_t before;
  if ((action.sa_flags & SA_NODEFER) == 0) sigaddset(&mask, signal);
  pthread_sigmask(SIG_BLOCK, &mask, &before);
  if ((action.sa_flags & SA_SIGINFO) != 0) {
    action.sa_sigaction(signal, info, context);
  } else {
    action.sa_handler(signal);
  }
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

void pass_on(int signal, siginfo_t* info, void* context) {
  struct sigaction& previous = previous_action(signal);
  if (is_function(previous)) return call_previous(previous, signal, info, context);
  const bool sent = info->si_code <= 0;  // by kill() and the like: does not come again by itself
  if (sent && (previous.sa_flags & SA_SIGINFO) == 0 && previous.sa_handler == SIG_IGN) return;
  // The default action, also where SIG_IGN was set: the kernel does not let a failed access be ignored.
  struct sigaction action = {};
  action.sa_handler = SIG_DFL;
  ::sigaction(signal, &action, nullptr);
  if (sent) ::raise(signal);
}

/// Shared memory holds data: executing it is a crash, whatever rights the page has.
bool is_instruction_fetch([[maybe_unused]] const void* context) {
#if defined(__x86_64__)
  constexpr greg_t kFetchBit = 16;  // of the page fault's error code
  return (static_cast<const ucontext_t*>(context)->uc_mcontext.gregs[REG_ERR] & kFetchBit) != 0;
#else
  return false;
#endif
}

void dispatch(int signal, siginfo_t* info, void* context) {
  if (info->si_code <= 0) return pass_on(signal, info, context);  // si_addr has another meaning
  const SignalFault fault{signal, info->si_code, reinterpret_cast<std::uintptr_t>(info->si_addr), access_kind(context)};
  Slot* slot = find_slot(fault.address);
  if (slot == nullptr || is_instruction_fetch(context)) return pass_on(signal, info, context);
  if (slot->inherited.load()) {
    report_bad_access("access to", fault.address, fault.kind, "shared memory does not pass to processes made by fork()");
    return pass_on(signal, info, context);
  }
  if (slot->target.load()->on_signal(fault) == FaultVerdict::pass_on) pass_on(signal, info, context);
}

void handle(int signal, siginfo_t* info, void* context) {
  const int saved_errno = errno;
  // The compiler must not keep memory in registers over the faulting access: to it this is an ordinary function call.
  std::atomic_signal_fence(std::memory_order_seq_cst);
  dispatch(signal, info, context);
  std::atomic_signal_fence(std::memory_order_seq_cst);
  errno = saved_errno;
}

void mark_slots_inherited() {
  for (Slot& slot : slots) {
    if (slot.target.load() != nullptr) slot.inherited.store(true);
  }
}

void install() {
  static std::once_flag once;
  std::call_once(once, [] { (void)::pthread_atfork(nullptr, nullptr, &mark_slots_inherited); });
  for (const int signal : kSignals) {
    struct sigaction now = {};
    ::sigaction(signal, nullptr, &now);
    if ((now.sa_flags & SA_SIGINFO) != 0 && now.sa_sigaction == &handle) continue;  // under somebody's who has restored it
    previous_action(signal) = now;
    struct sigaction ours = {};
    ours.sa_sigaction = &handle;
    ours.sa_flags = SA_SIGINFO | SA_NODEFER | stack_flag;
    sigemptyset(&ours.sa_mask);
    NETVM_CHECK(::sigaction(signal, &ours, nullptr) == 0, "sigaction(%d): %s", signal, strerrordesc_np(errno));
  }
}

void uninstall() {
  for (const int signal : kSignals) {
    struct sigaction now = {};
    ::sigaction(signal, nullptr, &now);
    if ((now.sa_flags & SA_SIGINFO) == 0 || now.sa_sigaction != &handle) continue;  // somebody's own stays
    ::sigaction(signal, &previous_action(signal), nullptr);
  }
}

}  // namespace

bool attach_fault_target(std::uintptr_t begin, std::uintptr_t end, SignalFaultTarget* target) {
  const std::lock_guard lock(lifecycle);
  for (int i = 0; i < kMaxFaultTargets; ++i) {
    Slot& slot = slots[static_cast<std::size_t>(i)];
    if (slot.target.load() != nullptr) continue;
    slot.begin.store(begin);
    slot.end.store(end);
    slot.inherited.store(false);
    slot.target.store(target);
    if (slots_in_use.load() <= i) slots_in_use.store(i + 1);
    if (attached++ == 0) install();
    return true;
  }
  return false;
}

void detach_fault_target(SignalFaultTarget* target) {
  const std::lock_guard lock(lifecycle);
  for (Slot& slot : slots) {
    if (slot.target.load() != target) continue;
    slot.target.store(nullptr);
    if (--attached == 0) uninstall();
  }
}

void fault_signals_on_alternate_stack() {
  const std::lock_guard lock(lifecycle);
  stack_flag = SA_ONSTACK;
}

struct sigaction handle_signal_before(int signal, void (*handler)(int, siginfo_t*, void*)) {
  struct sigaction ours = {};
  struct sigaction behind = {};
  ours.sa_sigaction = handler;
  ours.sa_flags = SA_SIGINFO | SA_NODEFER | SA_RESTART | stack_flag;
  sigemptyset(&ours.sa_mask);
  NETVM_CHECK(::sigaction(signal, &ours, &behind) == 0, "sigaction(%d): %s", signal, strerrordesc_np(errno));
  return behind;
}

bool fault_signal_has_previous_handler(int signal) { return is_function(previous_action(signal)); }

void report_bad_access(const char* what, std::uintptr_t address, AccessKind kind, const char* text) {
  static constexpr std::array kNames{"read", "write", "access"};
  LineBuffer line;
  line.append_prefix();
  line.append("%s 0x%llx (%s): %s", what, static_cast<unsigned long long>(address), kNames[static_cast<std::size_t>(kind)], text);
  line.write_line();
}

}  // namespace netvm
