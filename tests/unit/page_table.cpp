#include "dsm/page_table.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "dsm/twin_pool.hpp"
#include "runtime/host_vm.hpp"
#include "runtime/real_env.hpp"
#include "runtime/simulator.hpp"
#include "tests/support/memory_backing_store.hpp"

using namespace netvm;
using namespace netvm::dsm;

TEST_CASE("page_table: a page that nobody met is nobody's") {
  PageTable table({PageId{10}, 5000});
  CHECK_FALSE(table.contains(PageId{9}));
  CHECK(table.contains(PageId{10}));
  CHECK(table.contains(PageId{5009}));
  CHECK_FALSE(table.contains(PageId{5010}));
  const PageEntry& entry = table[PageId{4000}];
  CHECK_FALSE(entry.attached());
  CHECK_FALSE(entry.home_known());
  CHECK(entry.access() == Access::none);
  CHECK(entry.twin == nullptr);
}

TEST_CASE("page_table: attaching leaves what the protocol had noted; detaching leaves nothing") {
  RealEnv env(RealEnvOptions{});
  PageTable table({PageId{0}, 5000});
  table[PageId{7}].state = 3;
  table[PageId{7}].learn_home(NodeId{2});
  table.attach({PageId{5}, 1000}, 1, 42);
  CHECK(table[PageId{7}].state == 3);
  CHECK(table[PageId{7}].home() == NodeId{2});
  CHECK(table[PageId{7}].protocol() == 1);
  CHECK(table[PageId{1004}].region() == 42);
  CHECK_FALSE(table[PageId{1005}].attached());
  // Ranges that begin and end anywhere, also inside a page of the table itself.
  table.attach({PageId{0}, 5000}, 0, 1);
  table.detach(env, {PageId{3}, 4990});
  for (const std::uint64_t p : {3, 7, 500, 4992}) {
    CHECK_FALSE(table[PageId{p}].attached());
    CHECK_FALSE(table[PageId{p}].home_known());
    CHECK(table[PageId{p}].state == 0);
  }
  for (const std::uint64_t p : {2, 4993}) CHECK(table[PageId{p}].attached());
  table.detach(env, {PageId{4993}, 1});
  CHECK_FALSE(table[PageId{4993}].attached());
  CHECK(table[PageId{4994}].attached());
}

TEST_CASE("page_table: a terabyte of shared pages costs no memory until it is used") {
  PageTable table({PageId{0}, (std::uint64_t{1} << 40) / kPageSize});
  table[PageId{(std::uint64_t{1} << 28) - 1}].learn_home(NodeId{1});
  CHECK(table[PageId{(std::uint64_t{1} << 28) - 1}].home_known());
}

