#include "dsm/allocator.hpp"

#include <doctest/doctest.h>

#include <map>

#include "runtime/random.hpp"

using namespace netvm;
using namespace netvm::dsm;

namespace {

constexpr PageRange kShared{PageId{16}, 4096};

AllocRequest asking(std::uint64_t bytes, std::uint64_t alignment = 16) {
  AllocRequest request;
  request.bytes = bytes;
  request.alignment = alignment;
  return request;
}

/// Frees and lets the retirement, if any, end at once.
Status free_now(Allocator& allocator, std::uint64_t offset) {
  const auto freed = allocator.free(offset);
  if (!freed) return freed.status();
  return freed->has_value() ? allocator.finish_retirement((*freed)->serial) : Status::ok;
}

}  // namespace

TEST_CASE("allocator: large objects get pages of their own, aligned as asked") {
  Allocator allocator(kShared);
  for (const std::uint64_t alignment : {16ULL, 4096ULL, 65536ULL, 1048576ULL}) {
    const auto a = allocator.allocate(asking(5000, alignment));
    REQUIRE(a.has_value());
    CHECK(a->offset % std::max<std::uint64_t>(alignment, kPageSize) == 0);
    CHECK(a->extent.pages.count == 2);
    CHECK_FALSE(a->extent.is_slab());
  }
}

TEST_CASE("allocator: small objects share pages with their kind only and never cross a page") {
  Allocator allocator(kShared);
  std::map<std::uint64_t, AllocRequest> page_of_kind;
  SplitMix64 random(3);
  for (int i = 0; i < 3000; ++i) {
    AllocRequest request = asking(1 + random.below(2048), std::uint64_t{1} << random.below(8));
    request.requester = static_cast<std::uint32_t>(random.below(2));
    request.protocol = static_cast<std::uint8_t>(random.below(2));
    request.placement = static_cast<Placement>(random.below(4));
    request.home = request.placement == Placement::at_node ? static_cast<std::uint32_t>(random.below(2)) : 0;
    const auto a = allocator.allocate(request);
    REQUIRE(a.has_value());
    REQUIRE(a->offset % request.alignment == 0);
    REQUIRE(a->offset / kPageSize == (a->offset + request.bytes - 1) / kPageSize);
    const auto [it, fresh] = page_of_kind.emplace(a->offset / kPageSize, request);
    REQUIRE(it->second.protocol == request.protocol);
    REQUIRE(it->second.placement == request.placement);
    REQUIRE(it->second.home == request.home);
    if (request.placement == Placement::first_touch) REQUIRE(it->second.requester == request.requester);
  }
}

