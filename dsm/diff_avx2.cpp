#include "dsm/diff_kernels.hpp"

#if defined(__x86_64__)
#include <immintrin.h>

namespace netvm::dsm::detail {

__attribute__((target("avx2"))) void diff_masks_avx2(const std::byte* twin, const std::byte* page, std::uint64_t* masks) {
  for (std::size_t word = 0; word < kMaskWords; ++word) {
    const auto* a = reinterpret_cast<const __m256i*>(twin + word * 64);
    const auto* b = reinterpret_cast<const __m256i*>(page + word * 64);
    const __m256i low = _mm256_cmpeq_epi8(_mm256_loadu_si256(a), _mm256_loadu_si256(b));
    const __m256i high = _mm256_cmpeq_epi8(_mm256_loadu_si256(a + 1), _mm256_loadu_si256(b + 1));
    const auto equal_low = static_cast<std::uint32_t>(_mm256_movemask_epi8(low));
    const auto equal_high = static_cast<std::uint32_t>(_mm256_movemask_epi8(high));
    masks[word] = ~(std::uint64_t{equal_high} << 32 | equal_low);
  }
}

__attribute__((target("popcnt"))) MaskSize measure_masks_popcnt(const std::uint64_t* masks, std::size_t words) {
  return measure_masks(
      masks, words,
      [](std::uint64_t mask) __attribute__((target("popcnt"))) { return static_cast<std::size_t>(__builtin_popcountll(mask)); });
}

}  // namespace netvm::dsm::detail
#endif
