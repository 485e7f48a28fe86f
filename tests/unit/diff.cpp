#include "dsm/diff.hpp"

#include <doctest/doctest.h>

#include <array>
#include <cstring>
#include <string>

#include "runtime/random.hpp"

using namespace netvm;
using namespace netvm::dsm;

namespace {

using Page = std::array<std::byte, kPageSize>;
using Runs = std::vector<DiffRun>;

/// Byte by byte: what a diff is by definition.
Runs by_definition(const Page& twin, const Page& page) {
  Runs runs;
  for (std::size_t i = 0; i < kPageSize; ++i) {
    if (twin[i] == page[i]) continue;
    if (!runs.empty() && std::size_t{runs.back().offset} + runs.back().bytes == i) {
      ++runs.back().bytes;
    } else {
      runs.push_back({static_cast<std::uint32_t>(i), 1});
    }
  }
  return runs;
}

Runs by_kernel(DiffKernel kernel, const Page& twin, const Page& page) {
  Runs runs(kMaxDiffRuns);
  runs.resize(find_diff_runs(kernel, twin.data(), page.data(), runs.data()));
  return runs;
}

void check_all_kernels(const Page& twin, const Page& page) {
  const Runs expected = by_definition(twin, page);
  for (const DiffKernel kernel : {DiffKernel::portable, DiffKernel::avx2, DiffKernel::avx512}) {
    if (!diff_kernel_usable(kernel)) continue;
    const bool same = by_kernel(kernel, twin, page) == expected;
    CHECK_MESSAGE(same, "kernel " << static_cast<int>(kernel) << ", " << expected.size() << " runs");
  }
}

Page random_page(SplitMix64& random) {
  Page page;
  for (std::byte& b : page) b = static_cast<std::byte>(random.next());
  return page;
}

}  // namespace

TEST_CASE("diff: all kernels find the runs of the definition, at every density of changes") {
  SplitMix64 random(7);
  for (const std::uint64_t one_in : {1, 2, 3, 8, 50, 500, 5000}) {
    for (int round = 0; round < 20; ++round) {
      const Page twin = random_page(random);
      Page page = twin;
      for (std::byte& b : page) {
        if (random.below(one_in) == 0) b ^= static_cast<std::byte>(1 + random.below(255));
      }
      check_all_kernels(twin, page);
    }
  }
}

TEST_CASE("diff: runs of every length at every offset around a vector's edges") {
  const Page twin{};
  for (std::size_t offset = 0; offset < 200; ++offset) {
    for (const std::size_t length : {1, 2, 7, 31, 32, 33, 63, 64, 65, 127, 128, 129, 200}) {
      Page page = twin;
      std::memset(page.data() + offset, 0x5a, length);
      const Runs expected{{static_cast<std::uint16_t>(offset), static_cast<std::uint16_t>(length)}};
      CHECK(by_kernel(DiffKernel::portable, twin, page) == expected);
      check_all_kernels(twin, page);
    }
  }
}

TEST_CASE("diff: nothing, everything, every second byte, the last byte") {
  const Page twin{};
  Page page = twin;
  check_all_kernels(twin, page);
  CHECK(by_definition(twin, page).empty());
  std::memset(page.data(), 1, kPageSize);
  check_all_kernels(twin, page);
  CHECK(by_kernel(best_diff_kernel(), twin, page) == Runs{{0, kPageSize}});
  page = twin;
  for (std::size_t i = 0; i < kPageSize; i += 2) page[i] = std::byte{1};
  check_all_kernels(twin, page);
  CHECK(by_kernel(best_diff_kernel(), twin, page).size() == kMaxDiffRuns);
  page = twin;
  page[kPageSize - 1] = std::byte{1};
  check_all_kernels(twin, page);
}

TEST_CASE("diff: an encoded diff carries the changes to page and twin, and no other byte") {
  SplitMix64 random(11);
  for (int round = 0; round < 50; ++round) {
    const Page twin = random_page(random);
    Page page = twin;
    for (std::byte& b : page) {
      if (random.below(20) == 0) b = static_cast<std::byte>(random.next());
    }
    const Runs runs = by_kernel(best_diff_kernel(), twin, page);
    std::vector<std::byte> wire;
    encode_diff(runs, page.data(), wire);
    // The receiver's copy differs everywhere: only the changed bytes may come to equal the sender's.
    Page target;
    for (std::size_t i = 0; i < kPageSize; ++i) target[i] = ~page[i];
    Page target_twin = target;
    const Page before = target;
    CHECK(apply_diff(wire, target.data(), target_twin.data()) == wire.size());
    CHECK(target == target_twin);
    bool exact = true;
    for (std::size_t i = 0; i < kPageSize; ++i) exact = exact && target[i] == (twin[i] == page[i] ? before[i] : page[i]);
    CHECK(exact);
  }
}

TEST_CASE("diff: malformed input is refused before anything is written") {
  Page twin{};
  Page page{};
  page[10] = std::byte{1};
  page[4000] = std::byte{2};
  std::vector<std::byte> wire;
  encode_diff(by_kernel(DiffKernel::portable, twin, page), page.data(), wire);
  Page target{};
  for (std::size_t cut = 0; cut < wire.size(); ++cut) CHECK(apply_diff(std::span(wire).first(cut), target.data(), nullptr) == 0);
  const auto with = [&](std::size_t at, std::uint16_t value) {
    std::vector<std::byte> changed = wire;
    std::memcpy(changed.data() + at, &value, sizeof(value));
    return apply_diff(changed, target.data(), nullptr);
  };
  CHECK(with(0, 5000) == 0);  // more runs than a page has
  CHECK(with(2, 4096) == 0);  // a run behind the page
  CHECK(with(4, 4090) == 0);  // a run over the page's end
  CHECK(with(4, 4095) == 0);  // a run of a whole page that begins behind its start
  CHECK(with(6, 5) == 0);     // runs that do not ascend
  CHECK(target == Page{});
}

TEST_CASE("diff: of a coherence unit of several pages, runs go on over the borders of its pages") {
  SplitMix64 random(23);
  for (const std::size_t pages : {2, 4, 16}) {
    const std::size_t bytes = pages * kPageSize;
    for (const std::uint64_t one_in : {1, 2, 40, 4000}) {
      std::vector<std::byte> twin(bytes);
      for (std::byte& b : twin) b = static_cast<std::byte>(random.next());
      std::vector<std::byte> page = twin;
      Runs expected;
      for (std::size_t i = 0; i < bytes; ++i) {
        if (random.below(one_in) != 0 && i % kPageSize > 3 && i % kPageSize < kPageSize - 3) continue;
        page[i] = ~page[i];
        if (!expected.empty() && expected.back().offset + expected.back().bytes == i) {
          ++expected.back().bytes;
        } else {
          expected.push_back({static_cast<std::uint32_t>(i), 1});
        }
      }
      for (const DiffKernel kernel : {DiffKernel::portable, DiffKernel::avx2, DiffKernel::avx512}) {
        if (!diff_kernel_usable(kernel)) continue;
        Runs runs(max_diff_runs(bytes));
        runs.resize(find_diff_runs(kernel, twin.data(), page.data(), runs.data(), bytes));
        CHECK(runs == expected);
      }
      std::vector<std::byte> wire;
      encode_diff(expected, page.data(), wire);
      std::vector<std::byte> target = twin;
      CHECK(apply_diff(wire, target.data(), nullptr, bytes / 2) == 0);  // a receiver whose unit is smaller
      CHECK(target == twin);
      CHECK(apply_diff(wire, target.data(), nullptr, bytes) == wire.size());
      CHECK(target == page);
    }
  }
}
