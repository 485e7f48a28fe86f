// Masked diffs: the changed bytes of a coherence unit with a bit for each byte, as processors compare and move them. Byte-exact like the runs of diff.hpp, for protocols
// that send what changed in messages and do no arithmetic with it: 256 scattered words of a page are 512 bytes of masks, not 256 runs.
//
// Wire, for each page of the unit: 8 bytes, of which bit i says that line i (64 bytes) has changes; the masks of these lines, 8 bytes each, none of them 0; the changed bytes.
//
// Two implementations, chosen once at run time: AVX-512 with VBMI2, portable. They give and take the same bytes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "nic/verbs.hpp"
#include "runtime/ids.hpp"

namespace netvm::dsm {

/// What a bit of a mask stands for: byte i % 64 of line i / 64.
inline constexpr std::size_t kLineBytes = 64;
inline constexpr std::size_t kPageLines = kPageSize / kLineBytes;

enum class MaskedKernel : std::uint8_t { portable, avx512 };
[[nodiscard]] bool masked_kernel_usable(MaskedKernel kernel);
/// The fastest one that this processor has.
[[nodiscard]] MaskedKernel best_masked_kernel();

/// Appends what `masks` (a whole number of pages) say of the unit at `unit`. Returns how many bytes of data that is.
std::size_t encode_masked(std::span<const std::uint64_t> masks, const std::byte* unit, std::vector<std::byte>& out,
                          MaskedKernel kernel = best_masked_kernel());
/// Takes one encoded diff from the front of `wire`, copies its bytes into `unit` and, if not null, into `twin`; both have `bytes`, whole pages. Bytes set in `except`, if
/// not empty, stay as they are. Returns the bytes of `wire` consumed; 0 if the input is malformed, and then nothing was written.
[[nodiscard]] std::size_t apply_masked(std::span<const std::byte> wire, std::byte* unit, std::byte* twin, std::size_t bytes,
                                       std::span<const std::uint64_t> except = {}, MaskedKernel kernel = best_masked_kernel());
/// Appends an encoded diff of `pages` pages as segments of a vectored write to the unit that begins at `offset` of a region; the bytes stay where they are. The diff must
/// be well formed: apply_masked() has taken it, or this node made it. Returns the bytes of data.
std::size_t append_masked_segments(std::span<const std::byte> wire, std::size_t pages, std::uint64_t offset,
                                   std::vector<nic::Segment>& out);

}  // namespace netvm::dsm
