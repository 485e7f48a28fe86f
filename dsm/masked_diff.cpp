#include "dsm/masked_diff.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>

#include "dsm/masked_kernels.hpp"
#include "nic/racy_copy.hpp"
#include "runtime/check.hpp"

namespace netvm::dsm {

namespace detail {
namespace {

// Calls use(first, bytes) for the runs of a mask's bits.
template <class Use>
void each_run(std::uint64_t mask, Use&& use) {
  for (unsigned at = 0; mask != 0;) {
    const auto gap = static_cast<unsigned>(std::countr_zero(mask));
    mask >>= gap;
    at += gap;
    const auto bytes = static_cast<unsigned>(std::countr_one(mask));
    use(at, bytes);
    at += bytes;
    mask = bytes == 64 ? 0 : mask >> bytes;
  }
}

std::size_t count_bits(const std::uint64_t* masks, std::size_t count) {
  std::size_t bits = 0;
  for (std::size_t i = 0; i < count; ++i) bits += static_cast<std::size_t>(std::popcount(masks[i]));
  return bits;
}

std::byte* pack(const std::uint64_t* masks, std::size_t count, const std::byte* lines, std::byte* out) {
  for (std::size_t i = 0; i < count; ++i) {
    each_run(masks[i], [&](unsigned at, unsigned bytes) {
      nic::racy_copy(out, lines + i * kLineBytes + at, bytes);
      out += bytes;
    });
  }
  return out;
}

const std::byte* unpack(const std::uint64_t* masks, std::size_t count, const std::byte* in, std::byte* lines, std::byte* twin,
                        const std::uint64_t* except) {
  for (std::size_t i = 0; i < count; ++i) {
    const std::uint64_t left_alone = except == nullptr ? 0 : masks[i] & except[i];
    // Where the bytes of the line lie in `in`: one after the other, those that are left alone too.
    const auto place = [&](unsigned at) { return in + std::popcount(at == 0 ? std::uint64_t{0} : masks[i] << (64 - at)); };
    each_run(masks[i] & ~left_alone, [&](unsigned at, unsigned bytes) {
      nic::racy_copy(lines + i * kLineBytes + at, place(at), bytes);
      if (twin != nullptr) nic::racy_copy(twin + i * kLineBytes + at, place(at), bytes);
    });
    in += std::popcount(masks[i]);
  }
  return in;
}

}  // namespace

const MaskedCopies kPortableMaskedCopies{count_bits, pack, unpack};

}  // namespace detail

namespace {

const detail::MaskedCopies& copies_of(MaskedKernel kernel) {
#if defined(__x86_64__)
  if (kernel == MaskedKernel::avx512) return detail::kAvx512MaskedCopies;
#endif
  (void)kernel;
  return detail::kPortableMaskedCopies;
}

// The masks of one page in a wire buffer.
struct PageMasks {
  std::array<std::uint64_t, kPageLines> masks{};
  std::size_t wire_bytes = 0;  // that they take
};

// False if malformed.
bool read_masks(std::span<const std::byte> wire, PageMasks* out) {
  std::uint64_t lines = 0;
  if (wire.size() < sizeof lines) return false;
  std::memcpy(&lines, wire.data(), sizeof lines);
  out->masks.fill(0);
  std::size_t at = sizeof lines;
  for (; lines != 0; lines &= lines - 1) {
    if (wire.size() - at < sizeof(std::uint64_t)) return false;
    std::uint64_t& mask = out->masks[static_cast<std::size_t>(std::countr_zero(lines))];
    std::memcpy(&mask, wire.data() + at, sizeof mask);
    if (mask == 0) return false;
    at += sizeof mask;
  }
  out->wire_bytes = at;
  return true;
}

}  // namespace

bool masked_kernel_usable(MaskedKernel kernel) {
#if defined(__x86_64__) && !NETVM_TSAN  // which is to be told what nic/racy_copy.hpp tells it
  if (kernel == MaskedKernel::avx512) {
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vbmi2");
  }
#endif
  return kernel == MaskedKernel::portable;
}

MaskedKernel best_masked_kernel() {
  static const MaskedKernel best = masked_kernel_usable(MaskedKernel::avx512) ? MaskedKernel::avx512 : MaskedKernel::portable;
  return best;
}

std::size_t encode_masked(std::span<const std::uint64_t> masks, const std::byte* unit, std::vector<std::byte>& out, MaskedKernel kernel) {
  NETVM_CHECK(masks.size() % kPageLines == 0, "masks of %zu lines are no masks of whole pages", masks.size());
  const detail::MaskedCopies& copies = copies_of(kernel);
  const std::size_t before = out.size();
  // The most that it can be, and what pack() may write beyond.
  out.resize(before + masks.size() * (sizeof(std::uint64_t) + kLineBytes) + masks.size() / kPageLines * sizeof(std::uint64_t) + kLineBytes);
  std::byte* at = out.data() + before;
  std::size_t data = 0;
  for (std::size_t first = 0; first < masks.size(); first += kPageLines) {
    std::byte* const lines_at = at;
    at += sizeof(std::uint64_t);
    std::uint64_t lines = 0;
    for (std::size_t i = 0; i < kPageLines; ++i) {
      const std::uint64_t mask = masks[first + i];
      std::memcpy(at, &mask, sizeof mask);  // the next one's place, if it is 0
      at += mask != 0 ? sizeof mask : 0;
      lines |= std::uint64_t{mask != 0} << i;
    }
    std::memcpy(lines_at, &lines, sizeof lines);
    std::byte* const end = copies.pack(&masks[first], kPageLines, unit + first * kLineBytes, at);
    data += static_cast<std::size_t>(end - at);
    at = end;
  }
  out.resize(static_cast<std::size_t>(at - out.data()));
  return data;
}

std::size_t apply_masked(std::span<const std::byte> wire, std::byte* unit, std::byte* twin, std::size_t bytes,
                         std::span<const std::uint64_t> except, MaskedKernel kernel) {
  const std::size_t pages = bytes / kPageSize;
  NETVM_CHECK(except.empty() || except.size() == pages * kPageLines, "%zu lines of a unit of %zu pages are to be left alone", except.size(),
              pages);
  const detail::MaskedCopies& copies = copies_of(kernel);
  PageMasks page;
  const auto walk = [&](auto&& use) {
    std::size_t at = 0;
    for (std::size_t p = 0; p < pages; ++p) {
      if (!read_masks(wire.subspan(at), &page)) return std::size_t{0};
      at += page.wire_bytes;
      const std::size_t data = copies.count(page.masks.data(), kPageLines);
      if (wire.size() - at < data) return std::size_t{0};
      use(p, wire.data() + at);
      at += data;
    }
    return at;
  };
  const auto scatter = [&](std::size_t p, const std::byte* data) {
    std::byte* const twin_page = twin == nullptr ? nullptr : twin + p * kPageSize;
    copies.unpack(page.masks.data(), kPageLines, data, unit + p * kPageSize, twin_page, except.empty() ? nullptr : &except[p * kPageLines]);
  };
  // Of several pages the last may turn out to be malformed.
  if (pages > 1 && walk([](std::size_t, const std::byte*) {}) == 0) return 0;
  return walk(scatter);
}

std::size_t append_masked_segments(std::span<const std::byte> wire, std::size_t pages, std::uint64_t offset,
                                   std::vector<nic::Segment>& out) {
  std::size_t at = 0;
  std::size_t total = 0;
  PageMasks page;
  for (std::size_t p = 0; p < pages; ++p, offset += kPageSize) {
    NETVM_CHECK(read_masks(wire.subspan(at), &page), "a diff is shorter than it says");
    at += page.wire_bytes;
    const std::size_t mine = out.size();  // segments before are other pages'
    for (std::size_t i = 0; i < kPageLines; ++i) {
      detail::each_run(page.masks[i], [&](unsigned first, unsigned bytes) {
        const std::uint64_t to = offset + i * kLineBytes + first;
        if (out.size() != mine && out.back().offset + out.back().bytes == to) {
          out.back().bytes += bytes;
        } else {
          out.push_back({to, wire.data() + at, bytes});
        }
        at += bytes;
        total += bytes;
      });
    }
    NETVM_CHECK(at <= wire.size(), "a diff is shorter than it says");
  }
  return total;
}

}  // namespace netvm::dsm
