#include "apps/kit/thread_state.hpp"

#include <pthread.h>
#include <sys/mman.h>

#include <cerrno>
#include <csignal>
#include <cstddef>
#include <cstring>

#include "apps/kit/real.hpp"
#include "runtime/check.hpp"
#include "runtime/ids.hpp"

// netvm_kit_switch_stack(top, f, argument, save): calls f(argument) with the stack pointer at `top`; the old one is stored in *save meanwhile. Unwinders
// walk across it: the frame that called is found through the frame pointer.
#if defined(__x86_64__)
__asm__(R"(
  .text
  .p2align 4
  .type netvm_kit_switch_stack, @function
  .local netvm_kit_switch_stack
netvm_kit_switch_stack:
  .cfi_startproc
  pushq %rbp
  .cfi_def_cfa_offset 16
  .cfi_offset %rbp, -16
  movq %rsp, %rbp
  .cfi_def_cfa_register %rbp
  movq %rsp, (%rcx)
  movq %rdi, %rsp
  andq $-16, %rsp
  movq %rdx, %rdi
  callq *%rsi
  movq %rbp, %rsp
  popq %rbp
  .cfi_def_cfa %rsp, 8
  ret
  .cfi_endproc
  .size netvm_kit_switch_stack, . - netvm_kit_switch_stack
)");
#elif defined(__aarch64__)
__asm__(R"(
  .text
  .p2align 4
  .type netvm_kit_switch_stack, %function
  .local netvm_kit_switch_stack
netvm_kit_switch_stack:
  .cfi_startproc
  stp x29, x30, [sp, #-16]!
  .cfi_def_cfa_offset 16
  .cfi_offset x29, -16
  .cfi_offset x30, -8
  mov x29, sp
  .cfi_def_cfa_register x29
  str x29, [x3]
  and x0, x0, #-16
  mov sp, x0
  mov x0, x2
  blr x1
  mov sp, x29
  .cfi_def_cfa_register sp
  ldp x29, x30, [sp], #16
  .cfi_def_cfa_offset 0
  ret
  .cfi_endproc
  .size netvm_kit_switch_stack, . - netvm_kit_switch_stack
)");
#else
#error "how a stack is changed is not known for this machine"
#endif

extern "C" void netvm_kit_switch_stack(void* top, void (*f)(void*), void* argument, void** save);

namespace netvm::kit {

thread_local constinit ThreadState t_state [[gnu::tls_model("initial-exec")]];

namespace {
constexpr std::size_t kSignalStack = std::size_t{256} * 1024;
}

void enter_runtime(void (*f)(void*), void* argument) {
  ThreadState& me = t_state;
  const int error = errno;
  ++me.inside;
  if (ThreadState::in(reinterpret_cast<std::uintptr_t>(__builtin_frame_address(0)), me.stack_begin, me.stack_end)) {
    void* unused = nullptr;
    netvm_kit_switch_stack(me.private_stack, f, argument, &unused);
  } else {
    f(argument);
  }
  --me.inside;
  errno = error;
}

void run_on_shared_stack(std::uintptr_t begin, std::uintptr_t end, void (*f)(void*), void* argument) {
  ThreadState& me = t_state;
  me.stack_begin = begin;
  me.stack_end = end;
  netvm_kit_switch_stack(reinterpret_cast<void*>(end), f, argument, &me.private_stack);
  me.stack_begin = me.stack_end = 0;
}

void find_ordinary_stack() {
  pthread_attr_t attributes;
  if (::pthread_getattr_np(::pthread_self(), &attributes) != 0) return;
  void* begin = nullptr;
  std::size_t bytes = 0;
  if (::pthread_attr_getstack(&attributes, &begin, &bytes) == 0) {
    t_state.ordinary_begin = reinterpret_cast<std::uintptr_t>(begin);
    t_state.ordinary_end = t_state.ordinary_begin + bytes;
  }
  ::pthread_attr_destroy(&attributes);
}

void give_signal_stack() {
  void* const at = ::mmap(nullptr, kPageSize + kSignalStack, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  NETVM_CHECK(at != MAP_FAILED, "no memory for the stack of signal handlers");
  auto* const usable = static_cast<std::byte*>(at) + kPageSize;  // the lowest page stops who goes beyond
  NETVM_CHECK(::mprotect(usable, kSignalStack, PROT_READ | PROT_WRITE) == 0, "no memory for the stack of signal handlers");
  stack_t stack{};
  stack.ss_sp = usable;
  stack.ss_size = kSignalStack;
  NETVM_CHECK(real_sigaltstack(&stack, nullptr) == 0, "sigaltstack: %s", strerrordesc_np(errno));
  t_state.signal_begin = reinterpret_cast<std::uintptr_t>(usable);
  t_state.signal_end = t_state.signal_begin + kSignalStack;
}

void take_away_signal_stack() {
  if (t_state.signal_begin == 0) return;
  stack_t none{};
  none.ss_flags = SS_DISABLE;
  if (real_sigaltstack(&none, nullptr) != 0) return;
  ::munmap(reinterpret_cast<void*>(t_state.signal_begin - kPageSize), kPageSize + kSignalStack);
  t_state.signal_begin = t_state.signal_end = 0;
}

}  // namespace netvm::kit
