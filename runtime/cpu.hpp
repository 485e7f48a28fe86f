// What a spin loop tells the processor.
#pragma once

namespace netvm {

/// "This is a spin loop": frees the core's other thread and saves power for some tens of cycles.
inline void cpu_pause() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("isb" ::: "memory");  // "yield" is a no-op on today's cores; isb takes about as long as x86's pause
#endif
}

}  // namespace netvm
