// BoundData: ranges, blocks, versions. PageVersions beside it: the same idea for pages.
#include "dsm/bindings.hpp"

#include <doctest/doctest.h>

#include <cstring>
#include <numeric>

#include "dsm/page_versions.hpp"
#include "runtime/random.hpp"

namespace netvm::dsm {
namespace {

std::uint64_t bound_bytes(const BoundData& data) {
  std::uint64_t sum = 0;
  for (std::uint32_t block = 0; block < data.blocks(); ++block) sum += data.place(block).bytes;
  return sum;
}

TEST_CASE("blocks cover each range exactly, and none lies across a multiple of the block size") {
  SplitMix64 random(7);
  for (int round = 0; round < 200; ++round) {
    BoundData data;
    std::vector<bool> bound(3 * kPageSize, false);
    for (int i = 0; i < 5; ++i) {
      const BoundRange range{random.below(2 * kPageSize), 1 + random.below(kPageSize)};
      data.bind(range);
      std::fill_n(bound.begin() + static_cast<std::ptrdiff_t>(range.offset), range.bytes, true);
    }
    std::vector<bool> covered(3 * kPageSize, false);
    for (std::uint32_t block = 0; block < data.blocks(); ++block) {
      const BoundRange where = data.place(block);
      REQUIRE(where.bytes > 0);
      CHECK(where.offset / BoundData::kBlock == (where.offset + where.bytes - 1) / BoundData::kBlock);
      for (std::uint64_t b = where.offset; b < where.offset + where.bytes; ++b) {
        CHECK_FALSE(covered[b]);
        covered[b] = true;
      }
    }
    CHECK(covered == bound);
    std::uint32_t in_pieces = 0;
    for (const BoundData::Piece& piece : data.pieces()) {
      for (std::uint32_t block = piece.first; block != piece.last; ++block, ++in_pieces) {
        CHECK(data.place(block).offset / kPageSize == piece.page.value);
      }
    }
    CHECK(in_pieces == data.blocks());
  }
}

TEST_CASE("what is bound again adds nothing; what laps over adds the rest") {
  BoundData data;
  data.bind({100, 50});
  data.bind({100, 50});
  data.bind({120, 10});
  CHECK(bound_bytes(data) == 50);
  data.bind({90, 100});
  CHECK(bound_bytes(data) == 100);
  data.bind({0, 0});
  CHECK(bound_bytes(data) == 100);
}

TEST_CASE("versions: what changed after one, and nothing once it is forgotten") {
  BoundData data;
  data.bind({0, 256});
  data.set_version(2, 1);
  data.set_version(0, 3);
  data.set_version(2, 5);
  CHECK(data.changed_after(0) == std::vector<std::uint32_t>{0, 2});
  CHECK(data.changed_after(3) == std::vector<std::uint32_t>{2});
  CHECK(data.changed_after(5).empty());
  data.forget();
  CHECK(data.changed_after(0).empty());
  CHECK(data.version(2) == 0);
}

TEST_CASE("taking bytes out leaves what is known of the others") {
  BoundData data;
  data.bind({1000, 200});  // blocks at 1000, 1024, 1088, 1152
  std::vector<std::byte> bytes(200);
  for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<std::byte>(i);
  data.note({1000, 24}, bytes.data(), 4);
  data.note({1024, 64}, bytes.data() + 24, 5);
  data.note({1152, 48}, bytes.data() + 152, 6);
  data.unbind({1030, 70});
  CHECK(bound_bytes(data) == 130);
  std::uint64_t known = 0;
  for (const std::uint32_t block : data.changed_after(0)) {
    const BoundRange where = data.place(block);
    CHECK(std::memcmp(data.image(block), bytes.data() + (where.offset - 1000), where.bytes) == 0);
    known += where.bytes;
  }
  CHECK(known == 24 + 6 + 48);
  data.unbind({0, 5000});
  CHECK(data.empty());
  CHECK(data.blocks() == 0);
}

TEST_CASE("what is early outlives the epoch, and its order stays") {
  BoundData data;
  data.bind({0, 256});
  data.set_version(0, 1);
  data.set_version(1, 2, true);
  data.set_version(2, 3);
  data.set_version(3, 4, true);
  data.unbind({0, 64});  // numbers change, what is known of the others does not
  CHECK(data.is_early(0));
  CHECK_FALSE(data.is_early(1));
  data.pass();
  CHECK(data.changed_after(0) == std::vector<std::uint32_t>{0, 2});
  CHECK(data.changed_after(2) == std::vector<std::uint32_t>{2});
  CHECK_FALSE(data.is_early(2));
  data.pass();
  CHECK(data.changed_after(0).empty());
}

TEST_CASE("what is early no more does not outlive the epoch") {
  BoundData data;
  data.bind({0, 256});
  data.set_version(0, 1);
  data.set_version(1, 2, true);
  data.set_version(3, 3, true);
  const std::vector<BoundRange> were = data.end_early();
  REQUIRE(were.size() == 2);
  CHECK(were[0].offset + were[1].offset == 64 + 192);
  CHECK(data.changed_after(1) == std::vector<std::uint32_t>{1, 3});
  data.pass();
  CHECK(data.changed_after(0).empty());
}

TEST_CASE("page versions: each page once, with its last version") {
  PageVersions pages;
  pages.note(PageId{5}, 1);
  pages.note(PageId{3}, 1);
  pages.note(PageId{5}, 2);
  pages.note(PageId{5}, 1);  // older than what is known
  CHECK(pages.size() == 2);
  std::vector<std::pair<std::uint64_t, std::uint64_t>> seen;
  pages.each_after(0, [&](std::uint64_t version, const std::vector<PageId>& of) {
    for (const PageId page : of) seen.emplace_back(version, page.value);
  });
  CHECK(seen == std::vector<std::pair<std::uint64_t, std::uint64_t>>{{1, 3}, {2, 5}});
  pages.each_after(2, [](std::uint64_t, const std::vector<PageId>&) { FAIL("nothing is newer"); });
  CHECK(pages.pages() == std::vector<PageId>{PageId{3}, PageId{5}});
  pages.clear();
  CHECK(pages.size() == 0);
}

}  // namespace
}  // namespace netvm::dsm