TEST_CASE("page_table: the long lock excludes threads") {
  RealEnv env(RealEnvOptions{});
  PageTable table({PageId{0}, 1});
  PageEntry& entry = table[PageId{0}];
  std::uint64_t counter = 0;
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 20'000; ++i) {
        const PageGuard guard(env, entry);
        ++counter;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(counter == 80'000);
  CHECK(entry.lock.try_lock());
  CHECK_FALSE(entry.lock.try_lock());
}

TEST_CASE("page_table: whoever waits for the long lock gets it after a holder that blocked") {
  SimOptions options;
  options.seed = 3;
  Simulator simulator(options);
  Env& env = simulator.env(NodeId{0});
  PageTable table({PageId{0}, 1});
  PageEntry& entry = table[PageId{0}];
  int inside = 0;
  int rounds = 0;
  for (int f = 0; f < 5; ++f) {
    simulator.start(NodeId{0}, "fiber", [&] {
      for (int i = 0; i < 50; ++i) {
        const PageGuard guard(env, entry);
        CHECK(++inside == 1);
        for (int step = 0; step < 5; ++step) env.relax();
        --inside;
        ++rounds;
      }
    });
  }
  CHECK(simulator.run().end == Simulator::End::all_done);
  CHECK(rounds == 250);
}

TEST_CASE("page_table: twins are recycled, and the most that were in use is known") {
  const auto shift_of = [](int i) { return static_cast<std::uint8_t>(i % 5); };
  TwinPool pool;
  std::vector<std::byte*> twins;
  for (int i = 0; i < 100; ++i) {
    twins.push_back(pool.take(shift_of(i)));
    twins.back()[0] = twins.back()[(kPageSize << shift_of(i)) - 1] = static_cast<std::byte>(i);
  }
  for (int i = 0; i < 100; ++i) {
    CHECK(twins[i][0] == static_cast<std::byte>(i));
    CHECK(twins[i][(kPageSize << shift_of(i)) - 1] == static_cast<std::byte>(i));
  }
  constexpr std::uint64_t kBytes = 20 * 31 * kPageSize;  // 20 of each size
  CHECK(pool.bytes_in_use() == kBytes);
  for (int i = 0; i < 100; ++i) pool.give(twins[i], shift_of(i));
  CHECK(pool.bytes_in_use() == 0);
  std::byte* again = pool.take();
  CHECK(std::find(twins.begin(), twins.end(), again) != twins.end());
  CHECK(pool.peak_bytes() == kBytes);
}

TEST_CASE("page_table: who follows an old note to a page that is being given up keeps its lock until it is done") {
  RealEnv env(RealEnvOptions{});
  PageTable table({PageId{0}, 64});
  table.attach({PageId{0}, 64}, 1, 1);
  std::atomic<bool> done{false};
  std::atomic<bool> gone{false};
  std::thread giving_up;
  {
    const PageGuard held(env, table[PageId{7}]);
    giving_up = std::thread([&] {
      table.detach(env, {PageId{0}, 64});
      gone = true;
      CHECK(done);
    });
    while (table[PageId{6}].attached()) std::this_thread::yield();
    CHECK_FALSE(table[PageId{7}].lock.try_lock());
    CHECK(table[PageId{7}].attached());
    CHECK_FALSE(gone);
    done = true;
  }
  giving_up.join();
  CHECK_FALSE(table[PageId{7}].attached());
  CHECK(table[PageId{7}].lock.try_lock());
}

TEST_CASE("page_table: twins count in the memory budget while they are in use") {
  RealEnv env;
  std::string why;
  HostVmConfig config;
  config.pages = 256;
  config.budget_pages = 64;
  config.store = std::make_shared<test::MemoryBackingStore>();
  const auto vm = HostVm::create(config, env, &why).value();
  const auto resident_after_all = [&] {
    for (std::uint64_t p = 0; p < config.pages; ++p) CHECK(ok(vm->make_resident({PageId{p}, 1})));
    return vm->resident_pages();
  };
  TwinPool pool(vm.get());
  CHECK(resident_after_all() > 48);
  std::vector<std::byte*> twins;
  for (int i = 0; i < 24; ++i) twins.push_back(pool.take());
  for (std::byte* twin : twins) std::memset(twin, 7, kPageSize);
  CHECK(resident_after_all() <= 40);
  for (std::byte* twin : twins) pool.give(twin);
  CHECK(resident_after_all() > 48);
  for (int i = 0; i < 24; ++i) {  // those that were given back to the system as well as the few that were not
    std::byte* twin = pool.take();
    CHECK(std::find(twins.begin(), twins.end(), twin) != twins.end());
    twin[0] = twin[kPageSize - 1] = std::byte{1};
  }
}

TEST_CASE("page_table: every page of a coherence unit knows where its head is, until it is detached") {
  RealEnv env(RealEnvOptions{});
  PageTable table({PageId{0}, 64});
  table.attach({PageId{16}, 16}, 1, 3, 4);
  table.attach({PageId{32}, 1}, 0, 2);
  for (std::uint64_t p = 16; p < 32; ++p) {
    CHECK(table[PageId{p}].attached());
    CHECK(table[PageId{p}].unit_pages() == 16);
    CHECK(table[PageId{p}].region() == 3);
  }
  CHECK(table[PageId{32}].unit_pages() == 1);
  CHECK(table[PageId{15}].unit_pages() == 1);
  table.detach(env, {PageId{16}, 16});
  CHECK_FALSE(table[PageId{20}].attached());
  CHECK(table[PageId{20}].unit_pages() == 1);
}
