// Held memory: sources and landing places that lie in the node's own frames, under a memory budget.
#include "nic/held_memory.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstring>
#include <memory>
#include <vector>

#include "runtime/real_env.hpp"
#include "runtime/sanitizers.hpp"
#include "tests/support/frame_check.hpp"
#include "tests/support/nic_paging.hpp"

using namespace netvm;
using namespace netvm::nic;
using netvm::test::NicWorld;
using netvm::test::NicWorldOptions;
using netvm::test::on_every_paging_world;
using netvm::test::Paging;

namespace {

const std::atomic<bool> kGoesOn{false};
#if NETVM_TSAN
constexpr std::uintptr_t kBase = 0x0010'0000'0000;  // where ThreadSanitizer leaves room
#else
constexpr std::uintptr_t kBase = 0x2345'0000'0000;
#endif

struct Host {
  explicit Host(std::uint64_t budget, std::uintptr_t base = kBase) : env({.seed = 1}), store(std::make_shared<test::TestStore>()) {
    HostVmConfig config;
    config.pages = 64;
    config.base = base;
    config.budget_pages = budget;
    config.store = budget != 0 ? store : nullptr;
    config.check_frames = test::frames_are_checked();
    std::string why;
    vm = HostVm::create(config, env, &why).value();
  }
  RealEnv env;
  std::shared_ptr<test::TestStore> store;
  std::unique_ptr<HostVm> vm;
};

std::vector<std::byte> bytes_of(std::size_t count, unsigned salt) {
  std::vector<std::byte> out(count);
  for (std::size_t i = 0; i < count; ++i) out[i] = static_cast<std::byte>(i * 53 + i / 199 + salt);
  return out;
}

/// Fills a node's own memory as its program would.
void fill(HostVm& vm, std::uint64_t offset, const std::vector<std::byte>& data) {
  for (std::size_t done = 0; done < data.size();) {
    const std::size_t n = std::min(data.size() - done, kPageSize - (offset + done) % kPageSize);
    const auto pins = vm.pin({PageId{(offset + done) / kPageSize}, 1}, true);
    REQUIRE(pins.has_value());
    std::memcpy(vm.frame_base() + offset + done, data.data() + done, n);
    done += n;
  }
}

bool holds(HostVm& vm, std::uint64_t offset, const std::vector<std::byte>& data) {
  for (std::size_t done = 0; done < data.size();) {
    const std::size_t n = std::min(data.size() - done, kPageSize - (offset + done) % kPageSize);
    const auto pins = vm.pin({PageId{(offset + done) / kPageSize}, 1}, false);
    if (!pins || std::memcmp(vm.frame_base() + offset + done, data.data() + done, n) != 0) return false;
    done += n;
  }
  return true;
}

}  // namespace

TEST_CASE("memory is this node's own through either view, and only under a budget") {
  Host budget(32), none(0, 2 * kBase);
  CHECK_FALSE(OwnMemory(*none.vm, kGoesOn).covers(none.vm->frame_base()));
  CHECK_FALSE(OwnMemory(*none.vm, kGoesOn).covers(none.vm->app_base()));
  const OwnMemory own(*budget.vm, kGoesOn);
  const std::uint64_t bytes = budget.vm->bytes();
  std::byte on_stack{};
  CHECK_FALSE(own.covers(&on_stack));
  CHECK_FALSE(own.covers(nullptr));
  CHECK(own.covers(budget.vm->frame_base()));
  CHECK(own.covers(budget.vm->frame_base() + bytes - 1));
  CHECK_FALSE(own.covers(budget.vm->frame_base() + bytes));
  CHECK(own.covers(budget.vm->app_base() + 5));
  CHECK_FALSE(own.covers(budget.vm->app_base() + bytes));
  CHECK(own.offset_of(budget.vm->app_base() + 5000) == 5000);
  CHECK(own.offset_of(budget.vm->frame_base() + 5000) == 5000);
}

