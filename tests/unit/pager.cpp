// The pager: memory larger than the budget, on every trap that this machine has; pins; who is told; what is saved and what is not.
#include "runtime/pager.hpp"

#include <sys/stat.h>

#include <cstring>
#include <ctime>
#include <functional>
#include <random>
#include <thread>

#include "host_vm_fixture.hpp"
#include "tests/support/memory_backing_store.hpp"

using namespace netvm;
using namespace netvm::test;

namespace {

#if NETVM_TSAN
constexpr int kRounds = 1;
#else
constexpr int kRounds = 4;
#endif

std::uint64_t frame_pages_in_use(const HostVm& vm) {
  struct stat info {};
  REQUIRE(::fstat(vm.frames_fd(), &info) == 0);
  return static_cast<std::uint64_t>(info.st_blocks) * 512 / kPageSize;
}

struct Small {
  Small(TrapKind kind, std::uint64_t pages, std::uint64_t budget, Env& env) : store(std::make_shared<MemoryBackingStore>()) {
    std::string why;
    auto made = HostVm::create(
        {.pages = pages, .base = next_base(kind), .trap = kind, .budget_pages = budget, .store = store, .stats = &stats}, env, &why);
    REQUIRE_MESSAGE(made.has_value(), why);
    vm = std::move(made).value();
  }
  Stats stats;
  std::shared_ptr<MemoryBackingStore> store;
  std::unique_ptr<HostVm> vm;
};

std::uint64_t at(std::uint64_t page, std::uint64_t word = 0) { return page * kPageSize + word * 8; }

/// Counts pages in and out and checks that each page alternates; answers take_use() with what the test says.
class ExactListener final : public ResidencyListener {
 public:
  ExactListener(HostVm& vm, std::uint64_t pages) : vm_(&vm), mapped_(pages), use_(pages) {
    vm.set_residency_listener(this);
    for (auto& use : use_) use.store(0);
  }
  ~ExactListener() override { vm_->set_residency_listener(nullptr); }
  void on_map(PageRange pages) noexcept override {
    for (std::uint64_t p = pages.first.value; p < pages.end(); ++p) right = !mapped_[p].exchange(true) && right;
  }
  void on_unmap(PageRange pages) noexcept override {
    for (std::uint64_t p = pages.first.value; p < pages.end(); ++p) right = mapped_[p].exchange(false) && right;
    ++unmaps;
    if (at_unmap) at_unmap(pages);
  }
  void on_unmap_all(std::span<const PageRange> ranges) noexcept override {
    ++batches;
    ResidencyListener::on_unmap_all(ranges);
  }
  PageUse take_use(PageId page) noexcept override {
    const int use = use_[page.value].exchange(0);
    return {(use & 1) != 0, (use & 2) != 0};
  }
  void use(std::uint64_t page, bool written) { use_[page].fetch_or(written ? 3 : 1); }
  [[nodiscard]] bool mapped(std::uint64_t page) const { return mapped_[page].load(); }

  std::atomic<bool> right{true};
  std::atomic<int> unmaps{0};
  std::atomic<int> batches{0};
  std::function<void(PageRange)> at_unmap;  ///< what the NIC still does before it is drained

