#include "dsm/masked_kernels.hpp"

#if defined(__x86_64__)
#include <immintrin.h>

namespace netvm::dsm::detail {

namespace {

#define NETVM_TARGET __attribute__((target("avx512f,avx512bw,avx512vbmi2,popcnt,bmi2")))

NETVM_TARGET std::size_t count_bits_avx512(const std::uint64_t* masks, std::size_t count) {
  std::size_t bits = 0;
  for (std::size_t i = 0; i < count; ++i) bits += static_cast<std::size_t>(_mm_popcnt_u64(masks[i]));
  return bits;
}

NETVM_TARGET std::byte* pack_avx512(const std::uint64_t* masks, std::size_t count, const std::byte* lines, std::byte* out) {
  for (std::size_t i = 0; i < count; ++i) {
    if (masks[i] == 0) continue;
    const __m512i line = _mm512_loadu_si512(lines + i * 64);
    _mm512_storeu_si512(out, _mm512_maskz_compress_epi8(masks[i], line));
    out += _mm_popcnt_u64(masks[i]);
  }
  return out;
}

// A line is loaded and stored whole at once, so that aligned words of it are not torn.
NETVM_TARGET const std::byte* unpack_avx512(const std::uint64_t* masks, std::size_t count, const std::byte* in, std::byte* lines,
                                            std::byte* twin, const std::uint64_t* except) {
  for (std::size_t i = 0; i < count; ++i) {
    if (masks[i] == 0) continue;
    const auto bytes = static_cast<unsigned>(_mm_popcnt_u64(masks[i]));
    const __m512i packed = _mm512_maskz_loadu_epi8(_bzhi_u64(UINT64_MAX, bytes), in);
    const __m512i line = _mm512_maskz_expand_epi8(masks[i], packed);
    const std::uint64_t written = except == nullptr ? masks[i] : masks[i] & ~except[i];
    _mm512_mask_storeu_epi8(lines + i * 64, written, line);
    if (twin != nullptr) _mm512_mask_storeu_epi8(twin + i * 64, written, line);
    in += bytes;
  }
  return in;
}

#undef NETVM_TARGET

}  // namespace

const MaskedCopies kAvx512MaskedCopies{count_bits_avx512, pack_avx512, unpack_avx512};

}  // namespace netvm::dsm::detail
#endif