TEST_CASE("own memory is pinned and reached through the frame view; private memory is left alone") {
  Host host(32);
  const OwnMemory own(*host.vm, kGoesOn);
  const std::vector<std::byte> data = bytes_of(3 * kPageSize, 1);
  fill(*host.vm, 100, data);
  CHECK(host.vm->evict(64) > 0);
  {
    const HeldMemory held(own, host.vm->app_base() + 100, data.size(), HeldMemory::As::source);
    CHECK(ok(held.status()));
    CHECK(held.pinned());
    CHECK(held.at() == host.vm->frame_base() + 100);
    (void)host.vm->evict(64);
    CHECK(std::memcmp(held.at(), data.data(), data.size()) == 0);
  }
  (void)host.vm->evict(64);
  CHECK(host.vm->resident_pages() == 0);
  const HeldMemory plain(own, data.data(), data.size(), HeldMemory::As::source);
  CHECK(plain.is_private());
  CHECK(plain.at() == data.data());
  const HeldMemory beyond(own, host.vm->frame_base() + host.vm->bytes() - 8, 9, HeldMemory::As::source);
  CHECK(beyond.status() == Status::range);
}

TEST_CASE("what is too large a part of the budget to be pinned is staged: a source before, a landing place after") {
  Host host(16);
  const OwnMemory own(*host.vm, kGoesOn);
  const std::vector<std::byte> data = bytes_of(20 * kPageSize + 77, 2);
  fill(*host.vm, 4000, data);
  {
    const HeldMemory source(own, host.vm->frame_base() + 4000, data.size(), HeldMemory::As::source);
    CHECK(ok(source.status()));
    CHECK_FALSE(source.is_private());
    CHECK(std::memcmp(source.at(), data.data(), data.size()) == 0);
  }
  const std::vector<std::byte> other = bytes_of(data.size(), 3);
  {
    HeldMemory landing(own, host.vm->frame_base() + 4000, data.size(), HeldMemory::As::landing);
    REQUIRE(ok(landing.status()));
    std::memcpy(landing.at(), other.data(), other.size());
    CHECK(holds(*host.vm, 4000, data));  // not before it has ended
    CHECK(landing.finish(Status::cancelled) == Status::cancelled);
    CHECK(holds(*host.vm, 4000, data));
    CHECK(ok(landing.finish(Status::ok)));
  }
  CHECK(holds(*host.vm, 4000, other));
  CHECK(HeldMemory(own, host.vm->frame_base(), data.size(), HeldMemory::As::landing_later).status() == Status::exhausted);
}

TEST_CASE("pieces of a vector are held where they lie in own memory; a page of many pieces once") {
  Host host(32);
  const OwnMemory own(*host.vm, kGoesOn);
  const std::vector<std::byte> data = bytes_of(2 * kPageSize, 4);
  fill(*host.vm, 0, data);
  (void)host.vm->evict(64);
  const std::vector<std::byte> outside = bytes_of(50, 5);
  std::vector<Segment> segments;
  for (std::uint32_t i = 0; i < 20; ++i) segments.push_back({i, host.vm->app_base() + i * 300, 100});
  segments.push_back({1000, outside.data(), 50});
  segments.push_back({2000, nullptr, 0});
  const HeldSegments held(own, segments);
  REQUIRE(ok(held.status()));
  REQUIRE(held.segments().size() == segments.size());
  for (std::uint32_t i = 0; i < 20; ++i) CHECK(std::memcmp(held.segments()[i].data, data.data() + i * 300, 100) == 0);
  CHECK(held.segments()[20].data == outside.data());
}

