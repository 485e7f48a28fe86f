// How a page is compared with its twin: each kernel makes one bit a byte (set: differs), 64 bits a word, in ascending order.
// Private to diff*.cpp.
#pragma once

#include <cstddef>
#include <cstdint>

#include "runtime/ids.hpp"

namespace netvm::dsm::detail {

inline constexpr std::size_t kMaskWords = kPageSize / 64;

void diff_masks_portable(const std::byte* twin, const std::byte* page, std::uint64_t* masks);
#if defined(__x86_64__)
/// Call only where the processor has AVX2.
void diff_masks_avx2(const std::byte* twin, const std::byte* page, std::uint64_t* masks);
/// Call only where the processor has AVX-512 F and BW.
void diff_masks_avx512(const std::byte* twin, const std::byte* page, std::uint64_t* masks);
#endif

}  // namespace netvm::dsm::detail
