// Diffs: which bytes of a page (or a larger coherence unit: any whole number of pages up to kMaxGranularity) differ from its twin. Byte-exact: a byte that did not change is never part of a run, since another node may
// have written it meanwhile (Keleher et al. 1994, and every DSM that compared words and lost bytes).
//
// Three implementations, chosen once at run time by what the processor has: AVX-512 (BW), AVX2, portable. They give identical runs.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "dsm/dsm.hpp"
#include "nic/verbs.hpp"
#include "runtime/ids.hpp"

namespace netvm::dsm {

/// Changed bytes [offset, offset + bytes) of a unit. Maximal: neighbours of a run are unchanged.
struct DiffRun {
  std::uint32_t offset = 0;
  std::uint32_t bytes = 0;
  friend bool operator==(const DiffRun&, const DiffRun&) = default;
};
/// Every second byte changed.
[[nodiscard]] constexpr std::size_t max_diff_runs(std::size_t bytes) { return bytes / 2; }
/// Of a single page.
inline constexpr std::size_t kMaxDiffRuns = max_diff_runs(kPageSize);

enum class DiffKernel : std::uint8_t { portable, avx2, avx512 };
/// The fastest one that this processor has.
[[nodiscard]] DiffKernel best_diff_kernel();
[[nodiscard]] bool diff_kernel_usable(DiffKernel kernel);

/// Compares two buffers of `bytes` and writes the runs in ascending order; `runs` holds max_diff_runs(bytes). Returns how many.
std::size_t find_diff_runs(const std::byte* twin, const std::byte* page, DiffRun* runs, std::size_t bytes = kPageSize);
/// The same by a certain implementation; requires diff_kernel_usable(kernel).
std::size_t find_diff_runs(DiffKernel kernel, const std::byte* twin, const std::byte* page, DiffRun* runs, std::size_t bytes = kPageSize);

/// The same as a bit for each byte (set: differs), 64 a word, in ascending order; `masks` has bytes / 64 words.
void find_diff_masks(const std::byte* twin, const std::byte* page, std::uint64_t* masks, std::size_t bytes = kPageSize);

/// How many runs these masks of a unit have, and how many bytes are in them.
struct DiffSize {
  std::size_t runs = 0;
  std::size_t bytes = 0;
};
[[nodiscard]] DiffSize measure_diff(std::span<const std::uint64_t> masks);
/// Writes the runs; `out` has room for all. Returns how many.
std::size_t make_runs(std::span<const std::uint64_t> masks, DiffRun* out);
/// Writes them as segments of a vectored write to the unit that begins at `page_offset` of a region; `out` has room for all. Returns how many.
std::size_t make_segments(std::span<const std::uint64_t> masks, const std::byte* page, std::uint64_t page_offset, nic::Segment* out);

/// How long the wire form is.
[[nodiscard]] std::size_t encoded_diff_bytes(std::span<const DiffRun> runs);
/// Appends the wire form: run count (16 bit), then for each run offset and length - 1 (16 bit each), then the bytes of all runs.
void encode_diff(std::span<const DiffRun> runs, const std::byte* page, std::vector<std::byte>& out);
/// The same with the bytes of all runs at hand, one after the other.
void encode_packed_diff(std::span<const DiffRun> runs, std::span<const std::byte> bytes, std::vector<std::byte>& out);
/// Reads one encoded diff from the front of `wire`, copies its bytes into `page` and, if not null, into `twin` (so that this node's next diff does
/// not echo them); both have `bytes`. Returns the bytes of `wire` consumed; 0 if the input is malformed, and then nothing was written.
/// Protocols use ProtocolEnv::apply_diff(), which knows how large a unit is.
[[nodiscard]] std::size_t apply_diff(std::span<const std::byte> wire, std::byte* page, std::byte* twin, std::size_t bytes = kPageSize);

}  // namespace netvm::dsm
