// Redirect, one story at a time, on every kind of world: what a request does whose page is on its way.
#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <memory>
#include <numeric>
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
using netvm::test::on_every_world;
using netvm::test::Paging;
using netvm::test::WorldKind;

TEST_CASE("pitfall 1: while a page drains, later writes queue behind, and reads, atomics and notifications wait") {
  on_every_paging_world(in_order(), [](NicWorld& world, Paging& paging) {
    Gate gate(world.nic(1).env());
    paging.set_page_in([&](std::uint32_t, PageId) { gate.pass(); });
    const RemoteRegion region = world.whole(1);
    const RemoteCounter counter = world.nic(1).counter_create().value();
    world.run({{0,
                [&] {
                  Nic& nic = world.nic(0);
                  paging.evict(1, PageId{3});
                  const std::uint64_t at = 3 * kPageSize + 64;
                  std::vector<std::uint64_t> values(20);
                  std::iota(values.begin(), values.end(), 1);
                  std::vector<Completion> writes(values.size());
                  for (std::size_t i = 0; i < values.size(); ++i) nic.post_write(region, at, &values[i], 8, &writes[i]);
                  Completion atomic, read;
                  nic.post_atomic(region, at, {AtomicOp::fetch_add, 1000}, &atomic);
                  std::uint64_t seen = 0;
                  nic.post_read(region, at, &seen, 8, &read);
                  CHECK(ok(nic.notify(counter, 1)));
                  gate.await_waiter();
                  // Another channel's traffic goes on (a node to itself), this one's does not.
                  for (const Completion& write : writes) CHECK_FALSE(write.done());
                  CHECK_FALSE(atomic.done());
                  CHECK_FALSE(read.done());
                  CHECK(world.nic(1).counter_value(counter) == 0);
                  gate.open();
                  for (Completion& write : writes) CHECK(ok(nic.wait(write)));
                  CHECK(ok(nic.wait(atomic)));
                  CHECK(ok(nic.wait(read)));
                  CHECK(atomic.old_value() == 20);  // the last write
                  CHECK(seen == 1020);
                }},
               {1, [&] { CHECK(ok(world.nic(1).counter_wait(counter, 1))); }}});
    CHECK(world.stats(1).get(Stat::redirects) > 0);
    CHECK(world.stats(1).get(Stat::redirected_bytes) > 0);
    CHECK(paging.no_pins(1));
    CHECK(world.nothing_dropped());
  });
}

TEST_CASE("PLACED is said of bytes that are in their page, never of bytes in a system buffer") {
  on_every_paging_world({}, [](NicWorld& world, Paging& paging) {
    Gate gate(world.nic(1).env());
    paging.set_page_in([&](std::uint32_t, PageId) { gate.pass(); });
    const RemoteRegion region = world.whole(1);
    const RemoteCounter counter = world.nic(1).counter_create().value();
    world.run({{0,
                [&] {
                  paging.evict(1, PageId{5});
                  const std::uint64_t value = 42;
                  CHECK(ok(world.nic(0).write_notify(region, 5 * kPageSize, &value, 8, counter, 1, NotifyMode::own)));
                  CHECK(memory_of(world, 1, 5 * kPageSize, 1)[0] == std::byte{42});
                }},
               {1, [&] {
                  gate.await_waiter();
                  CHECK(world.nic(1).counter_value(counter) == 0);
                  gate.open();
                  CHECK(ok(world.nic(1).counter_wait(counter, 1)));
                  CHECK(memory_of(world, 1, 5 * kPageSize, 1)[0] == std::byte{42});
                }}});
  });
}