TEST_CASE("pitfall 6: sources and landing places that were evicted, at both ends, in both directions at once") {
  NicWorldOptions options;
  options.budget_pages = 16;
  on_every_paging_world(options, [](NicWorld& world, Paging&) {
    const std::array<RemoteRegion, 2> regions{world.whole(0), world.whole(1)};
    // Each node's memory: pages 0 .. 15 its own source, 16 .. 31 where the other writes to, 32 .. 47 where its reads land.
    constexpr std::size_t kBytes = 2 * kPageSize + 123;
    std::vector<NicWorld::Part> parts;
    for (std::uint32_t node = 0; node < 2; ++node) {
      parts.push_back({node, [&, node] {
                         Nic& nic = world.nic(node);
                         HostVm& vm = world.vm(node);
                         const RemoteRegion& other = regions[1 - node];
                         for (unsigned round = 1; round <= 20; ++round) {
                           const std::uint64_t at = round * 700;
                           const std::vector<std::byte> data = bytes_of(kBytes, node * 100 + round);
                           fill(vm, at, data);
                           (void)vm.evict(12);
                           CHECK(ok(nic.write(other, 16 * kPageSize + at, vm.frame_base() + at, kBytes)));
                           (void)vm.evict(12);
                           if (round % 2 == 0) {
                             CHECK(ok(nic.read(other, 16 * kPageSize + at, vm.frame_base() + 32 * kPageSize + at, kBytes)));
                           } else {
                             Completion read;
                             nic.post_read(other, 16 * kPageSize + at, vm.frame_base() + 32 * kPageSize + at, kBytes, &read);
                             (void)vm.evict(12);  // the landing place stays
                             CHECK(ok(nic.wait(read)));
                           }
                           CHECK(holds(vm, 32 * kPageSize + at, data));
                         }
                         // More than can be pinned: staged.
                         const std::vector<std::byte> large = bytes_of(9 * kPageSize, 7 + node);
                         fill(vm, 0, large);
                         CHECK(ok(nic.write(other, 16 * kPageSize, vm.frame_base(), large.size())));
                         CHECK(ok(nic.read(other, 16 * kPageSize, vm.frame_base() + 48 * kPageSize, large.size())));
                         CHECK(holds(vm, 48 * kPageSize, large));
                         Completion refused;
                         nic.post_read(other, 0, vm.frame_base() + 48 * kPageSize, large.size(), &refused);
                         CHECK(nic.wait(refused) == Status::exhausted);
                         const std::array<Segment, 2> segments{Segment{16 * kPageSize + 11, vm.frame_base() + 77, 3000},
                                                               Segment{30 * kPageSize - 5, vm.frame_base() + 4 * kPageSize - 9, 200}};
                         (void)vm.evict(12);
                         CHECK(ok(nic.write_vector(other, segments)));
                         std::vector<std::byte> seen(3000);
                         CHECK(ok(nic.read(other, 16 * kPageSize + 11, seen.data(), seen.size())));
                         CHECK(std::equal(seen.begin(), seen.end(), large.begin() + 77));
                       }});
    }
    world.run(std::move(parts));
    CHECK(world.nothing_dropped());
  });
}

TEST_CASE("pitfall 6: a source that cannot be brought in is a write that failed") {
  on_every_paging_world({}, [](NicWorld& world, Paging& paging) {
    const RemoteRegion region = world.whole(1);
    const RemoteCounter counter = world.nic(1).counter_create().value();
    world.run([&] {
      Nic& nic = world.nic(0);
      paging.evict(0, PageId{3});
      paging.fail(0, PageId{3}, true);
      std::byte* const source = world.frame(0, 3);
      CHECK(nic.write(region, 0, source, 8) == Status::fault_failed);
      CHECK(nic.read(region, 0, source, 8) == Status::fault_failed);
      CHECK(nic.write_notify(region, 0, source, 8, counter, 1, NotifyMode::own) == Status::fault_failed);
      Completion posted;
      nic.post_write(region, 0, source, 8, &posted);
      CHECK(nic.wait(posted) == Status::fault_failed);
      const std::uint64_t value = 1;
      CHECK(nic.write_notify(region, 0, &value, 8, counter, 1, NotifyMode::ordered) == Status::cancelled);
      CHECK(world.nic(1).counter_value(counter) == 0);
      CHECK(world.nic(1).counter_errors(counter) == 2);
      paging.fail(0, PageId{3}, false);
      nic.clear_errors(NodeId{1});
      CHECK(ok(nic.write(region, 0, source, 8)));
    });
  });
}
