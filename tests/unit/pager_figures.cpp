// The pager: figures for docs/decisions/0007-pager.md.
#include <ctime>

#include "pager_fixture.hpp"

using namespace netvm;
using namespace netvm::test;

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
