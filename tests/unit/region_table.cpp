// The region table: keys, ranges, rights, revocation.
#include "nic/region_table.hpp"

#include <doctest/doctest.h>

#include <memory>
#include <set>
#include <vector>

#include "nic/shadow_page_table.hpp"
#include "runtime/real_env.hpp"

using namespace netvm;
using namespace netvm::nic;

namespace {

struct Tables {
  RealEnv env{{0, false, 5}};
  std::vector<RegionEntry> entries{RegionTable::kEntries};
  std::unique_ptr<std::atomic<std::uint64_t>[]> words { new std::atomic<std::uint64_t>[ 1024 ]() };
  RegionTable regions{entries.data(), NodeId{2}};
  BasicShadowPageTable<CasPageLock> shadow{words.get(), 1024, CasPageLock(words.get())};

  Status find(const RemoteRegion& r, std::uint64_t offset, std::uint64_t bytes, Rights need, std::uint64_t* at = nullptr) {
    RegionTable::Grant grant;
    const Status status = regions.find(r.id, r.key, offset, bytes, need, &grant);
    if (ok(status) && at != nullptr) *at = grant.first_byte;
    return status;
  }
};

}  // namespace

TEST_CASE("a request needs the key, the range and the right, and is told which it lacks, in that order") {
  Tables t;
  RemoteRegion r = t.regions.create(t.env, {PageId{5}, 3}, Rights::read | Rights::atomic).value();
  CHECK(r.node == NodeId{2});
  CHECK(r.length == 3 * kPageSize);
  std::uint64_t at = 0;
  CHECK(t.find(r, 100, 8, Rights::read, &at) == Status::ok);
  CHECK(at == 5 * kPageSize + 100);
  CHECK(t.find(r, 0, r.length, Rights::read) == Status::ok);
  CHECK(t.find(r, r.length, 0, Rights::read) == Status::ok);
  CHECK(t.find(r, 0, 8, Rights::write) == Status::perm);
  CHECK(t.find(r, 0, 8, Rights::read | Rights::write) == Status::perm);
  RemoteRegion forged = r;
  forged.key ^= 1;
  CHECK(t.find(forged, ~std::uint64_t{0}, 8, Rights::write) == Status::key);
  forged.key = 0;
  CHECK(t.find(forged, 0, 8, Rights::read) == Status::key);
  forged = r;
  forged.id = RegionId{RegionTable::kEntries};
  CHECK(t.find(forged, 0, 8, Rights::read) == Status::key);
  forged.id = RegionId{~0U};
  CHECK(t.find(forged, 0, 8, Rights::read) == Status::key);
  forged.id = RegionId{r.id.value + 1};  // a free entry
  CHECK(t.find(forged, 0, 8, Rights::read) == Status::key);
}

TEST_CASE("pitfall 12: no offset and length that overflow get past the range") {
  Tables t;
  const RemoteRegion r = t.regions.create(t.env, {PageId{1}, 2}, Rights::all).value();
  const std::uint64_t big = ~std::uint64_t{0};
  for (const auto& [offset, bytes] : std::vector<std::pair<std::uint64_t, std::uint64_t>>{{r.length, 1},
                                                                                          {r.length - 7, 8},
                                                                                          {r.length + 1, 0},
                                                                                          {big, 8},
                                                                                          {big - 6, 8},
                                                                                          {8, big},
                                                                                          {8, big - 7},
                                                                                          {big, big},
                                                                                          {0, r.length + 1}}) {
    CHECK(t.find(r, offset, bytes, Rights::read) == Status::range);
  }
}

TEST_CASE("pitfall 12: keys differ, and a revoked one is refused as such, also when its entry lives on") {
  Tables t;
  std::set<std::uint64_t> keys;
  RemoteRegion old{};
  for (std::uint32_t i = 0; i < 2 * RegionTable::kEntries; ++i) {
    const RemoteRegion r = t.regions.create(t.env, {PageId{0}, 1}, Rights::all).value();
    CHECK(keys.insert(r.key).second);
    CHECK(t.find(r, 0, 8, Rights::read) == Status::ok);
    CHECK(t.regions.revoke(r, t.shadow) == Status::ok);
    CHECK(t.find(r, 0, 8, Rights::read) == Status::revoked);
    CHECK(t.regions.revoke(r, t.shadow) == Status::revoked);
    if (i == 0) old = r;
  }
  CHECK_FALSE(ok(t.find(old, 0, 8, Rights::read)));
}

TEST_CASE("a full table says so, and has room again after a revocation") {
  Tables t;
  std::vector<RemoteRegion> all;
  for (std::uint32_t i = 0; i < RegionTable::kEntries; ++i) all.push_back(t.regions.create(t.env, {PageId{i}, 1}, Rights::all).value());
  CHECK(t.regions.create(t.env, {PageId{0}, 1}, Rights::all).status() == Status::exhausted);
  CHECK(t.regions.revoke(all[100], t.shadow) == Status::ok);
  const RemoteRegion again = t.regions.create(t.env, {PageId{7}, 1}, Rights::all).value();
  CHECK(again.id == all[100].id);
  CHECK(again.key != all[100].key);
  CHECK(t.find(all[100], 0, 8, Rights::read) == Status::revoked);
  CHECK(t.find(all[99], 0, 8, Rights::read) == Status::ok);
}

TEST_CASE("a region of another node, or one that never was, cannot be revoked") {
  Tables t;
  RemoteRegion r = t.regions.create(t.env, {PageId{0}, 1}, Rights::all).value();
  RemoteRegion other = r;
  other.node = NodeId{1};
  CHECK(t.regions.revoke(other, t.shadow) == Status::key);
  other = r;
  other.key += 1;
  CHECK(t.regions.revoke(other, t.shadow) == Status::key);
  CHECK(t.find(r, 0, 8, Rights::read) == Status::ok);
}
