// The pager alone, with a store whose transfers take their time: fibers use, pin, evict, prefetch and discard pages while others are on their way in and
// out, at every interleaving that the seeds find. And with a store that fails: nothing is lost.
#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "runtime/host_vm.hpp"
#include "runtime/simulator.hpp"
#include "runtime/stats.hpp"
#include "tests/support/frame_check.hpp"
#include "tests/support/memory_backing_store.hpp"
#include "tests/support/seeds.hpp"

namespace netvm::test {
namespace {

constexpr std::uint64_t kBudget = 12;
constexpr std::uint64_t kPages = 4 * kBudget;
constexpr std::uint64_t kWorkers = 4;

/// Grants what is asked for. In the simulator nobody comes between the look and the change.
class Granting final : public FaultHandler {
 public:
  explicit Granting(HostVm& vm) : vm_(vm), access_(vm.pages(), Access::none) { vm.set_fault_handler(this); }
  bool on_fault(PageId page, bool write) noexcept override {
    set(page, std::max(access_[page.value], write ? Access::write : Access::read));
    return true;
  }
  void set(PageId page, Access to) { vm_.set_access({page, 1}, std::exchange(access_[page.value], to), to); }

 private:
  HostVm& vm_;
  std::vector<Access> access_;
};

struct World {
  explicit World(std::uint64_t seed)
      : simulator({.seed = seed}), env(simulator.env(NodeId{0})), store(std::make_shared<MemoryBackingStore>()) {
    std::string why;
    auto made = HostVm::create(
        {.pages = kPages, .budget_pages = kBudget, .store = store, .stats = &stats, .check_frames = frames_are_checked()}, env, &why);
    REQUIRE_MESSAGE(made.has_value(), why);
    vm = std::move(made).value();
    handler = std::make_unique<Granting>(*vm);
    store->take_time(env, 30'000);
  }
  std::uint64_t below(std::uint64_t n) { return env.random() % n; }
  void pause(Nanos longest) {
    const std::atomic<std::uint32_t> never{0};
    const ParkOn word{&never, 0};
    const Nanos until = env.now() + static_cast<Nanos>(below(static_cast<std::uint64_t>(longest))) + 1;
    while (env.now() < until) env.park({&word, 1}, until);
  }
  void start(const char* name, std::function<void()> body) { simulator.start(NodeId{0}, name, std::move(body)); }
  std::uint64_t load(std::uint64_t offset) {
    std::uint64_t value = 0;
    CHECK(vm->checked_load(offset, &value, sizeof value));
    return value;
  }
  std::uint64_t* word(std::uint64_t page, std::uint64_t index) { return reinterpret_cast<std::uint64_t*>(vm->frame(PageId{page})) + index; }
  std::uint64_t finish() {
    const Simulator::Report report = simulator.run();
    CHECK_MESSAGE(report.end == Simulator::End::all_done, report.text);
    return report.trace_hash;
  }

  Simulator simulator;
  Env& env;
  Stats stats;
  std::shared_ptr<MemoryBackingStore> store;
  std::unique_ptr<HostVm> vm;
  std::unique_ptr<Granting> handler;
  std::uint64_t working = kWorkers;
};

// Worker w has word 8 w of each page to itself.
void use_pages(World& world, std::uint64_t w) {
  std::array<std::uint64_t, kPages> mine{};
  for (int step = 0; step < 150; ++step) {
    const std::uint64_t page = world.below(kPages);
    const std::uint64_t offset = page * kPageSize + w * 64;
    if (world.below(8) == 0) world.handler->set(PageId{page}, static_cast<Access>(world.below(3)));
    if (world.below(2) == 0) {
      CHECK(world.load(offset) == mine[page]);
    } else {
      ++mine[page];
      CHECK(world.vm->checked_store(offset, &mine[page], sizeof mine[page]));
    }
    if (world.below(4) == 0) world.pause(5'000);
  }
  for (std::uint64_t page = 0; page < kPages; ++page) CHECK(world.load(page * kPageSize + w * 64) == mine[page]);
  --world.working;
}

void pin_pages(World& world) {
  std::array<std::uint64_t, kPages> mine{};
  while (world.working > 0) {
    const std::uint64_t first = world.below(kPages - 3);
    const auto pins = world.vm->pin({PageId{first}, 1 + world.below(3)}, true);
    REQUIRE(pins.has_value());
    for (std::uint64_t page = first; page < pins->pages().end(); ++page) {
      CHECK((*world.word(page, 500))++ == mine[page]);
      ++mine[page];
    }
    world.pause(20'000);
    for (std::uint64_t page = first; page < pins->pages().end(); ++page) CHECK(*world.word(page, 500) == mine[page]);
  }
}

std::uint64_t run_mix(std::uint64_t seed) {
  World world(seed);
  for (std::uint64_t w = 0; w < kWorkers; ++w) world.start("worker", [&world, w] { use_pages(world, w); });
  world.start("pinner", [&world] { pin_pages(world); });
  world.start("evictor", [&world] {
    while (world.working > 0) {
      world.pause(40'000);
      world.simulator.trace(world.vm->evict(1 + world.below(6)));
      if (world.below(3) == 0) world.vm->prefetch({PageId{world.below(kPages - 4)}, 4});
      CHECK(world.vm->resident_pages() <= kBudget + 3);
    }
  });
  const std::uint64_t hash = world.finish();
  CHECK(world.stats.get(Stat::page_ins) > kPages);
  return hash;
}

TEST_CASE("pages are used, pinned, evicted and prefetched while transfers are under way") {
  for_each_seed(60, [](std::uint64_t seed) {
    const std::uint64_t hash = run_mix(seed);
    if (seed % 10 == 0) CHECK(run_mix(seed) == hash);
  });
}

TEST_CASE("pages are discarded while others bring them in, and begin again as zeros") {
  for_each_seed(40, [](std::uint64_t seed) {
    World world(seed);
    world.working = 2;
    for (std::uint64_t w = 0; w < 2; ++w) {
      // Each owns half of the pages, and makes and discards contents; the other one and the prefetcher only bring them in.
      world.start("owner", [&world, w] {
        for (int round = 0; round < 30; ++round) {
          const PageRange pages{PageId{w * (kPages / 2) + world.below(kPages / 4)}, 1 + world.below(kPages / 4)};
          for (std::uint64_t p = pages.first.value; p < pages.end(); ++p) {
            CHECK(world.load(p * kPageSize) == 0);
            const std::uint64_t value = p + 1;
            CHECK(world.vm->checked_store(p * kPageSize, &value, sizeof value));
          }
          world.pause(20'000);
          for (std::uint64_t p = pages.first.value; p < pages.end(); ++p) {
            CHECK(world.load(p * kPageSize) == p + 1);
            world.handler->set(PageId{p}, Access::none);
          }
          world.vm->discard(pages);
        }
        --world.working;
      });
    }
    world.start("prefetcher", [&world] {
      while (world.working > 0) {
        world.pause(10'000);
        (void)world.vm->make_resident({PageId{world.below(kPages - 4)}, 4});
      }
    });
    (void)world.finish();
    CHECK(world.store->pages_kept() <= kPages);
  });
}

TEST_CASE("a store that fails now and then loses nothing") {
  for_each_seed(60, [](std::uint64_t seed) {
    World world(seed);
    std::array<std::uint64_t, kPages> sum{};
    std::uint64_t refused = 0;
    for (std::uint64_t w = 0; w < kWorkers; ++w) {
      world.start("worker", [&] {
        for (int step = 0; step < 150; ++step) {
          const std::uint64_t page = world.below(kPages);
          auto pins = world.vm->pin({PageId{page}, 1}, true);
          if (!pins) {
            CHECK(pins.status() == Status::fault_failed);
            ++refused;
            continue;
          }
          CHECK(*world.word(page, 3) == sum[page]);
          *world.word(page, 3) = ++sum[page];
          if (world.below(3) == 0) {
            world.pause(10'000);
            pins->release();
          }
        }
        --world.working;
      });
    }
    world.start("trouble", [&world] {
      while (world.working > 0) {
        world.store->room = world.below(2) == 0 ? UINT64_MAX : world.below(kPages);
        world.store->bad_write = world.below(3) == 0 ? world.below(kPages) : UINT64_MAX;
        world.store->bad_read = world.below(3) == 0 ? world.below(kPages) : UINT64_MAX;
        world.pause(200'000);
      }
      world.store->room = world.store->bad_write = world.store->bad_read = UINT64_MAX;
      for (std::uint64_t page = 0; page < kPages; ++page) CHECK(world.vm->make_resident({PageId{page}, 1}) == Status::ok);
    });
    world.start("judge", [&] {
      while (world.working > 0) world.pause(100'000);
      world.pause(10'000'000);
      for (std::uint64_t page = 0; page < kPages; ++page) {
        const auto pins = world.vm->pin({PageId{page}, 1}, false);
        REQUIRE(pins.has_value());
        CHECK(*world.word(page, 3) == sum[page]);
      }
    });
    (void)world.finish();
    world.simulator.trace(refused);
  });
}

}  // namespace
}  // namespace netvm::test
