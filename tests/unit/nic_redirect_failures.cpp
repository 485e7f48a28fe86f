// Redirect where something fails: the host, the region, the peer, the NIC itself; on every kind of world.
#include <doctest/doctest.h>

#include <algorithm>
#include <memory>
#include <vector>

#include "tests/unit/nic_redirect_fixture.hpp"

using namespace netvm;
using namespace netvm::nic;
using netvm::test::bytes_of;
using netvm::test::Gate;
using netvm::test::in_order;
using netvm::test::memory_of;
using netvm::test::NicWorld;
using netvm::test::NicWorldOptions;
using netvm::test::on_every_paging_world;
using netvm::test::Paging;
using netvm::test::WorldKind;

TEST_CASE("a page-in that fails ends what waited for that page, and nothing else; later requests try again") {
  on_every_paging_world(in_order(), [](NicWorld& world, Paging& paging) {
    const RemoteRegion region = world.whole(1);
    const RemoteCounter counter = world.nic(1).counter_create().value();
    world.run([&] {
      Nic& nic = world.nic(0);
      const std::vector<std::byte> data = bytes_of(8 * kPageSize, 5);
      CHECK(ok(nic.write(region, 0, data.data(), data.size())));
      for (std::uint64_t p = 0; p < 8; ++p) paging.evict(1, PageId{p});
      paging.fail(1, PageId{5}, true);
      // One write over good pages and the bad one; neighbours of the bad page in one fault with it, by another request.
      Completion over, beside;
      nic.post_write(region, 4 * kPageSize, data.data(), 3 * kPageSize, &over);
      nic.post_write(region, 6 * kPageSize + 8, data.data(), 8, &beside);
      CHECK(nic.wait(over) == Status::fault_failed);
      CHECK(ok(nic.wait(beside)));
      CHECK(memory_of(world, 1, 4 * kPageSize, kPageSize) == std::vector<std::byte>(data.begin(), data.begin() + kPageSize));
      CHECK(nic.write_notify(region, 0, data.data(), 8, counter, 1, NotifyMode::ordered) == Status::cancelled);
      CHECK(world.nic(1).counter_errors(counter) == 1);
      CHECK(world.nic(1).counter_value(counter) == 0);
      std::uint64_t value = 0;
      CHECK(nic.read(region, 5 * kPageSize, &value, 8) == Status::fault_failed);
      CHECK(nic.atomic(region, 5 * kPageSize, {AtomicOp::fetch_add, 1}).status() == Status::fault_failed);
      CHECK(world.device(1).shadow().entry(PageId{5}).state == PageState::invalid);
      nic.clear_errors(NodeId{1});
      paging.fail(1, PageId{5}, false);
      std::vector<std::byte> page(kPageSize);
      CHECK(ok(nic.read(region, 5 * kPageSize, page.data(), kPageSize)));
      CHECK(std::equal(page.begin(), page.end(), data.begin() + 5 * kPageSize));
      CHECK(ok(nic.write_notify(region, 5 * kPageSize, data.data(), 8, counter, 1, NotifyMode::ordered)));
      CHECK(world.nic(1).counter_value(counter) == 1);
    });
    CHECK(paging.no_pins(1));
  });
}

TEST_CASE("a region that is revoked while data for it waits: E_REVOKED, and the memory stays as it was") {
  on_every_paging_world({}, [](NicWorld& world, Paging& paging) {
    Gate gate(world.nic(1).env());
    paging.set_page_in([&](std::uint32_t, PageId) { gate.pass(); });
    const RemoteRegion region = world.whole(1);
    const RemoteRegion other = world.whole(1);
    world.run([&] {
      const std::uint64_t before = 11, value = 3;
      CHECK(ok(world.nic(0).write(other, kPageSize, &before, 8)));
      paging.evict(1, PageId{1});
      Completion write, vector;
      const Segment segment{kPageSize + 8, reinterpret_cast<const std::byte*>(&value), 8};
      world.nic(0).post_write(region, kPageSize, &value, 8, &write);
      world.nic(0).post_write_vector(region, {&segment, 1}, &vector);
      gate.await_waiter();
      CHECK(ok(world.nic(1).region_revoke(region)));
      gate.open();
      CHECK_FALSE(ok(world.nic(0).wait(vector)));
      CHECK(world.nic(0).wait(write) == Status::revoked);
      std::uint64_t seen = 0;
      CHECK(ok(world.nic(0).read(other, kPageSize, &seen, 8)));
      CHECK(seen == before);
    });
    CHECK(paging.no_pins(1));
  });
}

TEST_CASE("a peer that is declared dead while its data waits: the data does not land, others' does, no pin stays") {
  NicWorldOptions options;
  options.nodes = 3;
  on_every_paging_world(options, [](NicWorld& world, Paging& paging) {
    Gate gate(world.nic(2).env());
    paging.set_page_in([&](std::uint32_t, PageId) { gate.pass(); });
    const RemoteRegion region = world.whole(2);
    world.run({{0,
                [&] {
                  paging.evict(2, PageId{1});
                  const std::uint64_t value = 5;
                  Completion write, atomic;
                  world.nic(0).post_write(region, kPageSize, &value, 8, &write);
                  world.nic(0).post_atomic(region, kPageSize, {AtomicOp::fetch_add, 1}, &atomic);
                  gate.await_waiter();
                  world.nic(2).declare_dead(NodeId{0});
                  world.nic(0).declare_dead(NodeId{2});
                  CHECK(world.nic(0).wait(write) == Status::peer_dead);
                  CHECK(world.nic(0).wait(atomic) == Status::peer_dead);
                  gate.open();
                }},
               {1, [&] {
                  gate.await_waiter();
                  const std::uint64_t value = 6;
                  CHECK(ok(world.nic(1).write(region, kPageSize + 8, &value, 8)));
                  std::uint64_t seen[2] = {};
                  CHECK(ok(world.nic(1).read(region, kPageSize, seen, 16)));
                  CHECK(seen[0] == 0);
                  CHECK(seen[1] == 6);
                }}});
    CHECK(paging.no_pins(2));
  });
}

TEST_CASE("a NIC that ends while data waits for its pages waits for the host and leaves no pin") {
  for (const WorldKind kind : {WorldKind::direct, WorldKind::packet}) {
    Paging paging;
    std::unique_ptr<NicWorld> world = test::make_world(kind, paging.with({}));
    paging.attach(*world);
    Gate gate(world->nic(1).env());
    paging.set_page_in([&](std::uint32_t, PageId) { gate.pass(); });
    const RemoteRegion region = world->whole(1);
    Completion write;
    const std::uint64_t value = 5;
    world->run({{0, [&] {
                   paging.evict(1, PageId{1});
                   world->nic(0).post_write(region, kPageSize, &value, 8, &write);
                   gate.await_waiter();
                   world->nic(0).shut_down();
                   CHECK(world->nic(0).wait(write) == Status::cancelled);
                 }}});
    gate.open();
    world.reset();
  }
}
