// Locks of runs of pages: what they take, what waits for them, and that a copy over a run lands where the entries say.
#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstring>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "nic/device.hpp"
#include "nic/firmware.hpp"
#include "nic/shadow_page_table.hpp"
#include "runtime/host_vm.hpp"
#include "runtime/real_env.hpp"

using namespace netvm;
using namespace netvm::nic;

namespace {

constexpr std::uint64_t kPages = 48;
constexpr std::uint64_t kMost = AnnouncedPageLock::kMostPages;

struct Target {
  RealEnv env{{0, false, 5}};
  std::unique_ptr<HostVm> vm;
  std::unique_ptr<Device> device;
  RemoteRegion region;

  Target() {
    HostVmConfig memory;
    memory.pages = kPages;
    std::string why;
    vm = HostVm::create(memory, env, &why).value();
    DeviceConfig shape;
    shape.pages = kPages;
    device = Device::create(shape, -1, vm->frame_base()).value();
    vm->set_residency_listener(&table());
    CHECK(ok(vm->make_resident({PageId{0}, kPages})));
    region = device->regions().create(env, {PageId{0}, kPages}, Rights::all).value();
  }
  ~Target() { vm->set_residency_listener(nullptr); }
  ShadowPageTable& table() { return device->shadow(); }
  std::byte* frame(std::uint64_t number) { return vm->frame_base() + number * kPageSize; }
  /// Gives the page another frame, as a host with a frame allocator would.
  void move_page(std::uint64_t page, std::uint32_t frame) {
    std::atomic<std::uint64_t>& word = device->shadow_entries()[page];
    word.store((word.load() & ~std::uint64_t{UINT32_MAX}) | frame);
  }
  template <LockFor kWhat = LockFor::write>
  std::uint64_t run(std::uint64_t first, std::uint64_t most, std::uint64_t* frame) {
    auto locker = table().locker();
    const std::uint64_t pages = locker.try_lock_run<kWhat>(PageId{first}, most, frame);
    if (pages != 0) locker.unlock();
    return pages;
  }
};

}  // namespace

TEST_CASE("a run ends at its bound, at a page that may not be touched, and where frames are not one behind the other") {
  Target t;
  std::uint64_t frame = 99;
  CHECK(t.run(0, 1, &frame) == 1);
  CHECK(t.run(3, 5, &frame) == 5);
  CHECK(frame == 3);
  CHECK(t.run(0, kPages, &frame) == kMost);
  t.table().on_unmap({PageId{10}, 1});
  CHECK(t.run(4, 20, &frame) == 6);
  CHECK(frame == 4);
  CHECK(t.run(10, 20, &frame) == 0);
  CHECK(frame == 4);  // set only on success
  t.table().map({PageId{10}, 1}, false);
  CHECK(t.run(4, 20, &frame) == 6);
  CHECK(t.run<LockFor::read>(4, 12, &frame) == 12);
  t.move_page(21, 30);
  CHECK(t.run(20, 8, &frame) == 1);
  CHECK(t.run(21, 8, &frame) == 1);
  CHECK(frame == 30);
  t.move_page(22, 31);
  CHECK(t.run(21, 8, &frame) == 2);
  CHECK(t.table().page_lock().held_by(NodeId{0}) == 0);
}

TEST_CASE("an unmap waits for a run that has its page anywhere, and for no other") {
  Target t;
  auto await = [&](std::uint64_t first, std::uint64_t held_pages, PageRange unmapped, bool waits) {
    CAPTURE(unmapped.first.value);
    std::atomic<bool> locked{false}, release{false};
    std::thread holder([&] {
      auto locker = t.table().locker();
      std::uint64_t frame = 0;
      CHECK(locker.try_lock_run<LockFor::write>(PageId{first}, held_pages, &frame) == held_pages);
      locked.store(true);
      while (!release.load()) std::this_thread::yield();
      locker.unlock();
    });
    while (!locked.load()) std::this_thread::yield();
    std::atomic<bool> gone{false};
    std::thread host([&] {
      t.table().on_unmap(unmapped);
      gone.store(true);
    });
    if (!waits) {
      while (!gone.load()) std::this_thread::yield();  // or this test never ends
    } else {
      while (t.table().entry(unmapped.first).state != PageState::evicting) std::this_thread::yield();
      for (int i = 0; i < 50; ++i) std::this_thread::yield();
      CHECK_FALSE(gone.load());
    }
    CHECK(t.table().page_lock().held_by(NodeId{0}) == held_pages);
    release.store(true);
    holder.join();
    host.join();
    t.table().on_map(unmapped);
  };
  await(8, kMost, {PageId{8}, 1}, true);
  await(8, kMost, {PageId{8 + kMost - 1}, 1}, true);
  await(8, kMost, {PageId{8 + kMost / 2}, 20}, true);
  await(8, 4, {PageId{11}, 1}, true);
  await(8, 4, {PageId{12}, 1}, false);
  await(8, 4, {PageId{7}, 1}, false);
  await(8, 4, {PageId{0}, 8}, false);
}

