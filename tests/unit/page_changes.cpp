#include "dsm/page_changes.hpp"

#include <doctest/doctest.h>

#include <array>
#include <cstring>
#include <vector>

#include "runtime/random.hpp"

using namespace netvm;
using namespace netvm::dsm;

namespace {

using Page = std::array<std::byte, kPageSize>;

/// Writes at random, as a program does; adds what differs from before as a change.
void write_some(Page& page, PageChanges& changes, const ChangeTime& time, SplitMix64& random) {
  const Page before = page;
  for (std::uint64_t i = 1 + random.below(6); i > 0; --i) {
    const std::size_t at = random.below(kPageSize);
    const std::size_t bytes = 1 + random.below(std::min<std::size_t>(300, kPageSize - at));
    for (std::size_t b = 0; b < bytes; ++b) page[at + b] = static_cast<std::byte>(random.next());
  }
  std::vector<DiffRun> runs(kMaxDiffRuns);
  runs.resize(find_diff_runs(before.data(), page.data(), runs.data()));
  changes.add(time, runs, page.data());
}

void apply_all(std::span<const std::byte> wire, Page& page) {
  std::vector<ChangeView> views;
  REQUIRE(decode_changes(wire, NodeId{3}, views));
  CHECK(wire.empty());
  std::uint64_t ordinal = 0;
  for (const ChangeView& view : views) {
    CHECK(view.ordinal > ordinal);
    ordinal = view.ordinal;
    REQUIRE(apply_diff(view.diff, page.data(), nullptr) == view.diff.size());
  }
}

}  // namespace

TEST_CASE("page_changes: together they make the page, and never hold more than a page of bytes") {
  SplitMix64 random(11);
  Page page{};
  PageChanges changes;
  for (std::uint64_t i = 1; i <= 400; ++i) {
    write_some(page, changes, {i, i, i, false}, random);
    Page copy{};
    std::vector<std::byte> wire;
    changes.encode_all(0, wire);
    apply_all(wire, copy);
    REQUIRE(copy == page);
    CHECK(changes.bytes() < kPageSize * 8);  // runs and headers included
  }
  CHECK(changes.newest() == 400);
}

TEST_CASE("page_changes: who has some gets the rest, and nothing that began later than it knows") {
  SplitMix64 random(12);
  Page page{};
  PageChanges changes;
  std::vector<Page> at{page};
  for (std::uint64_t i = 1; i <= 30; ++i) {
    write_some(page, changes, {i, 2 * i, 2 * i + 1, false}, random);
    at.push_back(page);
  }
  for (std::uint64_t has = 0; has <= 30; ++has) {
    Page copy = at[has];
    std::vector<std::byte> wire;
    CHECK(changes.encode_told(has, 1000, wire) == 30);
    apply_all(wire, copy);
    CHECK(copy == page);
  }
  std::vector<std::byte> wire;
  CHECK(changes.encode_told(0, 1, wire) == 0);
  CHECK(changes.encode_told(0, 41, wire) == 20);
}

TEST_CASE("page_changes: open ones are told to nobody and not collected; a release covers them") {
  Page page{};
  PageChanges changes;
  const DiffRun first{0, 8};
  const DiffRun second{100, 8};
  changes.add({1, 4, 4, false}, {&first, 1}, page.data());
  changes.add({2, 0, 0, true}, {&second, 1}, page.data());
  std::vector<std::byte> wire;
  CHECK(changes.encode_told(0, 1000, wire) == 1);
  changes.drop_through(1000);
  wire.clear();
  CHECK(changes.encode_told(0, 1000, wire) == 0);
  changes.close_open(7);
  wire.clear();
  CHECK(changes.encode_told(0, 6, wire) == 0);
  CHECK(changes.encode_told(0, 7, wire) == 2);
  changes.drop_through(6);
  CHECK(changes.bytes() > 0);
  changes.drop_through(7);
  CHECK(changes.bytes() == 0);
}

TEST_CASE("page_changes: a change of nothing is none, and cut input is refused") {
  Page page{};
  PageChanges changes;
  changes.add({1, 1, 1, false}, {}, page.data());
  CHECK(changes.newest() == 0);
  const DiffRun run{5, 90};
  changes.add({1, 1, 1, false}, {&run, 1}, page.data());
  std::vector<std::byte> wire;
  changes.encode_all(0, wire);
  for (std::size_t cut = 0; cut + 1 < wire.size(); ++cut) {
    std::span<const std::byte> part = std::span<const std::byte>(wire).first(cut);
    std::vector<ChangeView> views;
    CHECK_FALSE(decode_changes(part, NodeId{0}, views));
  }
}
