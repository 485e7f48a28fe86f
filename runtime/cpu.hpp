// What only the processor needs to know: that a loop spins, that a line will be written.
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

/// Fetches the line at `at` as one's own: a write that follows need not wait for who has read it meanwhile.
inline void prefetch_for_write(const void* at) {
#if defined(__x86_64__)
  asm volatile("prefetchw %0"
               :
               : "m"(*static_cast<const char*>(at)));  // the builtin makes it a prefetch for reading unless told the processor
#else
  __builtin_prefetch(at, 1);
#endif
}

}  // namespace netvm
