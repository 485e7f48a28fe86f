// Masked diffs against their definition: every kernel, units of one page and of several, bytes that stay, malformed input.
#include "dsm/masked_diff.hpp"

#include <doctest/doctest.h>

#include <cstring>
#include <vector>

#include "dsm/diff.hpp"
#include "runtime/random.hpp"

using namespace netvm;
using namespace netvm::dsm;

namespace {

using Bytes = std::vector<std::byte>;
using Masks = std::vector<std::uint64_t>;

struct Unit {
  Bytes twin;
  Bytes page;
  Masks masks;
};

Bytes random_bytes(SplitMix64& random, std::size_t count) {
  Bytes bytes(count);
  for (std::byte& b : bytes) b = static_cast<std::byte>(random.next());
  return bytes;
}

Unit make_unit(SplitMix64& random, std::size_t pages, std::uint64_t one_in) {
  Unit unit{random_bytes(random, pages * kPageSize), {}, Masks(pages * kPageLines)};
  unit.page = unit.twin;
  for (std::byte& b : unit.page) {
    if (random.below(one_in) == 0) b ^= static_cast<std::byte>(1 + random.below(255));
  }
  find_diff_masks(unit.twin.data(), unit.page.data(), unit.masks.data(), unit.page.size());
  return unit;
}

bool is_set(const Masks& masks, std::size_t byte) { return (masks[byte / 64] >> (byte % 64) & 1) != 0; }

std::vector<MaskedKernel> kernels() {
  std::vector<MaskedKernel> usable{MaskedKernel::portable};
  if (masked_kernel_usable(MaskedKernel::avx512)) usable.push_back(MaskedKernel::avx512);
  return usable;
}

}  // namespace

TEST_CASE(
    "masked diff: the masks are the bytes that differ; all kernels send the same and take it alike, whatever they are told to leave "
    "alone") {
  SplitMix64 random(3);
  for (const std::size_t pages : {1, 2, 4}) {
    for (const std::uint64_t one_in : {1, 2, 3, 8, 50, 5000}) {
      const Unit unit = make_unit(random, pages, one_in);
      std::size_t changed = 0;
      bool right = true;
      for (std::size_t i = 0; i < unit.page.size(); ++i) {
        changed += unit.page[i] != unit.twin[i] ? 1 : 0;
        right = right && is_set(unit.masks, i) == (unit.page[i] != unit.twin[i]);
      }
      CHECK(right);
      Bytes wire;
      CHECK(encode_masked(unit.masks, unit.page.data(), wire, MaskedKernel::portable) == changed);
      Masks except(unit.masks.size());
      for (std::uint64_t& mask : except) mask = random.below(3) == 0 ? random.next() & random.next() : 0;
      const Bytes before = random_bytes(random, unit.page.size());
      for (const MaskedKernel kernel : kernels()) {
        Bytes again(5, std::byte{9});  // appended, not in place
        CHECK(encode_masked(unit.masks, unit.page.data(), again, kernel) == changed);
        CHECK(std::vector(again.begin() + 5, again.end()) == wire);
        Bytes target = before;
        Bytes twin = before;
        wire.resize(wire.size() + 3);  // what comes behind is somebody else's
        CHECK(apply_masked(wire, target.data(), twin.data(), target.size(), except, kernel) == wire.size() - 3);
        wire.resize(wire.size() - 3);
        CHECK(target == twin);
        bool exact = true;
        for (std::size_t i = 0; i < target.size(); ++i) {
          const bool written = is_set(unit.masks, i) && !is_set(except, i);
          exact = exact && target[i] == (written ? unit.page[i] : before[i]);
        }
        CHECK(exact);
      }
    }
  }
}

TEST_CASE("masked diff: as segments of a vectored write it gives the same bytes, each run once, none across pages") {
  SplitMix64 random(5);
  for (const std::uint64_t one_in : {1, 2, 30, 3000}) {
    const Unit unit = make_unit(random, 2, one_in);
    Bytes wire;
    const std::size_t changed = encode_masked(unit.masks, unit.page.data(), wire);
    std::vector<nic::Segment> segments;
    CHECK(append_masked_segments(wire, 2, kPageSize, segments) == changed);
    Bytes target = unit.twin;
    std::uint64_t end = 0;
    bool apart = true;
    for (const nic::Segment& segment : segments) {
      const std::uint64_t at = segment.offset - kPageSize;
      apart = apart && (at > end || at % kPageSize == 0) && at / kPageSize == (at + segment.bytes - 1) / kPageSize;
      end = at + segment.bytes;
      std::memcpy(target.data() + at, segment.data, segment.bytes);
    }
    CHECK(apart);
    CHECK(target == unit.page);
  }
}

TEST_CASE("masked diff: malformed input is refused before anything is written") {
  SplitMix64 random(9);
  const Unit unit = make_unit(random, 2, 40);
  Bytes wire;
  (void)encode_masked(unit.masks, unit.page.data(), wire);
  for (const MaskedKernel kernel : kernels()) {
    Bytes target(unit.page.size());
    const Bytes zeros = target;
    for (std::size_t cut = 0; cut < wire.size(); cut += 7) {
      // Of exactly that size on the heap: an access behind it is seen by AddressSanitizer.
      const Bytes less(wire.begin(), wire.begin() + static_cast<std::ptrdiff_t>(cut));
      CHECK(apply_masked(less, target.data(), nullptr, target.size(), {}, kernel) == 0);
    }
    Bytes no_mask = wire;
    std::memset(no_mask.data() + 8, 0, 8);  // of the first line that has changes
    CHECK(apply_masked(no_mask, target.data(), nullptr, target.size(), {}, kernel) == 0);
    CHECK(target == zeros);
  }
}
