// The pager: memory larger than the budget, on every trap that this machine has: what is written comes back, rights hold, the budget holds.
#include "runtime/pager.hpp"

#include <algorithm>
#include <array>
#include <random>
#include <thread>

#include "pager_fixture.hpp"

using namespace netvm;
using namespace netvm::test;

namespace {

#if NETVM_TSAN
constexpr int kRounds = 1;
#else
constexpr int kRounds = 4;
#endif

}  // namespace

TEST_CASE("pager: a budget that no program gets on with is refused") {
  RealEnv env;
  std::string why;
  CHECK(HostVm::create({.pages = 64, .budget_pages = 2}, env, &why).status() == Status::invalid);
  CHECK(why.find("8192 bytes") != std::string::npos);
  CHECK(HostVm::create({.pages = 64, .budget_pages = 8, .backing = "/no/such/folder"}, env, &why).status() == Status::exhausted);
  CHECK(why.find("/no/such/folder") != std::string::npos);
}

TEST_CASE("pager: four times the budget, written and read back, and memory stays within the budget") {
  RealEnv env;
  for (const TrapKind kind : usable_traps()) {
    CAPTURE(to_string(kind));
    constexpr std::uint64_t kBudget = 64;
    Small small(kind, 4 * kBudget, kBudget, env);
    HostVm& vm = *small.vm;
    GrantingHandler handler(vm);
    ExactListener listener(vm, 4 * kBudget);
    Application app(vm);
    for (std::uint64_t p = 0; p < 4 * kBudget; ++p) {
      app.store(at(p), p + 1);
      app.store(at(p, 511), ~p);
      CHECK(frame_pages_in_use(vm) <= kBudget);
    }
    for (int round = 0; round < 2; ++round) {
      for (std::uint64_t p = 0; p < 4 * kBudget; ++p) {
        CHECK(app.load(at(p)) == p + 1);
        CHECK(app.load(at(p, 511)) == ~p);
        CHECK(vm.resident_pages() <= kBudget);
      }
    }
    CHECK(frame_pages_in_use(vm) <= kBudget);
    CHECK(frame_pages_in_use(vm) == vm.resident_pages());
    for (std::uint64_t p = 0; p < 4 * kBudget; ++p) CHECK(vm.resident(PageId{p}) == listener.mapped(p));
    CHECK(listener.right);
    CHECK(listener.batches < listener.unmaps + 1);
    CHECK(handler.faults() == 4 * kBudget);  // the pager's own faults are nobody's business
    CHECK(small.stats.get(Stat::page_ins) >= 8 * kBudget - 2 * kBudget);
    CHECK(small.stats.get(Stat::evictions) >= small.stats.get(Stat::write_backs));
    // Reading changed nothing, so every page was written once.
    CHECK(small.stats.get(Stat::write_backs) <= 4 * kBudget);
    CHECK(small.store->pages_written == small.stats.get(Stat::write_backs));
  }
}

TEST_CASE("pager: a page that was never written needs no store, and comes back as zeros") {
  RealEnv env;
  for (const TrapKind kind : usable_traps()) {
    CAPTURE(to_string(kind));
    Small small(kind, 64, 8, env);
    small.store->room = 0;
    GrantingHandler handler(*small.vm);
    for (std::uint64_t p = 0; p < 64; ++p) handler.set(PageId{p}, Access::write);
    Application app(*small.vm);
    for (int round = 0; round < 2; ++round) {
      for (std::uint64_t p = 0; p < 64; ++p) CHECK(app.load(at(p, 7)) == 0);
    }
    CHECK(small.store->transfers == 0);
    CHECK(small.stats.get(Stat::evictions) > 0);
    CHECK(small.stats.get(Stat::write_backs) == 0);
  }
}

TEST_CASE("pager: after a page-in by reading, the first write is noticed and saved") {
  RealEnv env;
  for (const TrapKind kind : usable_traps()) {
    CAPTURE(to_string(kind));
    Small small(kind, 32, 8, env);
    GrantingHandler handler(*small.vm);
    Application app(*small.vm);
    for (std::uint64_t p = 0; p < 32; ++p) app.store(at(p), p + 1);
    for (std::uint64_t round = 1; round <= 4; ++round) {
      for (std::uint64_t p = 0; p < 32; ++p) {
        CHECK(app.load(at(p)) == p + round);
        app.store(at(p), p + round + 1);
        CHECK(app.load(at(p)) == p + round + 1);
      }
    }
    CHECK(handler.faults() == 32);
  }
}

