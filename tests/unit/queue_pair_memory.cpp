// Queue pairs and triggered operations whose sources and landing places lie in this node's own memory, which the pager may take away at any moment.
#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstring>
#include <memory>
#include <vector>

#include "nic/queue_pair.hpp"
#include "tests/support/nic_paging.hpp"

using namespace netvm;
using namespace netvm::nic;
using netvm::test::Gate;
using netvm::test::memory_of;
using netvm::test::NicWorld;
using netvm::test::NicWorldOptions;
using netvm::test::on_every_paging_world;
using netvm::test::Paging;

namespace {

std::unique_ptr<QueuePair> pair_to(Nic& nic, std::uint32_t target) { return QueuePair::create(nic, {NodeId{target}, 64}).value(); }

std::vector<std::byte> bytes_of(std::size_t count, unsigned salt) {
  std::vector<std::byte> out(count);
  for (std::size_t i = 0; i < count; ++i) out[i] = static_cast<std::byte>(i * 41 + i / 211 + salt);
  return out;
}

/// Fills a node's own memory as its program would.
void fill(HostVm& vm, std::uint64_t offset, const std::vector<std::byte>& data) {
  const std::uint64_t first = offset / kPageSize;
  const auto pins = vm.pin({PageId{first}, (offset + data.size() + kPageSize - 1) / kPageSize - first}, true);
  REQUIRE(pins.has_value());
  std::memcpy(vm.frame_base() + offset, data.data(), data.size());
}

/// Polls until everything has ended; the statuses by user id.
std::vector<Status> statuses_of(QueuePair& pair, std::size_t count) {
  std::vector<Status> all(count, Status::invalid);
  CHECK((ok(pair.flush()) || true));
  std::array<QpCompletion, 64> ends;
  for (std::size_t n = 0; (n = pair.poll(ends)) > 0;) {
    for (std::size_t i = 0; i < n; ++i) all[ends[i].user_id] = ends[i].status;
  }
  return all;
}

}  // namespace

TEST_CASE("pitfall 6: a queue pair's own memory that was evicted between post and progress is brought back for it") {
  on_every_paging_world({}, [](NicWorld& world, Paging& paging) {
    Gate gate(world.nic(1).env());
    paging.set_page_in([&](std::uint32_t node, PageId page) {
      if (node == 1 && page == PageId{0}) gate.pass();
    });
    const RemoteRegion region = world.whole(1);
    const RemoteCounter counter = world.nic(1).counter_create().value();
    world.run([&] {
      HostVm& mine = world.vm(0);
      const std::vector<std::byte> data = bytes_of(2 * kPageSize, 3);
      const std::vector<std::byte> small = bytes_of(40, 9);
      fill(mine, 2 * kPageSize, data);
      fill(mine, 5 * kPageSize + 8, small);
      fill(world.vm(1), 30 * kPageSize, bytes_of(300, 4));
      paging.evict(1, PageId{0});
      const auto pair = pair_to(world.nic(0), 1);
      const std::uint64_t first = 1;
      const Piece ahead = Piece::source(&first, 8);
      CHECK(pair->post(QpRequest::write(region, 0, {&ahead, 1}, 0)).status == Status::ok);
      gate.await_waiter();
      // All of these wait for the first; what is inlined is read now, from a page that is away.
      const std::array<Piece, 2> pieces{Piece::source(mine.frame(PageId{2}) + 100, 5000), Piece::source(mine.frame(PageId{3}) + 1500, 70)};
      const Piece inlined = Piece::source(mine.frame(PageId{5}) + 8, small.size());
      const Piece landing = Piece::landing(mine.frame(PageId{10}) + 4000, 300);
      QpRequest write = QpRequest::write(region, 4 * kPageSize + 7, pieces, 1);
      write.fence = true;
      QpRequest gather = QpRequest::write_notify(region, 8 * kPageSize + 9, pieces, counter, NotifyMode::own, 2);
      QpRequest inline_write = QpRequest::write(region, 12 * kPageSize, {&inlined, 1}, 3);
      inline_write.inlined = true;
      const QpRequest read = QpRequest::read(region, 30 * kPageSize, {&landing, 1}, 4);
      paging.evict(0, PageId{5});
      CHECK(pair->post(std::array{write, gather, inline_write, read}).count == 4);
      fill(mine, 5 * kPageSize + 8, bytes_of(40, 77));
      for (const std::uint64_t page : {2, 3, 10, 11}) paging.evict(0, PageId{page});  // what waits pins nothing
      gate.open();
      for (const Status status : statuses_of(*pair, 5)) CHECK(status == Status::ok);
      std::vector<std::byte> expected(data.begin() + 100, data.begin() + 5100);
      expected.insert(expected.end(), data.begin() + kPageSize + 1500, data.begin() + kPageSize + 1570);
      CHECK(memory_of(world, 1, 4 * kPageSize + 7, expected.size()) == expected);
      CHECK(memory_of(world, 1, 8 * kPageSize + 9, expected.size()) == expected);
      CHECK(memory_of(world, 1, 12 * kPageSize, small.size()) == small);
      CHECK(memory_of(world, 0, 10 * kPageSize + 4000, 300) == bytes_of(300, 4));
      CHECK(world.nic(1).counter_value(counter) == 1);
    });
    CHECK(paging.no_pins(0));
    CHECK(paging.no_pins(1));
    CHECK(world.nothing_dropped());
  });
}