TEST_CASE("copies over many pages land where the entries say, in one run or in many") {
  Target t;
  std::vector<std::byte> source(40 * kPageSize), back(source.size());
  for (std::size_t i = 0; i < source.size(); ++i) source[i] = static_cast<std::byte>(i * 7 + i / kPageSize);
  // Pages 0 to 15 backwards, 16 to 31 in pairs that have changed places, the others where they were.
  std::array<std::uint32_t, kPages> frames{};
  for (std::uint32_t p = 0; p < kPages; ++p) frames[p] = p < 16 ? 15 - p : p < 32 ? p ^ 2U : p;
  for (std::uint32_t p = 0; p < kPages; ++p) t.move_page(p, frames[p]);
  for (const std::uint64_t offset : {0UL, 8UL, 4095UL, 3 * kPageSize, 7 * kPageSize + 100}) {
    for (const std::uint64_t bytes : {kPageSize, kPageSize + 1, 5 * kPageSize - 8, 17 * kPageSize, 40 * kPageSize}) {
      CAPTURE(offset);
      CAPTURE(bytes);
      std::memset(t.frame(0), 0xee, kPages * kPageSize);
      WorkRequest r;
      r.region = t.region.id;
      r.key = t.region.key;
      r.offset = offset;
      r.bytes = bytes;
      r.source = source.data();
      REQUIRE(ok(Firmware::execute(*t.device, r).status));
      std::uint64_t wrong = 0;
      for (std::uint64_t at = 0; at < kPages * kPageSize; ++at) {
        const std::byte found = t.frame(frames[at / kPageSize])[at % kPageSize];
        wrong += found != (at >= offset && at < offset + bytes ? source[at - offset] : std::byte{0xee}) ? 1 : 0;
      }
      REQUIRE(wrong == 0);
      r.kind = WorkKind::read;
      r.landing = back.data();
      REQUIRE(ok(Firmware::execute(*t.device, r).status));
      REQUIRE(std::memcmp(back.data(), source.data(), bytes) == 0);
    }
  }
  CHECK(t.table().page_lock().held_by(NodeId{0}) == 0);
}

TEST_CASE("a run that meets a missing page names it, whatever has been copied before") {
  Target t;
  std::vector<std::byte> source(20 * kPageSize, std::byte{5});
  t.table().on_unmap({PageId{17}, 1});
  WorkRequest r;
  r.region = t.region.id;
  r.key = t.region.key;
  r.offset = 100;
  r.bytes = source.size();
  r.source = source.data();
  const Outcome outcome = Firmware::execute(*t.device, r);
  CHECK_FALSE(outcome.resident);
  CHECK(outcome.missing == PageId{17});
  CHECK(std::all_of(t.frame(17), t.frame(18), [](std::byte b) { return b == std::byte{0}; }));
  t.table().on_map({PageId{17}, 1});
  CHECK(ok(Firmware::execute(*t.device, r).status));
  CHECK(std::all_of(t.frame(17), t.frame(18), [](std::byte b) { return b == std::byte{5}; }));
}

TEST_CASE("pitfall 2: a page in the middle of a run is not touched once it has been unmapped") {
  Target t;
  std::vector<std::byte> source(12 * kPageSize, std::byte{0x55});
  std::atomic<bool> stop{false};
  std::atomic<std::uint64_t> writes{0};
  std::thread initiator([&] {
    WorkRequest r;
    r.region = t.region.id;
    r.key = t.region.key;
    r.bytes = source.size();
    r.source = source.data();
    while (!stop.load()) writes.fetch_add(Firmware::execute(*t.device, r).resident ? 1 : 0);
  });
  std::uint64_t touched = 0;
  for (std::uint64_t round = 0; round < 300 || writes.load() < 100; ++round) {
    const PageRange page{PageId{1 + round % 11}, 1};
    t.table().on_unmap(page);
    std::memset(t.frame(page.first.value), 0xee, kPageSize);
    for (int look = 0; look < 2; ++look) {
      if (round % 4 == 0) std::this_thread::yield();
      touched +=
          std::all_of(t.frame(page.first.value), t.frame(page.first.value + 1), [](std::byte b) { return b == std::byte{0xee}; }) ? 0 : 1;
    }
    t.table().on_map(page);
    if (round % 8 == 0) std::this_thread::yield();
  }
  stop.store(true);
  initiator.join();
  CHECK(touched == 0);
}
