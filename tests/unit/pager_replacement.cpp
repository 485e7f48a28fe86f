// The pager: which pages go and which stay, what is saved of them, and in how many transfers.

#include <ctime>

#include "pager_fixture.hpp"

using namespace netvm;
using namespace netvm::test;

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
