// How a page is compared with its twin: each kernel makes one bit a byte (set: differs), 64 bits a word, in ascending order.
// Private to diff*.cpp.
#pragma once

#include <cstddef>
#include <cstdint>

#include "runtime/ids.hpp"

namespace netvm::dsm::detail {

/// How many runs of set bits there are in consecutive words of masks, and how many bits.
struct MaskSize {
  std::size_t runs = 0;
  std::size_t bits = 0;
};
template <class CountBits>
[[gnu::always_inline]] inline MaskSize measure_masks(const std::uint64_t* masks, std::size_t words, CountBits&& bits_of) {
  MaskSize size;
  std::uint64_t before = 0;  // whether the bit before is set
  for (std::size_t i = 0; i < words; ++i) {
    const std::uint64_t mask = masks[i];
    if (mask != 0) {
      size.runs += bits_of(mask & ~(mask << 1 | before));
      size.bits += bits_of(mask);
    }
    before = mask >> 63;
  }
  return size;
}

inline constexpr std::size_t kMaskWords = kPageSize / 64;

void diff_masks_portable(const std::byte* twin, const std::byte* page, std::uint64_t* masks);
#if defined(__x86_64__)
/// Call only where the processor has POPCNT.
MaskSize measure_masks_popcnt(const std::uint64_t* masks, std::size_t words);
/// Call only where the processor has AVX2.
void diff_masks_avx2(const std::byte* twin, const std::byte* page, std::uint64_t* masks);
/// Call only where the processor has AVX-512 F and BW.
void diff_masks_avx512(const std::byte* twin, const std::byte* page, std::uint64_t* masks);
#endif

}  // namespace netvm::dsm::detail
