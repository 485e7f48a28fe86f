#include "dsm/diff_kernels.hpp"

#if defined(__x86_64__)
#include <immintrin.h>

namespace netvm::dsm::detail {

__attribute__((target("avx512f,avx512bw"))) void diff_masks_avx512(const std::byte* twin, const std::byte* page, std::uint64_t* masks) {
  for (std::size_t word = 0; word < kMaskWords; ++word) {
    masks[word] = _mm512_cmpneq_epi8_mask(_mm512_loadu_si512(twin + word * 64), _mm512_loadu_si512(page + word * 64));
  }
}

}  // namespace netvm::dsm::detail
#endif
