// Small litmus tests in every order of events, or in as many orders as the budget allows, for all protocols; and each canary is noticed.
#include <doctest/doctest.h>
#include <fmt/format.h>

#include <cstdio>
#include <string>

#include "tests/model/explorer.hpp"
#include "tests/model/options.hpp"
#include "tests/model/programs.hpp"
#include "tests/support/canaries.hpp"
#include "tests/support/seeds.hpp"

namespace netvm::model {
namespace {

constexpr std::uint64_t kRuns = 25;        // of each test and set-up, at every commit
constexpr std::uint64_t kCanaryRuns = 25;  // of each test, set-up and seed
constexpr std::uint64_t kCanarySeeds = 3;  // with --runs; at every commit one: what is noticed at all is noticed with the first

std::string replay_command(std::string_view protocol, const litmus::Litmus& litmus, std::size_t setup, const std::string& choices) {
  return fmt::format("{} --test-case='*every order*' --protocol={} --program='{}' --setup={} --draws={} --choices={}", options().program,
                     protocol, litmus.name, setup, options().draws, choices);
}

bool wanted(const litmus::Litmus& litmus, std::size_t setup) {
  if (!is_small(litmus) || litmus.name.find(options().litmus) == std::string_view::npos) return false;
  // What a litmus test says of its own layout makes some set-ups the same.
  const bool repeated = litmus.spread != litmus::Spread::any && setups()[setup].spread == litmus::Spread::apart;
  return options().setup < 0 ? !repeated : options().setup == static_cast<int>(setup);
}

template <class Visit>
void for_each_program(Visit&& visit) {
  for (const litmus::Litmus& litmus : litmus::table()) {
    for (std::size_t setup = 0; setup < setups().size(); ++setup) {
      if (wanted(litmus, setup)) visit(litmus, setup);
    }
  }
}

struct Sum {
  std::uint64_t programs = 0;
  std::uint64_t complete = 0;
  std::uint64_t runs = 0;
  std::uint64_t redundant = 0;
  std::uint64_t steps = 0;
};

void explore_all(std::string_view protocol) {
  Sum sum;
  for_each_program([&](const litmus::Litmus& litmus, std::size_t setup) {
    const Execution execute = execution(litmus, setups()[setup], {protocol, nullptr, options().draws});
    INFO("replay with: ", replay_command(protocol, litmus, setup, current_choices()));  // of the run that is going on, should it stop here
    if (options().has_choices) {
      std::string failure;
      REQUIRE_MESSAGE(replay(execute, options().choices, &failure), "--choices= takes what a failure printed");
      CHECK_MESSAGE(failure.empty(), failure);
      return;
    }
    const Result result = explore(execute, options().runs != 0 ? options().runs : kRuns);
    CHECK_MESSAGE(result.failure.empty(), litmus.name << ", " << setups()[setup].text << ": " << result.failure
                                                      << "\nreplay with: " << replay_command(protocol, litmus, setup, result.choices));
    if (options().runs != 0) {
      std::printf("  %-14s %-44s set-up %zu: %llu runs (%llu redundant), at most %llu events, %s\n", std::string(protocol).c_str(),
                  std::string(litmus.name).c_str(), setup, static_cast<unsigned long long>(result.runs),
                  static_cast<unsigned long long>(result.redundant), static_cast<unsigned long long>(result.longest),
                  result.complete ? "all orders" : fmt::format("all with fewer than {} reversals", result.reversals).c_str());
    }
    ++sum.programs;
    sum.complete += result.complete ? 1 : 0;
    sum.runs += result.runs;
    sum.redundant += result.redundant;
    sum.steps += result.steps;
  });
  MESSAGE(std::string(protocol), ": ", sum.runs, " runs (", sum.redundant, " redundant), ", sum.steps, " events; of ", sum.programs,
          " programs ", sum.complete, " in all orders");
}

TEST_CASE("every order of events of small programs: protocols show only what they may, and end") { test::for_each_protocol(explore_all); }

// The number of runs after which the canary is noticed; 0 if it is not.
std::uint64_t runs_until_noticed(const test::Canary& canary, std::string* by) {
  std::uint64_t runs = 0;
  bool noticed = false;
  const std::uint64_t seeds = options().runs != 0 ? kCanarySeeds : 1;
  for (std::uint64_t seed = 1; seed <= seeds && !noticed; ++seed) {
    for_each_program([&](const litmus::Litmus& litmus, std::size_t setup) {
      if (noticed) return;
      const Result result = explore(execution(litmus, setups()[setup], {canary.protocol, canary.make, seed}),
                                    options().runs != 0 ? options().runs : kCanaryRuns);
      runs += result.runs;
      noticed = !result.failure.empty();
      if (noticed) *by = fmt::format("\"{}\", {}: {}", litmus.name, setups()[setup].text, result.failure.substr(0, 120));
    });
  }
  return noticed ? runs : 0;
}

TEST_CASE("protocols with a bug are noticed in some order") {
  test::for_each_protocol([](std::string_view protocol) {
    std::uint64_t noticed = 0;
    std::uint64_t all = 0;
    for (const test::Canary& canary : test::canaries()) {
      if (canary.protocol != protocol) continue;
      std::string by;
      const std::uint64_t runs = runs_until_noticed(canary, &by);
      ++all;
      if (runs != 0) ++noticed;
      const std::string name = fmt::format("{} that {}", canary.protocol, canary.what);
      MESSAGE(name, runs != 0 ? ": noticed in run " + std::to_string(runs) + " by " + by : ": not noticed: needs a larger program");
    }
    // What goes wrong with bound data shows after three hand-overs of a lock at the earliest: more than these bounds reach. Random programs notice it
    // (tests/simulation/canaries.cpp).
    if (protocol == "entry") return;
    CHECK_MESSAGE((all == 0 || noticed > 0), protocol << ": none of its " << all << " canaries was noticed");
  });
}

}  // namespace
}  // namespace netvm::model