TEST_CASE("pager: rights change while pages are away") {
  RealEnv env;
  for (const TrapKind kind : usable_traps()) {
    CAPTURE(to_string(kind));
    Small small(kind, 64, 8, env);
    HostVm& vm = *small.vm;
    GrantingHandler handler(vm);
    Application app(vm);
    for (std::uint64_t p = 0; p < 64; ++p) app.store(at(p), p + 1);
    std::minstd_rand random(7);
    std::array<Access, 64> have{};
    have.fill(Access::write);
    for (int step = 0; step < 4000; ++step) {
      const std::uint64_t p = random() % 64;
      const std::uint64_t faults = handler.faults();
      switch (random() % 4) {
        case 0:
          handler.set(PageId{p}, have[p] = static_cast<Access>(random() % 3));
          break;
        case 1:
          app.store(at(p, 1), static_cast<std::uint64_t>(step));
          CHECK(handler.faults() - faults == (have[p] == Access::write ? 0U : 1U));
          have[p] = Access::write;
          break;
        default:
          CHECK(app.load(at(p)) == p + 1);
          CHECK(handler.faults() - faults == (have[p] == Access::none ? 1U : 0U));
          have[p] = std::max(have[p], Access::read);
          break;
      }
    }
    CHECK(frame_pages_in_use(vm) <= 8);
  }
}

TEST_CASE("pager: threads use four times the budget while others evict it under them") {
  RealEnv env({.crowded = true});
  for (const TrapKind kind : usable_traps()) {
    CAPTURE(to_string(kind));
    constexpr std::uint64_t kBudget = 32;
    constexpr std::uint64_t kPages = 4 * kBudget;
    constexpr int kThreads = 3;
    Small small(kind, kPages, kBudget, env);
    HostVm& vm = *small.vm;
    GrantingHandler handler(vm);
    ExactListener listener(vm, kPages);
    std::atomic<bool> stop{false};
    std::atomic<std::uint64_t> wrong{0};
    std::vector<std::thread> threads;
    for (int t = 0; t < kThreads; ++t) {
      threads.emplace_back([&, t] {
        Application app(vm);
        std::minstd_rand random(static_cast<unsigned>(t + 1));
        std::array<std::uint64_t, kPages> mine{};
        for (int step = 0; step < kRounds * 1500; ++step) {
          const std::uint64_t p = random() % kPages;
          const std::uint64_t place = at(p, static_cast<std::uint64_t>(t) * 8);
          if (random() % 16 == 0) handler.set(PageId{p}, static_cast<Access>(random() % 3));
          if (random() % 2 == 0) {
            if (app.load(place) != mine[p]) ++wrong;
          } else {
            app.store(place, ++mine[p]);
          }
        }
        for (std::uint64_t p = 0; p < kPages; ++p) wrong += app.load(at(p, static_cast<std::uint64_t>(t) * 8)) != mine[p] ? 1 : 0;
      });
    }
    // One who works on pinned frames, as the NIC's host side and the protocols do; and one who takes pages away all the time.
    std::thread pinner([&] {
      std::minstd_rand random(99);
      std::array<std::uint64_t, kPages> mine{};
      while (!stop.load()) {
        const std::uint64_t first = random() % (kPages - 4);
        const auto pins = vm.pin({PageId{first}, 1 + random() % 4}, true);
        REQUIRE(pins.has_value());
        for (std::uint64_t p = first; p < pins->pages().end(); ++p) {
          if (frame_word(vm, at(p, 500)).fetch_add(1) != mine[p]) ++wrong;
          ++mine[p];
        }
        if (random() % 8 == 0) vm.prefetch({PageId{first}, 4});
      }
    });
    std::thread evictor([&] {
      std::minstd_rand random(5);
      while (!stop.load()) {
        (void)vm.evict(1 + random() % 8);
        std::this_thread::yield();
      }
    });
    for (std::thread& thread : threads) thread.join();
    stop = true;
    pinner.join();
    evictor.join();
    vm.close();
    CHECK(wrong == 0);
    CHECK(listener.right);
    CHECK(frame_pages_in_use(vm) <= kBudget);
    CHECK(frame_pages_in_use(vm) == vm.resident_pages());
  }
}

TEST_CASE("pager: discarded pages read as zeros, wherever they were, and the store forgets them") {
  RealEnv env;
  for (const TrapKind kind : usable_traps()) {
    CAPTURE(to_string(kind));
    Small small(kind, 64, 16, env);
    HostVm& vm = *small.vm;
    GrantingHandler handler(vm);
    ExactListener listener(vm, 64);
    Application app(vm);
    for (std::uint64_t p = 0; p < 64; ++p) app.store(at(p), p + 1);
    for (std::uint64_t p = 8; p < 56; ++p) handler.set(PageId{p}, Access::none);
    vm.discard({PageId{8}, 48});
    CHECK(small.store->pages_kept() <= 16);
    CHECK(frame_pages_in_use(vm) == vm.resident_pages());
    for (std::uint64_t p = 0; p < 64; ++p) CHECK(app.load(at(p)) == (p >= 8 && p < 56 ? 0 : p + 1));
    CHECK(listener.right);
  }
}
