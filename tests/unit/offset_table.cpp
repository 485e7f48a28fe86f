// The index of what a node knows of synchronisation objects: sync/offset_table.hpp.
#include "sync/offset_table.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <thread>
#include <vector>

#include "runtime/random.hpp"

namespace netvm::sync {
namespace {

struct Thing {
  std::uint64_t offset = 0;
  std::atomic<Thing*> chained{nullptr};
};

struct Things {
  StateBlocks<Thing> blocks;
  OffsetTable<Thing> table;
  Thing& at(std::uint64_t offset) {
    return table.at(offset, [this]() -> Thing& { return blocks.make(); });
  }
};

// As programs lay them out: side by side, one a page, the two things of one address, and anywhere.
std::vector<std::uint64_t> some_offsets(std::uint64_t count) {
  std::vector<std::uint64_t> offsets;
  SplitMix64 random(1);
  for (std::uint64_t i = 0; i < count; ++i) {
    offsets.push_back(8 * i);
    offsets.push_back(4096 * (count + i));
    offsets.push_back((std::uint64_t{1} << 63) + 8 * i);
    offsets.push_back((std::uint64_t{1} << 40) + 8 * i * i);
    offsets.push_back((std::uint64_t{1} << 50) + random.next() % (std::uint64_t{1} << 50));
  }
  std::ranges::sort(offsets);
  offsets.erase(std::unique(offsets.begin(), offsets.end()), offsets.end());
  return offsets;
}

std::vector<std::uint64_t> offsets_of(const std::vector<Thing*>& things) {
  std::vector<std::uint64_t> offsets;
  offsets.reserve(things.size());
  for (const Thing* const thing : things) offsets.push_back(thing->offset);
  return offsets;
}

}  // namespace

TEST_CASE("offset table: whatever was entered is found, and is the same from then on; nothing else is") {
  Things things;
  const std::vector<std::uint64_t> offsets = some_offsets(2000);
  std::vector<Thing*> entered;
  for (std::size_t i = 0; i < offsets.size(); ++i) {
    CHECK(things.table.find(offsets[i]) == nullptr);
    entered.push_back(&things.at(offsets[i]));
    CHECK(things.table.size() == i + 1);
    const std::size_t before = i / 2;  // through all doublings
    CHECK(things.table.find(offsets[before]) == entered[before]);
  }
  for (std::size_t i = 0; i < offsets.size(); ++i) {
    CHECK(things.table.find(offsets[i]) == entered[i]);
    CHECK(&things.at(offsets[i]) == entered[i]);
    CHECK(things.table.find(offsets[i] + 1) == nullptr);
  }
}

TEST_CASE("offset table: the order of all follows from the offsets alone") {
  std::vector<std::uint64_t> offsets = some_offsets(500);
  Things rising;
  for (const std::uint64_t offset : offsets) (void)rising.at(offset);
  Things falling;
  for (std::size_t i = offsets.size(); i-- > 0;) (void)falling.at(offsets[i]);
  std::vector<std::uint64_t> all = offsets_of(rising.table.all());
  CHECK(all == offsets_of(falling.table.all()));
  std::ranges::sort(all);
  CHECK(all == offsets);
}

TEST_CASE("offset table: who was told of a thing finds it, while others are entered") {
  Things things;
  const std::vector<std::uint64_t> offsets = some_offsets(1000);
  std::atomic<std::size_t> told{0};
  std::atomic<std::uint64_t> missed{0};
  const auto look = [&](std::size_t step) {
    for (std::size_t known = 0; known < offsets.size();) {
      known = told.load(std::memory_order_acquire);  // acquire: partner is the release below
      for (std::size_t i = 0; i < known; i += step) {
        const Thing* const found = things.table.find(offsets[i]);
        if (found == nullptr || found->offset != offsets[i]) missed.fetch_add(1);
      }
      if (known != 0 && things.table.find(offsets[known - 1]) == nullptr) missed.fetch_add(1);
    }
  };
  std::thread one(look, 97);
  std::thread other(look, 61);
  for (std::size_t i = 0; i < offsets.size(); ++i) {
    (void)things.at(offsets[i]);
    told.store(i + 1, std::memory_order_release);  // release: partner is look()
  }
  one.join();
  other.join();
  CHECK(missed.load() == 0);
}

}  // namespace netvm::sync
