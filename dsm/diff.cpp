#include "dsm/diff.hpp"

#include <bit>
#include <cstring>

#include "dsm/diff_kernels.hpp"
#include "nic/racy_copy.hpp"
#include "runtime/check.hpp"

namespace netvm::dsm {

namespace detail {

void diff_masks_portable(const std::byte* twin, const std::byte* page, std::uint64_t* masks) {
  static_assert(std::endian::native == std::endian::little, "byte i of a word is bits 8i .. 8i+7 below");
  constexpr std::uint64_t kLow7 = 0x7f7f7f7f7f7f7f7f;
  constexpr std::uint64_t kOnes = 0x0101010101010101;
  for (std::size_t word = 0; word < kMaskWords; ++word) {
    std::uint64_t mask = 0;
    for (std::size_t i = 0; i < 8; ++i) {
      std::uint64_t a;
      std::uint64_t b;
      std::memcpy(&a, twin + word * 64 + i * 8, 8);
      std::memcpy(&b, page + word * 64 + i * 8, 8);
      const std::uint64_t x = a ^ b;
      // One bit for each byte of x that is not 0, then the eight bits gathered into the top byte.
      const std::uint64_t nonzero = ((((x & kLow7) + kLow7) | x) >> 7) & kOnes;
      mask |= ((nonzero * 0x0102040810204080) >> 56) << (i * 8);
    }
    masks[word] = mask;
  }
}

}  // namespace detail

namespace {

using MaskFunction = void (*)(const std::byte*, const std::byte*, std::uint64_t*);

MaskFunction function_of(DiffKernel kernel) {
#if defined(__x86_64__)
  if (kernel == DiffKernel::avx512) return detail::diff_masks_avx512;
  if (kernel == DiffKernel::avx2) return detail::diff_masks_avx2;
#endif
  (void)kernel;
  return detail::diff_masks_portable;
}

MaskFunction best_function() {
  static const MaskFunction best = function_of(best_diff_kernel());
  return best;
}

// Appends the runs of some words of masks. `base`: where these begin in their unit. make(at, bytes) makes a run, a value with `bytes`; `open`: the last one
// before reaches to the beginning. Returns how many runs there are then.
template <class Run, class Make>
std::size_t append_runs(std::span<const std::uint64_t> masks, std::uint32_t base, Run* runs, std::size_t count, bool open, Make&& make) {
  for (std::size_t word = 0; word < masks.size(); ++word) {
    std::uint64_t mask = masks[word];
    if (mask == 0) {
      open = false;
      continue;
    }
    const auto word_at = base + static_cast<std::uint32_t>(word * 64);
    if (mask == ~std::uint64_t{0}) {
      if (!open) runs[count++] = make(word_at, 0U);
      runs[count - 1].bytes += 64;
      open = true;
      continue;
    }
    unsigned at = 0;
    if (open) {
      const auto more = static_cast<unsigned>(std::countr_one(mask));
      runs[count - 1].bytes += more;
      at = more;
      mask >>= more;  // more < 64: the mask is not all ones
    }
    open = false;
    while (mask != 0) {
      const auto gap = static_cast<unsigned>(std::countr_zero(mask));
      mask >>= gap;
      at += gap;
      const auto length = static_cast<unsigned>(std::countr_one(mask));
      runs[count++] = make(word_at + at, length);
      at += length;
      open = at == 64;
      if (open) break;
      mask >>= length;  // length < 64, since at > length or bits above were clear
    }
  }
  return count;
}

std::size_t find_runs(MaskFunction masks_of, const std::byte* twin, const std::byte* page, DiffRun* runs, std::size_t bytes) {
  std::size_t count = 0;
  for (std::size_t at = 0; at < bytes; at += kPageSize) {
    std::uint64_t masks[detail::kMaskWords];
    masks_of(twin + at, page + at, masks);
    const bool open = count > 0 && runs[count - 1].offset + runs[count - 1].bytes == at;
    count = append_runs(std::span<const std::uint64_t>(masks), static_cast<std::uint32_t>(at), runs, count, open,
                        [](std::uint32_t offset, std::uint32_t length) {
                          return DiffRun{offset, length};
                        });
  }
  return count;
}

struct WireRun {
  std::uint16_t offset;
  std::uint16_t bytes_less_one;  // all of the largest unit may have changed
};
static_assert(sizeof(WireRun) == 4);

}  // namespace

bool diff_kernel_usable(DiffKernel kernel) {
#if defined(__x86_64__)
  if (kernel == DiffKernel::avx512) return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw");
  if (kernel == DiffKernel::avx2) return __builtin_cpu_supports("avx2");
#endif
  return kernel == DiffKernel::portable;
}

DiffKernel best_diff_kernel() {
  if (diff_kernel_usable(DiffKernel::avx512)) return DiffKernel::avx512;
  if (diff_kernel_usable(DiffKernel::avx2)) return DiffKernel::avx2;
  return DiffKernel::portable;
}

std::size_t find_diff_runs(DiffKernel kernel, const std::byte* twin, const std::byte* page, DiffRun* runs, std::size_t bytes) {
  return find_runs(function_of(kernel), twin, page, runs, bytes);
}

std::size_t find_diff_runs(const std::byte* twin, const std::byte* page, DiffRun* runs, std::size_t bytes) {
  return find_runs(best_function(), twin, page, runs, bytes);
}

void find_diff_masks(const std::byte* twin, const std::byte* page, std::uint64_t* masks, std::size_t bytes) {
  const MaskFunction masks_of = best_function();
  for (std::size_t at = 0; at < bytes; at += kPageSize) masks_of(twin + at, page + at, masks + at / 64);
}

DiffSize measure_diff(std::span<const std::uint64_t> masks) {
  static const auto measure = [] {
#if defined(__x86_64__)
    if (__builtin_cpu_supports("popcnt")) return &detail::measure_masks_popcnt;
#endif
    return +[](const std::uint64_t* words, std::size_t count) {
      return detail::measure_masks(words, count, [](std::uint64_t mask) { return static_cast<std::size_t>(std::popcount(mask)); });
    };
  }();
  const detail::MaskSize size = measure(masks.data(), masks.size());
  return {size.runs, size.bits};
}

std::size_t make_runs(std::span<const std::uint64_t> masks, DiffRun* out) {
  return append_runs(masks, 0, out, 0, false, [](std::uint32_t offset, std::uint32_t length) { return DiffRun{offset, length}; });
}

std::size_t make_segments(std::span<const std::uint64_t> masks, const std::byte* page, std::uint64_t page_offset, nic::Segment* out) {
  return append_runs(masks, 0, out, 0, false, [page, page_offset](std::uint32_t at, std::uint32_t length) {
    return nic::Segment{page_offset + at, page + at, length};
  });
}

namespace {
// Room for the whole at once, and the runs in it. Returns where the bytes go.
std::byte* encode_runs(std::span<const DiffRun> runs, std::vector<std::byte>& out) {
  NETVM_CHECK(runs.size() <= max_diff_runs(kMaxGranularity), "%zu runs in one coherence unit", runs.size());
  const std::size_t before = out.size();
  out.resize(before + encoded_diff_bytes(runs));
  std::byte* at = out.data() + before;
  const auto count = static_cast<std::uint16_t>(runs.size());
  std::memcpy(at, &count, sizeof(count));
  at += sizeof(count);
  for (const DiffRun& run : runs) {
    const WireRun wire{static_cast<std::uint16_t>(run.offset), static_cast<std::uint16_t>(run.bytes - 1)};
    std::memcpy(at, &wire, sizeof(wire));
    at += sizeof(wire);
  }
  return at;
}
}  // namespace

std::size_t encoded_diff_bytes(std::span<const DiffRun> runs) {
  std::size_t bytes = sizeof(std::uint16_t) + runs.size() * sizeof(WireRun);
  for (const DiffRun& run : runs) bytes += run.bytes;
  return bytes;
}

void encode_diff(std::span<const DiffRun> runs, const std::byte* page, std::vector<std::byte>& out) {
  std::byte* to = encode_runs(runs, out);
  for (const DiffRun& run : runs) {
    nic::racy_copy(to, page + run.offset, run.bytes);
    to += run.bytes;
  }
}

void encode_packed_diff(std::span<const DiffRun> runs, std::span<const std::byte> bytes, std::vector<std::byte>& out) {
  std::byte* const to = encode_runs(runs, out);
  NETVM_CHECK(to + bytes.size() == out.data() + out.size(), "%zu bytes of changes at hand, and the runs say otherwise", bytes.size());
  if (!bytes.empty()) std::memcpy(to, bytes.data(), bytes.size());
}

std::size_t apply_diff(std::span<const std::byte> wire, std::byte* page, std::byte* twin, std::size_t page_bytes) {
  std::uint16_t count = 0;
  if (wire.size() < sizeof(count)) return 0;
  std::memcpy(&count, wire.data(), sizeof(count));
  const std::size_t header = sizeof(count) + std::size_t{count} * sizeof(WireRun);
  if (count > max_diff_runs(page_bytes) || wire.size() < header) return 0;
  const auto run_at = [&](std::size_t i) {
    WireRun run;
    std::memcpy(&run, wire.data() + sizeof(count) + i * sizeof(WireRun), sizeof(run));
    return DiffRun{run.offset, std::uint32_t{run.bytes_less_one} + 1};
  };
  std::size_t bytes = 0;
  std::size_t end = 0;  // of the run before: runs ascend and never touch
  for (std::size_t i = 0; i < count; ++i) {
    const DiffRun run = run_at(i);
    const bool apart = i == 0 || run.offset > end;
    end = std::size_t{run.offset} + run.bytes;
    if (!apart || end > page_bytes) return 0;
    bytes += run.bytes;
  }
  if (wire.size() - header < bytes) return 0;
  const std::byte* data = wire.data() + header;
  for (std::size_t i = 0; i < count; ++i) {
    const DiffRun run = run_at(i);
    nic::racy_copy(page + run.offset, data, run.bytes);
    if (twin != nullptr) nic::racy_copy(twin + run.offset, data, run.bytes);
    data += run.bytes;
  }
  return header + bytes;
}

}  // namespace netvm::dsm
