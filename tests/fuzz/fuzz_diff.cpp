// dsm/diff: all kernels find the same runs; what they find, applied to the twin, gives the page; malformed diffs change nothing.
#include <algorithm>
#include <array>
#include <cstring>
#include <vector>

#include "dsm/diff.hpp"
#include "tests/fuzz/fuzz.hpp"

using namespace netvm;
using namespace netvm::dsm;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  // The input says which bytes change: pairs (distance to the next change, new value), from the front of the page.
  static std::array<std::byte, kPageSize> twin;
  std::array<std::byte, kPageSize> page = twin;
  std::size_t at = 0;
  for (std::size_t i = 0; i + 1 < size && at < kPageSize; i += 2) {
    page[at] = static_cast<std::byte>(data[i + 1]);
    at += data[i] + std::size_t{1};
  }
  std::array<DiffRun, kMaxDiffRuns> expected{};
  const std::size_t count = find_diff_runs(DiffKernel::portable, twin.data(), page.data(), expected.data());
  for (const DiffKernel kernel : {DiffKernel::avx2, DiffKernel::avx512}) {
    if (!diff_kernel_usable(kernel)) continue;
    std::array<DiffRun, kMaxDiffRuns> runs{};
    FUZZ_REQUIRE(find_diff_runs(kernel, twin.data(), page.data(), runs.data()) == count);
    FUZZ_REQUIRE(std::equal(runs.begin(), runs.begin() + static_cast<std::ptrdiff_t>(count), expected.begin()));
  }
  std::vector<std::byte> wire;
  encode_diff(std::span(expected).first(count), page.data(), wire);
  std::array<std::byte, kPageSize> target = twin;
  FUZZ_REQUIRE(apply_diff(wire, target.data(), nullptr) == wire.size());
  FUZZ_REQUIRE(target == page);

  // The input as somebody else's diff.
  target = twin;
  if (apply_diff(fuzz_bytes(data, size), target.data(), nullptr) == 0) FUZZ_REQUIRE(target == twin);
  return 0;
}