TEST_CASE("allocator: what is allocated never overlaps; everything comes back and merges into one piece") {
  Allocator allocator(kShared);
  const std::uint64_t all = allocator.free_bytes();
  std::map<std::uint64_t, std::uint64_t> live;  // offset -> end
  SplitMix64 random(9);
  for (int i = 0; i < 20'000; ++i) {
    if (live.empty() || random.below(2) == 0) {
      const AllocRequest request = asking(1 + random.below(random.below(4) == 0 ? 200'000 : 3000), std::uint64_t{1} << random.below(15));
      const auto a = allocator.allocate(request);
      if (!a) {
        REQUIRE(a.status() == Status::exhausted);
        continue;
      }
      const auto next = live.lower_bound(a->offset);
      if (next != live.end()) REQUIRE(a->offset + request.bytes <= next->first);
      if (next != live.begin()) REQUIRE(std::prev(next)->second <= a->offset);
      live.emplace(a->offset, a->offset + request.bytes);
    } else {
      auto victim = live.begin();
      std::advance(victim, static_cast<std::ptrdiff_t>(random.below(std::min<std::size_t>(live.size(), 20))));
      REQUIRE(ok(free_now(allocator, victim->first)));
      live.erase(victim);
    }
  }
  for (const auto& [offset, end] : live) REQUIRE(ok(free_now(allocator, offset)));
  CHECK(allocator.free_bytes() == all);
  CHECK(allocator.largest_free_bytes() == all);
  CHECK(allocator.used_bytes() == 0);
}

TEST_CASE("allocator: pages of a freed extent are not handed out before its retirement has ended") {
  Allocator allocator({PageId{16}, 4});
  const auto a = allocator.allocate(asking(4 * kPageSize));
  REQUIRE(a.has_value());
  const auto freed = allocator.free(a->offset);
  REQUIRE(freed.has_value());
  REQUIRE(freed->has_value());
  CHECK(allocator.allocate(asking(kPageSize)).status() == Status::exhausted);
  CHECK(allocator.retiring());
  CHECK_FALSE(allocator.describe(PageId{16}).has_value());
  REQUIRE(ok(allocator.finish_retirement((*freed)->serial)));
  CHECK_FALSE(ok(allocator.finish_retirement((*freed)->serial)));
  const auto b = allocator.allocate(asking(4 * kPageSize));
  REQUIRE(b.has_value());
  CHECK(b->extent.serial != a->extent.serial);
}

TEST_CASE("allocator: a freed slot is not handed out again until its slab was retired") {
  Allocator allocator(kShared);
  const auto a = allocator.allocate(asking(64));
  const auto b = allocator.allocate(asking(64));
  REQUIRE(b.has_value());
  const auto freed = allocator.free(a->offset);
  REQUIRE(freed.has_value());
  CHECK_FALSE(freed->has_value());
  for (int i = 0; i < 500; ++i) CHECK(allocator.allocate(asking(64))->offset != a->offset);
}

TEST_CASE("allocator: what was not allocated cannot be freed") {
  Allocator allocator(kShared);
  const auto large = allocator.allocate(asking(3 * kPageSize));
  const auto small = allocator.allocate(asking(100));
  for (const std::uint64_t offset : {std::uint64_t{0}, large->offset + 8, large->offset + kPageSize, small->offset + 8, small->offset + 112,
                                     kShared.end() * kPageSize, std::uint64_t{1} << 60}) {
    CHECK(allocator.free(offset).status() == Status::invalid);
  }
  CHECK(ok(free_now(allocator, large->offset)));
  CHECK(allocator.free(large->offset).status() == Status::invalid);
  CHECK(ok(free_now(allocator, small->offset)));
  CHECK(allocator.free(small->offset).status() == Status::invalid);
}

TEST_CASE("allocator: bad requests are refused, exhaustion says how much was asked, what is left, and what to do") {
  Allocator allocator(kShared);
  CHECK(allocator.allocate(asking(0)).status() == Status::invalid);
  CHECK(allocator.allocate(asking(8, 3)).status() == Status::invalid);
  CHECK(allocator.allocate(asking(8, std::uint64_t{1} << 31)).status() == Status::invalid);
  CHECK(allocator.allocate(asking(UINT64_MAX)).status() == Status::exhausted);
  const AllocRequest request = asking(std::uint64_t{1} << 30);
  CHECK(allocator.allocate(request).status() == Status::exhausted);
  const std::string text = allocator.explain_exhaustion(request);
  for (const char* part : {"1 GiB", "16 MiB", "largest", "NETVM_ADDRESS_SPACE"}) CHECK_MESSAGE(text.find(part) != std::string::npos, text);
}

TEST_CASE("allocator: a page is described by the extent that owns it") {
  Allocator allocator(kShared);
  AllocRequest request = asking(3 * kPageSize);
  request.protocol = 1;
  request.placement = Placement::at_node;
  request.home = 1;
  const auto a = allocator.allocate(request);
  const PageId last{a->extent.pages.end() - 1};
  REQUIRE(allocator.describe(last).has_value());
  CHECK(*allocator.describe(last) == a->extent);
  CHECK(allocator.describe(last)->home == 1);
  CHECK_FALSE(allocator.describe(PageId{a->extent.pages.end()}).has_value());
  CHECK_FALSE(allocator.describe(PageId{0}).has_value());
}
