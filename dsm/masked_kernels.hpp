// How the bytes that a mask names are gathered and scattered. Private to masked_diff*.cpp.
#pragma once

#include <cstddef>
#include <cstdint>

namespace netvm::dsm::detail {

/// One implementation. Lines are 64 bytes; `count` lines lie side by side in memory, `masks` has a word for each.
struct MaskedCopies {
  /// How many bits are set.
  std::size_t (*count)(const std::uint64_t* masks, std::size_t count);
  /// Gathers the bytes into `out`, which has room for 64 more than there are. Returns their end.
  std::byte* (*pack)(const std::uint64_t* masks, std::size_t count, const std::byte* lines, std::byte* out);
  /// Scatters them: bytes of line i as masks[i] says, but not those that except[i] (if not null) has set, into `lines` and `twin` (if not null). Returns the end of `in`.
  const std::byte* (*unpack)(const std::uint64_t* masks, std::size_t count, const std::byte* in, std::byte* lines, std::byte* twin,
                             const std::uint64_t* except);
};

extern const MaskedCopies kPortableMaskedCopies;
#if defined(__x86_64__)
/// Use only where the processor has AVX-512 F, BW and VBMI2.
extern const MaskedCopies kAvx512MaskedCopies;
#endif

}  // namespace netvm::dsm::detail