TEST_CASE("pitfall 3: a channel goes on by the event, not by a clock") {
  // In virtual time the end of the page-in and the end of the operation lie within the network's delay.
  NicWorldOptions options;
  options.network.min_delay = options.network.max_delay = 1'000;
  Paging paging;
  const std::unique_ptr<NicWorld> world = test::make_world(WorldKind::simulated, paging.with(options));
  paging.attach(*world);
  Env& host = world->nic(1).env();
  Nanos paged_in = 0;
  paging.set_page_in([&](std::uint32_t, PageId) {
    test::sleep_until(host, host.now() + 50'000);
    paged_in = host.now();
  });
  const RemoteRegion region = world->whole(1);
  world->run([&] {
    for (int round = 0; round < 3; ++round) {
      paging.evict(1, PageId{2});
      std::uint64_t value = 7;
      CHECK(ok(round == 0   ? world->nic(0).write(region, 2 * kPageSize, &value, 8)
               : round == 1 ? world->nic(0).read(region, 2 * kPageSize, &value, 8)
                            : world->nic(0).atomic(region, 2 * kPageSize, {AtomicOp::fetch_add, 1}).status()));
      CHECK(host.now() - paged_in <= 3'000);  // the answer's way and the waking of the waiter
    }
  });
}

TEST_CASE("pitfall 4: the whole range of a work request is one fault") {
  on_every_paging_world(in_order(), [](NicWorld& world, Paging& paging) {
    const RemoteRegion region = world.whole(1);
    world.run([&] {
      const std::vector<std::byte> data = bytes_of(20 * kPageSize, 1);
      CHECK(ok(world.nic(0).write(region, 10 * kPageSize + 100, data.data(), data.size())));
      const auto evict_all = [&] {
        for (std::uint64_t p = 10; p <= 30; ++p) paging.evict(1, PageId{p});
      };
      evict_all();
      const std::uint64_t before = world.stats(1).get(Stat::nic_major_faults);
      std::vector<std::byte> back(data.size());
      CHECK(ok(world.nic(0).read(region, 10 * kPageSize + 100, back.data(), back.size())));
      CHECK(back == data);
      CHECK(world.stats(1).get(Stat::nic_major_faults) == before + 1);
      evict_all();
      const std::vector<std::byte> other = bytes_of(20 * kPageSize, 2);
      CHECK(ok(world.nic(0).write(region, 10 * kPageSize + 100, other.data(), other.size())));
      CHECK(memory_of(world, 1, 10 * kPageSize + 100, other.size()) == other);
      CHECK(world.stats(1).get(Stat::nic_major_faults) == before + 2);
    });
    CHECK(paging.no_pins(1));
  });
}

TEST_CASE("pitfall 4: pages that their node has prefetched are no faults for a peer") {
  on_every_paging_world(in_order(), [](NicWorld& world, Paging& paging) {
    const RemoteRegion region = world.whole(1);
    world.run([&] {
      const std::vector<std::byte> data = bytes_of(20 * kPageSize, 1);
      CHECK(ok(world.nic(0).write(region, 10 * kPageSize, data.data(), data.size())));
      for (std::uint64_t p = 10; p < 30; ++p) paging.evict(1, PageId{p});
      const std::uint64_t faults = world.stats(1).get(Stat::nic_major_faults) + world.stats(1).get(Stat::nic_minor_faults);
      CHECK(ok(world.nic(1).prefetch({PageId{10}, 20})));
      const auto away = [&] {
        for (std::uint64_t p = 10; p < 30; ++p)
          if (!world.vm(1).resident(PageId{p})) return true;
        return false;
      };
      while (away()) world.nic(1).env().relax();
      const std::vector<std::byte> other = bytes_of(20 * kPageSize, 2);
      CHECK(ok(world.nic(0).write(region, 10 * kPageSize, other.data(), other.size())));
      CHECK(memory_of(world, 1, 10 * kPageSize, other.size()) == other);
      CHECK(world.stats(1).get(Stat::nic_major_faults) + world.stats(1).get(Stat::nic_minor_faults) == faults);
      CHECK(world.nic(1).prefetch({PageId{10}, world.vm(1).pages()}) == Status::range);
      world.vm(1).close();
    });
  });
}

TEST_CASE("pitfall 5: a fault holds back one channel; another peer's operations go on meanwhile") {
  NicWorldOptions options;
  options.nodes = 3;
  on_every_paging_world(options, [](NicWorld& world, Paging& paging) {
    Gate gate(world.nic(2).env());
    paging.set_page_in([&](std::uint32_t, PageId) { gate.pass(); });
    const RemoteRegion region = world.whole(2);
    const RemoteCounter counter = world.nic(2).counter_create().value();
    world.run({{0,
                [&] {
                  paging.evict(2, PageId{1});
                  std::uint64_t value = 0;
                  CHECK(ok(world.nic(0).read(region, kPageSize, &value, 8)));
                  CHECK(gate.waiting() > 0);
                }},
               {1, [&] {
                  gate.await_waiter();
                  for (std::uint64_t i = 1; i <= 200; ++i) {
                    std::uint64_t value = i;
                    CHECK(ok(world.nic(1).write_notify(region, 9 * kPageSize, &value, 8, counter, 1, NotifyMode::ordered)));
                    CHECK(world.nic(1).atomic(region, 9 * kPageSize, {AtomicOp::fetch_add, 1}).value() == i);
                    CHECK(ok(world.nic(1).read(region, 9 * kPageSize, &value, 8)));
                    CHECK(value == i + 1);
                  }
                  CHECK(world.nic(2).counter_value(counter) == 200);
                  gate.open();
                }}});
  });
}

TEST_CASE("a channel's later writes land while its head waits; a direct initiator is refused by a page that drains") {
  on_every_paging_world({}, [](NicWorld& world, Paging& paging) {
    Gate gate(world.nic(1).env());
    paging.set_page_in([&](std::uint32_t, PageId) { gate.pass(); });
    const RemoteRegion region = world.whole(1);
    world.run([&] {
      paging.evict(1, PageId{1});
      const std::uint64_t value = 3;
      Completion waits, lands;
      world.nic(0).post_write(region, kPageSize, &value, 8, &waits);
      gate.await_waiter();
      world.nic(0).post_write(region, 2 * kPageSize, &value, 8, &lands);
      CHECK(ok(world.nic(0).wait(lands)));
      CHECK_FALSE(waits.done());
      CHECK(world.device(1).shadow().entry(PageId{1}).state == PageState::faulting);
      gate.open();
      CHECK(ok(world.nic(0).wait(waits)));
      CHECK(world.device(1).shadow().entry(PageId{1}).state == PageState::read_write);
    });
  });
}

TEST_CASE("pitfall 9: a buffer that holds the bytes is not a completion: only completions and counters are") {
  on_every_paging_world({}, [](NicWorld& world, Paging& paging) {
    Gate gate(world.nic(1).env());
    paging.set_page_in([&](std::uint32_t, PageId) { gate.pass(); });
    const RemoteRegion region = world.whole(1);
    world.run([&] {
      paging.evict(1, PageId{1});
      // Half of the write's pages are there and have its bytes at once; it has not ended before the other half has.
      const std::vector<std::byte> data = bytes_of(2 * kPageSize, 9);
      Completion write;
      world.nic(0).post_write(region, kPageSize, data.data(), data.size(), &write);
      gate.await_waiter();
      CHECK_FALSE(write.done());
      gate.open();
      CHECK(ok(world.nic(0).wait(write)));
      CHECK(memory_of(world, 1, kPageSize, data.size()) == data);
    });
  });
}

TEST_CASE("pitfall 11: every offset and length around a page's end, each page there or not") {
  on_every_paging_world(in_order(), [](NicWorld& world, Paging& paging) {
    const RemoteRegion region = world.whole(1);
    world.run([&] {
      Nic& nic = world.nic(0);
      std::vector<std::byte> expected(4 * kPageSize);
      std::vector<std::byte> back(expected.size());
      unsigned salt = 0;
      for (const std::uint64_t around : {kPageSize, 2 * kPageSize}) {
        for (std::uint64_t offset = around - 9; offset <= around + 9; ++offset) {
          for (const std::uint64_t bytes : {1UL, 2UL, 7UL, 8UL, 9UL, 16UL, 17UL, kPageSize - 1, kPageSize, kPageSize + 1, kPageSize + 17}) {
            ++salt;
            for (std::uint64_t p = 0; p < 4; ++p) {
              if ((salt >> p & 1) != 0) paging.evict(1, PageId{p});
            }
            const std::vector<std::byte> data = bytes_of(bytes, salt);
            std::copy(data.begin(), data.end(), expected.begin() + static_cast<std::ptrdiff_t>(offset));
            if (salt % 2 == 0) {
              CHECK(ok(nic.write(region, offset, data.data(), bytes)));
            } else {
              const std::uint32_t half = static_cast<std::uint32_t>(bytes) / 2;
              const std::array<Segment, 2> segments{Segment{offset, data.data(), half},
                                                    Segment{offset + half, data.data() + half, static_cast<std::uint32_t>(bytes) - half}};
              CHECK(ok(nic.write_vector(region, segments)));
            }
            paging.evict(1, PageId{salt % 4});
            CHECK(ok(nic.read(region, offset, back.data(), bytes)));
            CHECK(std::equal(data.begin(), data.end(), back.begin()));
          }
        }
      }
      CHECK(ok(nic.read(region, 0, back.data(), back.size())));
      CHECK(back == expected);
    });
    CHECK(paging.no_pins(1));
  });
}

TEST_CASE("a vector over many pages that are not there waits for all of them") {
  on_every_paging_world({}, [](NicWorld& world, Paging& paging) {
    const RemoteRegion region = world.whole(1);
    world.run([&] {
      const std::vector<std::byte> data = bytes_of(64, 3);
      std::vector<Segment> segments;
      for (std::uint64_t p = 0; p < 40; p += 2) {
        paging.evict(1, PageId{p});
        segments.push_back({p * kPageSize + 32, data.data(), 64});
        segments.push_back({(p + 1) * kPageSize - 16, data.data(), 64});  // into a page that is seen for the first time
      }
      CHECK(ok(world.nic(0).write_vector(region, segments)));
      for (const Segment& segment : segments) CHECK(memory_of(world, 1, segment.offset, 64) == data);
      CHECK(world.stats(1).get(Stat::redirects) == 1);
    });
    CHECK(paging.no_pins(1));
  });
}

TEST_CASE("read-only pages are readable sources; writes and atomics to them are refused, waiting or not") {
  on_every_world([](NicWorld& world) {
    const RemoteRegion region = world.whole(1);
    world.run([&] {
      std::uint64_t value = 9;
      CHECK(ok(world.nic(0).write(region, kPageSize, &value, 8)));
      world.device(1).shadow().map({PageId{1}, 1}, false);
      value = 0;
      CHECK(ok(world.nic(0).read(region, kPageSize, &value, 8)));
      CHECK(value == 9);
      CHECK(world.nic(0).write(region, kPageSize, &value, 8) == Status::perm);
      CHECK(world.nic(0).atomic(region, kPageSize, {AtomicOp::fetch_add, 1}).status() == Status::perm);
      world.device(1).shadow().map({PageId{1}, 1}, true);
      CHECK(ok(world.nic(0).write(region, kPageSize, &value, 8)));
    });
  });
}

TEST_CASE("pitfall 1: a page that is mapped read-only, then writable, while data waits for it: later writes still queue behind") {
  on_every_paging_world(in_order(), [](NicWorld& world, Paging& paging) {
    Gate gate(world.nic(1).env());
    paging.set_page_in([&](std::uint32_t, PageId) { gate.pass(); });
    const RemoteRegion region = world.whole(1);
    world.run([&] {
      Nic& nic = world.nic(0);
      paging.evict(1, PageId{3});
      const std::uint64_t at = 3 * kPageSize + 8;
      const std::array<std::uint64_t, 3> values{1, 2, 3};
      std::array<Completion, 3> writes;
      const auto post = [&](std::size_t i) {
        nic.post_write(region, at, &values[i], 8, &writes[i]);
        Env& env = nic.env();
        for (int turn = 0; world.stats(1).get(Stat::redirects) <= i && turn < 1'000; ++turn) test::sleep_until(env, env.now() + 100'000);
      };
      post(0);
      gate.await_waiter();
      world.device(1).shadow().map({PageId{3}, 1}, false);
      post(1);
      world.device(1).shadow().map({PageId{3}, 1}, true);
      post(2);
      gate.open();
      for (Completion& write : writes) CHECK(ok(nic.wait(write)));
      CHECK(memory_of(world, 1, at, 1)[0] == std::byte{3});
    });
    CHECK(world.stats(1).get(Stat::redirects) == 3);
    CHECK(paging.no_pins(1));
  });
}

TEST_CASE("a node's own requests take the same way when their page is on its way, and posting never waits") {
  on_every_paging_world({}, [](NicWorld& world, Paging& paging) {
    Gate gate(world.nic(0).env());
    paging.set_page_in([&](std::uint32_t, PageId) { gate.pass(); });
    const RemoteRegion own = world.whole(0);
    world.run([&] {
      paging.evict(0, PageId{4});
      const std::uint64_t value = 21;
      Completion write, atomic, read;
      std::uint64_t seen = 0;
      world.nic(0).post_write(own, 4 * kPageSize, &value, 8, &write);
      world.nic(0).post_atomic(own, 4 * kPageSize, {AtomicOp::fetch_add, 1}, &atomic);
      world.nic(0).post_read(own, 4 * kPageSize, &seen, 8, &read);
      CHECK_FALSE(write.done());
      gate.open();
      CHECK(ok(world.nic(0).wait(read)));
      CHECK(ok(world.nic(0).wait(atomic)));
      CHECK(ok(world.nic(0).wait(write)));
      CHECK(atomic.old_value() == 21);
      CHECK(seen == 22);
    });
    CHECK(paging.no_pins(0));
  });
}
