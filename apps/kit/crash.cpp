#include "apps/kit/crash.hpp"

#include <unistd.h>

#include <array>
#include <csignal>
#include <cstring>

#include "apps/kit/kit.hpp"
#include "apps/kit/memory.hpp"
#include "apps/kit/symbols.hpp"
#include "apps/kit/thread_state.hpp"
#include "runtime/log.hpp"

namespace netvm::kit {

namespace {

/// Looking an allocation up asks other nodes. If the crash has broken what that needs, the process dies all the same, a little later.
constexpr unsigned kLookUpSeconds = 5;

void on_crash(int signal, siginfo_t* info, void*) {
  ::signal(signal, SIG_DFL);  // a crash in here ends it
  const ThreadContext& me = this_thread();
  const bool has_address = (signal == SIGSEGV || signal == SIGBUS) && info->si_code > 0;
  const auto address = reinterpret_cast<std::uintptr_t>(info->si_addr);
  LineBuffer line;
  line.append_prefix();
  if (me.number == ThreadContext::kNone) {
    line.append("a thread that the program did not create");
  } else {
    line.append("thread %d (%s)", me.number, me.function);
  }
  line.append(" crashed: %s", sigdescr_np(signal));
  if (has_address) line.append(" at 0x%llx,", static_cast<unsigned long long>(address));
  Kit* const kit = Kit::find();
  if (kit != nullptr && has_address) {
    ::alarm(kLookUpSeconds);
    describe_address(*kit, address, line);
  }
  line.write_line();
  if (info->si_code <= 0) ::raise(signal);  // sent by kill(): the instruction does not run into it again
}

}  // namespace

void describe_address(Kit& kit, std::uintptr_t address, LineBuffer& line) {
  detail::Runtime& rt = kit.runtime();
  std::uint64_t offset = 0;
  const void* const at = reinterpret_cast<const void*>(address);
  if (t_state.stack_begin != t_state.stack_end && t_state.stack_begin - address <= kPageSize) {
    line.append(" below its stack of %llu bytes, which is full: more with pthread_attr_setstacksize() (main(): ulimit -s)",
                static_cast<unsigned long long>(t_state.stack_end - t_state.stack_begin));
    return;
  }
  std::array<char, 128> name;
  if (kit.image().contains(at)) {
    line.append(name_of_global(address, name) ? " the global variable %s" : " one of the program's global variables", name.data());
  } else if (!rt.offset_of(at, &offset) || !rt.layout.shared.contains(PageId{offset / kPageSize})) {
    line.append(" which is not shared memory");
  } else if (const auto site = AllocationSites::find(rt, offset)) {
    const bool inside = offset - site->offset < site->bytes;
    const std::uint64_t distance = inside ? offset - site->offset : offset - site->offset - site->bytes;
    line.append(" %llu bytes %s the %llu bytes that node %d allocated at %s:%d", static_cast<unsigned long long>(distance),
                inside ? "into" : "beyond the end of", static_cast<unsigned long long>(site->bytes), site->node, site->file, site->line);
  } else {
    line.append(" in the range of shared memory, where nothing is allocated");
  }
}

void catch_crashes() {
  for (const int signal : {SIGSEGV, SIGBUS, SIGFPE, SIGILL}) {
    struct sigaction now = {};
    if (::sigaction(signal, nullptr, &now) != 0 || now.sa_handler != SIG_DFL) continue;  // the program's own come later, and win
    struct sigaction ours = {};
    ours.sa_sigaction = &on_crash;
    ours.sa_flags = SA_SIGINFO | SA_NODEFER | SA_ONSTACK;
    sigemptyset(&ours.sa_mask);
    ::sigaction(signal, &ours, nullptr);
  }
}

}  // namespace netvm::kit
