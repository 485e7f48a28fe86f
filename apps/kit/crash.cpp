#include "apps/kit/crash.hpp"

#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <optional>

#include "apps/kit/file_area.hpp"
#include "apps/kit/heap.hpp"
#include "apps/kit/kit.hpp"
#include "apps/kit/memory.hpp"
#include "apps/kit/symbols.hpp"
#include "apps/kit/thread_state.hpp"
#include "runtime/fault_signal.hpp"
#include "runtime/log.hpp"

namespace netvm::kit {

namespace {

/// Looking an allocation up asks other nodes. If the crash has broken what that needs, the process dies all the same, a little later.
constexpr unsigned kLookUpSeconds = 5;

/// Whether the address lies in the page below the calling thread's shared stack.
bool is_guard_page(std::uintptr_t address) {
  const ThreadState& me = t_state;
  return me.stack_begin != me.stack_end && me.stack_begin - 1 - address < kPageSize;
}

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

struct sigaction g_trap_handler;

void on_guarded_fault(int signal, siginfo_t* info, void* context) {
  if (info->si_code > 0 && is_guard_page(reinterpret_cast<std::uintptr_t>(info->si_addr))) return on_crash(signal, info, context);
  g_trap_handler.sa_sigaction(signal, info, context);
}

}  // namespace

namespace {

constexpr std::uintptr_t kBelowStack = 64 * 1024;  // how far a function's variables may lie from the end of its caller's

/// What is known of the stack that is full, if the address says so.
bool describe_full_stack(std::uintptr_t address, LineBuffer& line) {
  const ThreadState& me = t_state;
  if (is_guard_page(address)) {
    line.append(" below its stack of %llu bytes, which is full: more with pthread_attr_setstacksize() (main(): ulimit -s)",
                static_cast<unsigned long long>(me.stack_end - me.stack_begin));
    return true;
  }
  if (me.ordinary_begin == me.ordinary_end || me.ordinary_begin - address > kBelowStack) return false;
  line.append(" below its stack of %llu bytes, which is full: more with ulimit -s",
              static_cast<unsigned long long>(me.ordinary_end - me.ordinary_begin));
  return true;
}

void describe_shared(detail::Runtime& rt, std::uintptr_t address, std::uint64_t offset, LineBuffer& line) {
  const auto site = AllocationSites::find(rt, offset);
  std::uint64_t size = 0;
  std::uint64_t distance = 0;
  std::uintptr_t code = 0;
  const bool inside = site && offset - site->offset < site->bytes;
  if (site) {
    size = site->bytes;
    distance = inside ? offset - site->offset : offset - site->offset - site->bytes;
    code = site->code;
  }
  std::optional<Heap::Block> block;
  if (!inside && rt.dsm->size_of(offset)) block = Heap::find(reinterpret_cast<const void*>(address));
  if (block) {
    size = block->bytes;
    distance = address - reinterpret_cast<std::uintptr_t>(block->begin);
    code = block->code;
  } else if (!site) {
    line.append(" in the range of shared memory, where nothing is allocated");
    return;
  }
  line.append(" %llu bytes %s the %llu bytes that ", static_cast<unsigned long long>(distance),
              inside || block ? "into" : "beyond the end of", static_cast<unsigned long long>(size));
  line.append(block ? "were " : "node %d ", site ? site->node : 0);
  if (!block && code == 0 && site->file[0] != 0) {
    line.append("allocated at %s:%d", site->file, site->line);
    return;
  }
  std::array<char, 128> name{};
  if (code != 0 && name_of_function(code, name)) {
    line.append("allocated in %s", name.data());
  } else {
    line.append("allocated at code address 0x%llx", static_cast<unsigned long long>(code));
  }
}

}  // namespace

void describe_address(Kit& kit, std::uintptr_t address, LineBuffer& line) {
  detail::Runtime& rt = kit.runtime();
  std::uint64_t offset = 0;
  const void* const at = reinterpret_cast<const void*>(address);
  if (describe_full_stack(address, line)) return;
  if (const std::optional<int> opened = FileArea::node_of(at)) {
    line.append(
        " in a FILE that node %d opened: it is of use there only. Open the file in a thread of this node, let a thread of node %d write or "
        "read, or use stdout",
        *opened, *opened);
    return;
  }
  std::array<char, 128> name;
  if (kit.image().contains(at)) {
    line.append(name_of_global(address, name) ? " the global variable %s" : " one of the program's global variables", name.data());
  } else if (!rt.offset_of(at, &offset) || !rt.layout.shared.contains(PageId{offset / kPageSize})) {
    line.append(" which is not shared memory");
  } else {
    describe_shared(rt, address, offset, line);
  }
}

// Under userfaultfd the guard page has no rights for anybody. Under mprotect the trap cannot tell it from pages that are away: it must not see the fault.
void watch_guard_pages(Kit& kit) {
  if (kit.runtime().vm->trap() == TrapKind::mprotect) g_trap_handler = handle_signal_before(SIGSEGV, &on_guarded_fault);
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
