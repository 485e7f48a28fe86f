// Copies to and from memory that other threads and processes may access at the same moment: frames. Such a race is the program's (a DSM
// page under a racy program, a put into a buffer that is being read), its result is any mixture of old and new words, and it must
// not be undefined behaviour here: aligned 8-byte pieces are single accesses, the rest is memcpy, and ThreadSanitizer is told not to look.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "runtime/sanitizers.hpp"

namespace netvm::nic {

#if NETVM_TSAN
/// Word by word where both sides allow, else byte by byte; volatile keeps it from becoming an (intercepted) memcpy.
__attribute__((no_sanitize("thread"), noinline)) inline void racy_copy_unseen(void* to, const void* from, std::size_t bytes) {
  auto* out = static_cast<volatile std::byte*>(to);
  const auto* in = static_cast<const volatile std::byte*>(from);
  std::size_t i = 0;
  if ((reinterpret_cast<std::uintptr_t>(to) | reinterpret_cast<std::uintptr_t>(from)) % 8 == 0) {
    for (; i + 8 <= bytes; i += 8) {
      *reinterpret_cast<volatile std::uint64_t*>(out + i) = *reinterpret_cast<const volatile std::uint64_t*>(in + i);
    }
  }
  for (; i < bytes; ++i) out[i] = in[i];
}
#endif

#if !NETVM_TSAN
using CopyBlock [[gnu::vector_size(16)]] = long long;  // a register's worth
[[gnu::always_inline]] inline CopyBlock load_block(const std::byte* at) {
  CopyBlock block;
  __builtin_memcpy(&block, at, sizeof block);
  return block;
}
[[gnu::always_inline]] inline void store_block(std::byte* at, CopyBlock block) { __builtin_memcpy(at, &block, sizeof block); }

/// 16 to 64 bytes, in registers: the ends, and for more than 32 bytes what is next to them; the pieces may overlap.
[[gnu::always_inline]] inline void copy_short(std::byte* to, const std::byte* from, std::size_t bytes) {
  const CopyBlock first = load_block(from);
  const CopyBlock last = load_block(from + bytes - 16);
  if (bytes > 32) {
    const CopyBlock second = load_block(from + 16);
    const CopyBlock next_to_last = load_block(from + bytes - 32);
    store_block(to + 16, second);
    store_block(to + bytes - 32, next_to_last);
  }
  store_block(to, first);
  store_block(to + bytes - 16, last);
}
#endif

/// What racy_copy() moves without a call.
[[gnu::always_inline]] inline bool is_short_copy(std::size_t bytes) { return bytes == 8 || bytes - 16 <= 48; }

/// racy_copy() of such a size.
[[gnu::always_inline]] inline void racy_copy_short(void* to, const void* from, std::size_t bytes) {
#if NETVM_TSAN
  racy_copy_unseen(to, from, bytes);
#else
  if (bytes != 8) return copy_short(static_cast<std::byte*>(to), static_cast<const std::byte*>(from), bytes);
  std::uint64_t word;
  __builtin_memcpy(&word, from, sizeof word);  // one instruction: indivisible where it is aligned
  __builtin_memcpy(to, &word, sizeof word);
#endif
}

/// memcpy, where either side may be accessed by others meanwhile. 8 aligned bytes move as one. What is short is moved without a call.
[[gnu::always_inline]] inline void racy_copy(void* to, const void* from, std::size_t bytes) {
#if NETVM_TSAN
  racy_copy_unseen(to, from, bytes);
#else
  if (bytes == 8 && (reinterpret_cast<std::uintptr_t>(to) | reinterpret_cast<std::uintptr_t>(from)) % 8 == 0) {
    __atomic_store_n(static_cast<std::uint64_t*>(to), __atomic_load_n(static_cast<const std::uint64_t*>(from), __ATOMIC_RELAXED),
                     __ATOMIC_RELAXED);  // relaxed, both: indivisible is all that is asked; order comes from the page lock and the counters
  } else if (bytes - 16 <= 48) {
    copy_short(static_cast<std::byte*>(to), static_cast<const std::byte*>(from), bytes);
  } else {
    std::memcpy(to, from, bytes);
  }
#endif
}

}  // namespace netvm::nic