 private:
  HostVm* vm_;
  std::vector<std::atomic<bool>> mapped_;
  std::vector<std::atomic<int>> use_;
};

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

TEST_CASE("pager: pinned pages stay, pins nest, and too many are refused") {
  RealEnv env;
  Small small(TrapKind::checked, 64, 16, env);
  HostVm& vm = *small.vm;
  GrantingHandler handler(vm);
  Application app(vm);
  auto first = vm.pin({PageId{3}, 2}, true);
  REQUIRE(first.has_value());
  auto second = vm.pin({PageId{4}, 1}, false);
  frame_word(vm, at(3)).store(33);
  frame_word(vm, at(4)).store(44);
  for (std::uint64_t p = 8; p < 64; ++p) app.store(at(p), p);
  CHECK(vm.resident(PageId{3}));
  CHECK(vm.resident(PageId{4}));
  first->release();
  CHECK(vm.evict(64) > 0);
  CHECK_FALSE(vm.resident(PageId{3}));
  CHECK(vm.resident(PageId{4}));
  second->release();
  CHECK(vm.evict(64) == 1);
  CHECK(vm.resident_pages() == 0);
  CHECK(frame_pages_in_use(vm) == 0);
  CHECK(app.load(at(3)) == 33);  // pinned for writing, so saved
  CHECK(app.load(at(4)) == 44);
  CHECK(vm.pin({PageId{0}, 5}, false).status() == Status::exhausted);
  CHECK(vm.most_pins() == 4);
  CHECK(vm.pin({PageId{63}, 2}, false).status() == Status::range);
}

TEST_CASE("pager: try_pin takes what is there and what costs no I/O, and nothing else") {
  RealEnv env;
  Small small(TrapKind::checked, 64, 8, env);
  HostVm& vm = *small.vm;
  CHECK(vm.try_pin({PageId{0}, 4}, true).holds());  // zeros, and there is room
  frame_word(vm, at(0)).store(1);
  CHECK(vm.evict(8) == 4);
  CHECK_FALSE(vm.try_pin({PageId{0}, 1}, false).holds());  // would have to be read
  CHECK(vm.make_resident({PageId{8}, 8}) == Status::ok);
  CHECK_FALSE(vm.try_pin({PageId{20}, 1}, false).holds());  // would have to evict
  CHECK(vm.try_pin({PageId{8}, 8}, false).holds());
  CHECK(vm.evict(1) == 1);
  CHECK(vm.try_pin({PageId{20}, 1}, false).holds());
}

TEST_CASE("pager: where everything is pinned the budget gives way, and is kept again afterwards") {
  RealEnv env;
  Small small(TrapKind::checked, 64, 8, env);
  HostVm& vm = *small.vm;
  std::vector<FramePins> pins;
  for (std::uint64_t p = 0; p < 12; ++p) pins.push_back(vm.pin({PageId{p}, 1}, true).value());
  CHECK(vm.resident_pages() == 12);
  pins.clear();
  CHECK(vm.make_resident({PageId{20}, 1}) == Status::ok);
  CHECK(vm.resident_pages() <= 8);
}

TEST_CASE("pager: wired pages stay and are not counted") {
  RealEnv env;
  Small small(TrapKind::checked, 128, 8, env);
  HostVm& vm = *small.vm;
  vm.wire({PageId{0}, 32});
  CHECK(vm.make_resident({PageId{0}, 20}) == Status::ok);
  CHECK(vm.resident_pages() == 0);
  CHECK(vm.pin({PageId{0}, 32}, true).has_value());
  CHECK(vm.make_resident({PageId{30}, 60}) == Status::ok);
  CHECK(vm.resident_pages() <= 8);
  CHECK(vm.evict(100) == 8);
  for (std::uint64_t p = 0; p < 32; ++p) CHECK(vm.resident(PageId{p}));
}

TEST_CASE("pager: what the NIC uses stays longer, and what it wrote is saved") {
  RealEnv env;
  Small small(TrapKind::checked, 64, 16, env);
  HostVm& vm = *small.vm;
  ExactListener listener(vm, 64);
  CHECK(vm.make_resident({PageId{0}, 16}) == Status::ok);
  for (std::uint64_t p = 0; p < 16; p += 2) listener.use(p, p % 4 == 0);
  for (std::uint64_t p = 0; p < 16; p += 4) frame_word(vm, at(p)).store(p + 1);
  CHECK(vm.evict(8) == 8);
  for (std::uint64_t p = 0; p < 16; ++p) CHECK(vm.resident(PageId{p}) == (p % 2 == 0));
  CHECK(small.store->pages_written == 0);
  CHECK(vm.evict(8) == 8);
  CHECK(small.store->pages_written == 4);
  CHECK(vm.make_resident({PageId{0}, 16}) == Status::ok);
  for (std::uint64_t p = 0; p < 16; p += 4) CHECK(frame_word(vm, at(p)).load() == p + 1);
}

TEST_CASE("pager: what the NIC writes until it has let go of a page is saved") {
  RealEnv env;
  Small small(TrapKind::checked, 64, 16, env);
  HostVm& vm = *small.vm;
  ExactListener listener(vm, 64);
  CHECK(vm.make_resident({PageId{0}, 4}) == Status::ok);
  listener.at_unmap = [&](PageRange pages) {
    for (std::uint64_t p = pages.first.value; p < pages.end(); ++p) {
      frame_word(vm, at(p)).store(p + 9);
      listener.use(p, true);
    }
  };
  CHECK(vm.evict(4) == 4);
  listener.at_unmap = nullptr;
  CHECK(vm.make_resident({PageId{0}, 4}) == Status::ok);
  for (std::uint64_t p = 0; p < 4; ++p) CHECK(frame_word(vm, at(p)).load() == p + 9);
}

TEST_CASE("pager: a page in use survives a scan of many others") {
  RealEnv env;
  for (const TrapKind kind : usable_traps()) {
    CAPTURE(to_string(kind));
    Small small(kind, 1024, 64, env);
    GrantingHandler handler(*small.vm);
    Application app(*small.vm);
    for (std::uint64_t p = 0; p < 1024; ++p) {
      app.store(at(p), p);
      for (std::uint64_t hot = 0; hot < 8; ++hot) (void)app.load(at(hot));
    }
    CHECK(small.stats.get(Stat::second_chances) > 0);
    // Of the hot pages none is lost but by the first evictions, which know nothing yet; of the others none is asked for again.
    CHECK(small.stats.get(Stat::page_ins) <= 16);
  }
}

TEST_CASE("pager: a range comes in by few transfers, neighbours go out together") {
  RealEnv env;
  Small small(TrapKind::checked, 256, 128, env);
  HostVm& vm = *small.vm;
  {
    for (std::uint64_t p = 0; p < 64; p += 16) (void)vm.pin({PageId{p}, 16}, true);
  }
  CHECK(vm.evict(64) == 64);
  CHECK(small.store->transfers == 2);
  CHECK(vm.make_resident({PageId{0}, 64}) == Status::ok);
  CHECK(small.store->transfers == 3);
}

TEST_CASE("pager: prefetch brings pages in by itself, and no more than the budget bears") {
  RealEnv env;
  Small small(TrapKind::checked, 256, 64, env);
  HostVm& vm = *small.vm;
  for (std::uint64_t p = 0; p < 256; p += 16) (void)vm.pin({PageId{p}, 16}, true);
  (void)vm.evict(64);
  vm.prefetch({PageId{100}, 150});
  vm.close();  // waits for it
  CHECK(vm.resident_pages() == 32);
  for (std::uint64_t p = 100; p < 132; ++p) CHECK(vm.resident(PageId{p}));
  vm.prefetch({PageId{0}, 8});  // closed: nothing happens
  CHECK(vm.resident_pages() == 32);
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

TEST_CASE("pager: a full store loses nothing: pages stay, the one who needs room is told") {
  RealEnv env;
  Small small(TrapKind::checked, 64, 8, env);
  HostVm& vm = *small.vm;
  GrantingHandler handler(vm);
  Application app(vm);
  for (std::uint64_t p = 0; p < 8; ++p) app.store(at(p), p + 1);
  small.store->room = 0;
  CHECK(vm.make_resident({PageId{20}, 1}) == Status::fault_failed);
  CHECK(vm.pin({PageId{20}, 1}, true).status() == Status::fault_failed);
  CHECK(std::string(vm.failure().text).find("No space left") != std::string::npos);
  CHECK(std::string(vm.failure().text).find("the store of a test") != std::string::npos);
  CHECK(vm.resident_pages() == 8);
  for (std::uint64_t p = 0; p < 8; ++p) CHECK(app.load(at(p)) == p + 1);
  // Somebody makes room on the disk: it goes on.
  small.store->room = 100;
  for (std::uint64_t p = 8; p < 64; ++p) app.store(at(p), p + 1);
  for (std::uint64_t p = 0; p < 64; ++p) CHECK(app.load(at(p)) == p + 1);
}

TEST_CASE("pager: a full store still lets go of what it has already") {
  RealEnv env;
  Small small(TrapKind::checked, 64, 8, env);
  HostVm& vm = *small.vm;
  GrantingHandler handler(vm);
  Application app(vm);
  for (std::uint64_t p = 0; p < 16; ++p) app.store(at(p), p + 1);
  CHECK(vm.evict(8) == 8);
  small.store->room = 0;
  for (int round = 0; round < 3; ++round) {
    for (std::uint64_t p = 0; p < 16; ++p) CHECK(app.load(at(p)) == p + 1);
  }
}

TEST_CASE("pager: one page that cannot be written stays, the others go") {
  RealEnv env;
  Small small(TrapKind::checked, 64, 8, env);
  HostVm& vm = *small.vm;
  GrantingHandler handler(vm);
  Application app(vm);
  small.store->bad_write = 3;
  for (std::uint64_t p = 0; p < 3; ++p) app.store(at(p), p + 1);
  app.store(at(3), 4);
  for (std::uint64_t p = 4; p < 8; ++p) app.store(at(p), p + 1);
  CHECK(vm.evict(8) >= 3);
  CHECK(vm.resident(PageId{3}));
  CHECK(app.load(at(3)) == 4);
  small.store->bad_write = UINT64_MAX;
  CHECK(vm.evict(8) > 0);
  for (std::uint64_t p = 0; p < 8; ++p) CHECK(app.load(at(p)) == p + 1);
}

TEST_CASE("pager: a page that cannot be read fails for who asks, and comes back when it can") {
  RealEnv env;
  Small small(TrapKind::checked, 64, 8, env);
  HostVm& vm = *small.vm;
  GrantingHandler handler(vm);
  Application app(vm);
  for (std::uint64_t p = 0; p < 8; ++p) app.store(at(p), p + 1);
  CHECK(vm.evict(8) == 8);
  small.store->bad_read = 5;
  CHECK(vm.make_resident({PageId{4}, 4}) == Status::fault_failed);
  CHECK(vm.pin({PageId{5}, 1}, false).status() == Status::fault_failed);
  CHECK(std::string(vm.failure().text).find("reading page 5 from the store of a test at offset 20480") != std::string::npos);
  CHECK(frame_pages_in_use(vm) == vm.resident_pages());
  CHECK(app.load(at(4)) == 5);
  small.store->bad_read = UINT64_MAX;
  CHECK(app.load(at(5)) == 6);
}

TEST_CASE("pager: an access to a page that cannot be brought back ends the process with a message") {
  RealEnv env;
  for (const TrapKind kind : usable_traps()) {
    CAPTURE(to_string(kind));
    const ChildEnd end = run_child([&] {
      Small small(kind, 64, 8, env);
      GrantingHandler handler(*small.vm);
      Application app(*small.vm);
      app.store(at(2), 3);
      (void)small.vm->evict(8);
      small.store->bad_read = 2;
      return static_cast<int>(app.load(at(2)));
    });
    CHECK(end.killed_by(SIGABRT));
    CHECK(end.output.find("page 2 cannot be brought in: reading page 2 from the store of a test at offset 8192: Input/output error") !=
          std::string::npos);
  }
}

// Of this thread: other load does not show in it.
static Nanos processor_time() {
  timespec t{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return static_cast<Nanos>(t.tv_sec) * 1'000'000'000 + t.tv_nsec;
}

// Figures for docs/decisions/0007-pager.md: netvm_unit --no-skip --test-case='pager: figures'. Nothing is asserted of them.
TEST_CASE("pager: figures" * doctest::skip()) {
  RealEnv env;
  for (const TrapKind kind : usable_traps()) {
    constexpr std::uint64_t kBudget = 4096;
    constexpr std::uint64_t kPages = 4 * kBudget;
    Stats stats;
    std::string why;
    auto made =
        HostVm::create({.pages = kPages, .base = next_base(kind), .trap = kind, .budget_pages = kBudget, .stats = &stats}, env, &why);
    REQUIRE_MESSAGE(made.has_value(), why);
    HostVm& vm = **made;
    GrantingHandler handler(vm);
    Application app(vm);
    const auto per_page = [&](const char* what, std::uint64_t pages, auto&& body) {
      const Nanos began = processor_time();
      body();
      MESSAGE(std::string(to_string(kind)), ", ", std::string(what), ": ", (processor_time() - began) / static_cast<Nanos>(pages), " ns");
    };
    for (std::uint64_t p = 0; p < kPages; ++p) handler.set(PageId{p}, Access::write);
    per_page("first write, with room", kBudget, [&] {
      for (std::uint64_t p = 0; p < kBudget; ++p) app.store(at(p), p);
    });
    per_page("first write, each evicting and saving another", kPages - kBudget, [&] {
      for (std::uint64_t p = kBudget; p < kPages; ++p) app.store(at(p), p);
    });
    per_page("read in order, each evicting another that must be saved", kBudget, [&] {
      for (std::uint64_t p = 0; p < kBudget; ++p) (void)app.load(at(p));
    });
    per_page("read in order, each evicting a clean one", kPages, [&] {
      for (int i = 0; i < 2; ++i) {
        for (std::uint64_t p = 0; p < kPages / 2; ++p) (void)app.load(at(p));
      }
    });
    per_page("brought in by 64 at once, evicting clean ones", kPages, [&] {
      for (std::uint64_t p = 0; p < kPages; p += 64) (void)vm.make_resident({PageId{p}, 64});
    });
    // Every page of the budget in turn, with now and then one from outside: what the queues cost those who fit.
    const std::uint64_t chances = stats.get(Stat::second_chances);
    const std::uint64_t page_ins = stats.get(Stat::page_ins);
    for (std::uint64_t p = 0; p < kBudget / 2; ++p) (void)app.load(at(p));
    per_page("a use of a page that fits, beside a scan of all others", 4 * (kPages - kBudget), [&] {
      for (std::uint64_t p = kBudget; p < kPages; ++p) {
        (void)app.load(at(p));
        for (std::uint64_t i = 0; i < 4; ++i) (void)app.load(at((p * 4 + i) % (kBudget / 2)));
      }
    });
    MESSAGE(std::string(to_string(kind)), ", in that: ", stats.get(Stat::second_chances) - chances, " second chances, ",
            stats.get(Stat::page_ins) - page_ins - (kPages - kBudget), " page-ins of pages that fit");
  }
}
