// Seeds: runs a test's body for many seeds, and makes every failure print the one command that replays it.
//
// How many and which: `--seeds=N` (N seeds instead of the test's own number), `--first-seed=S` (from there on), `--seed=S` (that one alone), or
// TEST_SEEDS and TEST_SEED in the environment. Without any, a run takes seeds 1, 2, 3, ...: the same each time; with a sanitizer, which is to look at every path rather than
// at every order of events, fewer of them (kSanitizedSeeds).
// Where threads interleave as the machine likes (tests on real threads), `--times=N` runs each seed so often, and the command that replays a failure has it.
// Tests of all coherence protocols (for_each_protocol) run those that `--protocol=NAME,...` names; all of them without it.
#pragma once

#include <doctest/doctest.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "dsm/protocol.hpp"
#include "runtime/check.hpp"
#include "runtime/sanitizers.hpp"

namespace netvm::test {

inline constexpr const char* kSeedFlagsHelp =
    "--seeds=, --first-seed= and --seed= take a number, for instance --seeds=2000 or --seed=17; --times= how often each seed; --protocol= "
    "names of protocols";

struct SeedOptions {
  std::string program = "netvm_simulation";
  std::uint64_t seeds = 0;                  ///< 0: each test's own number
  std::uint64_t seed = 0;                   ///< not 0: this one alone
  std::uint64_t first = 1;                  ///< where a run of several begins
  std::uint64_t times = 1;                  ///< how often each
  bool interleaves = false;                 ///< a seed does not say everything: the machine's threads run as they like
  std::vector<std::string> protocols = {};  ///< empty: all
  std::string protocol = {};                ///< the one that runs now
  std::string command = {};                 ///< replays what runs now
};

/// A number, or false: anything else is a mistake that must not pass for "no seed given".
inline bool parse_seed(std::string_view text, std::uint64_t* to) {
  const std::string copy(text);
  char* end = nullptr;
  const std::uint64_t value = std::strtoull(copy.c_str(), &end, 0);
  if (copy.empty() || copy[0] == '-' || *end != '\0') return false;
  *to = value;
  return true;
}

inline SeedOptions& seed_options() {
  static SeedOptions options = [] {
    SeedOptions made;
    const char* seeds = std::getenv("TEST_SEEDS");
    const char* seed = std::getenv("TEST_SEED");
    NETVM_CHECK(seeds == nullptr || parse_seed(seeds, &made.seeds), "TEST_SEEDS=%s is not a number", seeds);
    NETVM_CHECK(seed == nullptr || parse_seed(seed, &made.seed), "TEST_SEED=%s is not a number", seed);
    return made;
  }();
  return options;
}

/// "a,b" -> a and b. False if one of them is no protocol.
inline bool parse_protocols(std::string_view names, std::vector<std::string>* to) {
  while (!names.empty()) {
    const std::size_t comma = std::min(names.find(','), names.size());
    to->emplace_back(names.substr(0, comma));
    if (dsm::find_protocol(to->back()) < 0) return false;
    names.remove_prefix(std::min(comma + 1, names.size()));
  }
  return true;
}

/// Takes --seeds=N, --first-seed=S, --seed=S, --times=N and --protocol=NAME,... out of the arguments. False if one makes no sense: kSeedFlagsHelp says what does.
inline bool take_seed_flags(int* argc, char** argv) {
  SeedOptions& options = seed_options();
  if (*argc > 0) options.program = argv[0];
  int kept = 0;
  for (int i = 0; i < *argc; ++i) {
    const std::string_view argument = argv[i];
    if (argument.starts_with("--seeds=")) {
      if (!parse_seed(argument.substr(8), &options.seeds)) return false;
    } else if (argument.starts_with("--first-seed=")) {
      if (!parse_seed(argument.substr(13), &options.first)) return false;
    } else if (argument.starts_with("--seed=")) {
      if (!parse_seed(argument.substr(7), &options.seed)) return false;
    } else if (argument.starts_with("--times=")) {
      if (!parse_seed(argument.substr(8), &options.times)) return false;
    } else if (argument.starts_with("--protocol=")) {
      if (!parse_protocols(argument.substr(11), &options.protocols)) return false;
    } else {
      argv[kept++] = argv[i];
    }
  }
  *argc = kept;
  argv[kept] = nullptr;
  return true;
}

/// The command that runs the test case that is running now, with one seed.
inline std::string replay_command(std::uint64_t seed) {
  std::string name;
  for (const char* c = doctest::getContextOptions()->currentTest->m_name; *c != '\0'; ++c) {
    if (*c == ',') name += '\\';  // a comma separates filters
    if (*c == '\'') {
      name += '?';  // doctest's wildcard for one character: no quoting within quotes
    } else {
      name += *c;
    }
  }
  const std::string protocol = seed_options().protocol.empty() ? "" : " --protocol=" + seed_options().protocol;
  const std::string command = seed_options().program + " --test-case='" + name + "' --seed=" + std::to_string(seed) + protocol;
  if (!seed_options().interleaves) return command;
  return command + " --times=500   (the same program; the machine's threads interleave differently each time)";
}

/// One of so many seeds runs with a sanitizer. The thread sanitizer's need more: with threads each run is another order.
inline constexpr std::uint64_t kSanitizedSeeds = NETVM_ASAN ? 6 : NETVM_TSAN ? 3 : 1;

/// Calls body(seed) for each seed of this run; `own_number` seeds (with a sanitizer fewer) unless the run says otherwise. A failure (a CHECK, a REQUIRE, an
/// abort) inside prints the command that replays it.
template <class Body>
void for_each_seed(std::uint64_t own_number, Body&& body) {
  const SeedOptions& options = seed_options();
  const std::uint64_t first = options.seed != 0 ? options.seed : options.first;
  const std::uint64_t usual = (own_number + kSanitizedSeeds - 1) / kSanitizedSeeds;
  const std::uint64_t count = options.seed != 0 ? 1 : options.seeds != 0 ? options.seeds : usual;
  for (std::uint64_t seed = first; seed < first + count; ++seed) {
    const std::string command = replay_command(seed);
    seed_options().command = command;
    INFO("replay with: ", command);
    check_context().seed = seed;
    for (std::uint64_t time = 0; time < options.times; ++time) body(seed);
  }
  check_context().seed = 0;
  seed_options().command.clear();
}

/// Calls body(name) for each protocol of this run that `wanted(traits)` takes.
template <class Body, class Wanted>
void for_each_protocol(Body&& body, Wanted&& wanted) {
  SeedOptions& options = seed_options();
  for (const dsm::ProtocolEntry& entry : dsm::protocols()) {
    const std::string name(entry.traits.name);
    const bool chosen =
        options.protocols.empty() || std::find(options.protocols.begin(), options.protocols.end(), name) != options.protocols.end();
    if (!chosen || !wanted(entry.traits)) continue;
    INFO("protocol ", name);
    options.protocol = name;
    body(entry.traits.name);
  }
  options.protocol.clear();
}
template <class Body>
void for_each_protocol(Body&& body) {
  for_each_protocol(body, [](const dsm::Traits&) { return true; });
}

}  // namespace netvm::test