TEST_CASE("pitfall 6: queue pairs of two nodes, from and to evictable memory, while pages leave all the time") {
  NicWorldOptions options;
  options.budget_pages = 20;
  on_every_paging_world(options, [](NicWorld& world, Paging& paging) {
    const std::array<RemoteRegion, 2> regions{world.whole(0), world.whole(1)};
    std::atomic<int> at_work{2};
    std::vector<NicWorld::Part> parts;
    for (std::uint32_t node = 0; node < 2; ++node) {
      // Pages 0 .. 15 of each are its sources, 16 .. 31 the other's destination, 32 .. 47 where its reads land.
      parts.push_back({node, [&, node] {
                         const auto pair = pair_to(world.nic(node), 1 - node);
                         HostVm& vm = world.vm(node);
                         for (unsigned round = 0; round < 25; ++round) {
                           const std::uint64_t at = (round % 7) * kPageSize + round * 150;
                           const std::vector<std::byte> data = bytes_of(6000, node * 50 + round);
                           fill(vm, at, data);
                           const std::array<Piece, 3> from{Piece::source(vm.frame_base() + at, 2500),
                                                           Piece::source(vm.frame_base() + at + 2500, 1),
                                                           Piece::source(vm.frame_base() + at + 2501, 3499)};
                           const std::array<Piece, 2> to{Piece::landing(vm.frame_base() + 32 * kPageSize + at, 4500),
                                                         Piece::landing(vm.frame_base() + 32 * kPageSize + at + 4500, 1500)};
                           QpRequest read = QpRequest::read(regions[1 - node], 16 * kPageSize + at, to, 1);
                           read.fence = round % 2 == 0;
                           const QpRequest write = QpRequest::write(regions[1 - node], 16 * kPageSize + at, from, 0);
                           CHECK(pair->post(std::array{write, read}).count == 2);
                           for (const Status status : statuses_of(*pair, 2)) CHECK(status == Status::ok);
                           CHECK(memory_of(world, node, 32 * kPageSize + at, data.size()) == data);
                         }
                         at_work.fetch_sub(1);
                       }});
      parts.push_back({node, [&, node] {
                         Env& env = world.nic(node).env();
                         while (at_work.load() > 0) {
                           (void)world.vm(node).evict(1 + env.random() % 6);
                           netvm::test::sleep_until(env, env.now() + 5'000);
                         }
                       }});
    }
    world.run(std::move(parts));
    CHECK(paging.no_pins(0));
    CHECK(paging.no_pins(1));
    CHECK(world.nothing_dropped());
  });
}

TEST_CASE("pitfall 6: a queue pair's source that cannot be brought in is an operation that failed") {
  on_every_paging_world({}, [](NicWorld& world, Paging& paging) {
    const RemoteRegion region = world.whole(1);
    const RemoteCounter counter = world.nic(1).counter_create().value();
    world.run([&] {
      Nic& nic = world.nic(0);
      paging.evict(0, PageId{3});
      paging.fail(0, PageId{3}, true);
      const auto pair = pair_to(nic, 1);
      const std::uint64_t plain = 5;
      const std::array<Piece, 2> lost{Piece::source(&plain, 8), Piece::source(world.frame(0, 3), 8)};
      const Piece landing = Piece::landing(world.frame(0, 3), 8);
      QpRequest inlined = QpRequest::write(region, 0, lost, 3);
      inlined.inlined = true;
      inlined.fence = true;
      const std::array requests{QpRequest::write(region, 0, lost, 0), QpRequest::write_notify(region, 0, lost, counter, NotifyMode::own, 1),
                                QpRequest::read(region, 0, {&landing, 1}, 2), inlined};
      CHECK(pair->post(requests).count == 4);
      for (const Status status : statuses_of(*pair, 4)) CHECK(status == Status::fault_failed);
      std::uint64_t behind = 0;
      CHECK(ok(nic.read(region, 0, &behind, 8)));  // in order: the notification of the failure is there
      CHECK(world.nic(1).counter_value(counter) == 0);
      CHECK(world.nic(1).counter_errors(counter) == 1);
      paging.fail(0, PageId{3}, false);
      nic.clear_errors(NodeId{1});
      CHECK(pair->post(requests).count == 4);
      for (const Status status : statuses_of(*pair, 4)) CHECK(status == Status::ok);
      CHECK(world.nic(1).counter_value(counter) == 1);
    });
    CHECK(paging.no_pins(0));
  });
}

TEST_CASE("a triggered operation keeps its source where it is until it has fired, or never will") {
  on_every_paging_world({}, [](NicWorld& world, Paging& paging) {
    const RemoteRegion region = world.whole(1);
    Nic& nic = world.nic(0);
    const RemoteCounter counter = nic.counter_create().value();
    const RemoteCounter landed = world.nic(1).counter_create().value();
    world.run([&] {
      HostVm& mine = world.vm(0);
      fill(mine, 6 * kPageSize, bytes_of(100, 1));
      paging.evict(0, PageId{6});
      Completion fired, cancelled;
      const auto operation =
          TriggeredOperation::write_notify(region, 20 * kPageSize, mine.frame(PageId{6}), 100, landed, 1, NotifyMode::own);
      CHECK(nic.post_triggered(counter, 1, operation, &fired).has_value());
      const auto never = nic.post_triggered(counter, 9, TriggeredOperation::write(region, 0, mine.frame(PageId{7}), 8), &cancelled);
      REQUIRE(never.has_value());
      (void)mine.evict(mine.pages());
      CHECK(mine.resident(PageId{6}));
      CHECK(mine.resident(PageId{7}));
      std::memcpy(mine.frame(PageId{6}), bytes_of(100, 2).data(), 100);  // read when it fires
      CHECK(ok(nic.notify(counter, 1)));
      CHECK(ok(nic.wait(fired)));
      CHECK(memory_of(world, 1, 20 * kPageSize, 100) == bytes_of(100, 2));
      CHECK(nic.cancel_triggered(counter, *never));
      CHECK(nic.wait(cancelled) == Status::cancelled);
      // A page that cannot come, and more than can be pinned, are refused at once.
      paging.evict(0, PageId{8});
      paging.fail(0, PageId{8}, true);
      CHECK(nic.post_triggered(counter, 9, TriggeredOperation::write(region, 0, mine.frame(PageId{8}), 8), nullptr).status() ==
            Status::fault_failed);
      paging.fail(0, PageId{8}, false);
    });
    CHECK(paging.no_pins(0));
  });
  NicWorldOptions tight;
  tight.budget_pages = 16;
  on_every_paging_world(tight, [](NicWorld& world, Paging&) {
    const RemoteRegion region = world.whole(1);
    const RemoteCounter counter = world.nic(0).counter_create().value();
    const auto large = TriggeredOperation::write(region, 0, world.frame(0), 5 * kPageSize);
    CHECK(world.nic(0).post_triggered(counter, 1, large, nullptr).status() == Status::exhausted);
  });
}
