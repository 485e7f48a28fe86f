// netvm_model: doctest's own flags, --protocol=NAME, and
//   --runs=N                 at most so many runs of each litmus test and set-up (without it few enough for every commit)
//   --program=TEXT           only litmus tests whose name holds it
//   --setup=I                only that set-up
//   --draws=S                the seed of what a protocol draws
//   --choices=3:1,17:2       one run again, as a failure printed it; with --program and --setup
#define DOCTEST_CONFIG_IMPLEMENT
#include <doctest/doctest.h>

#include <cstdio>
#include <string_view>

#include "tests/model/options.hpp"
#include "tests/support/seeds.hpp"

namespace {

// Takes the flags out of the arguments. False if one makes no sense.
bool take_flags(int* argc, char** argv) {
  netvm::model::Options& options = netvm::model::options();
  options.program = argv[0];
  int kept = 0;
  for (int i = 0; i < *argc; ++i) {
    const std::string_view argument = argv[i];
    const auto value_of = [argument](std::string_view flag, std::string_view* value) {
      if (!argument.starts_with(flag)) return false;
      *value = argument.substr(flag.size());
      return true;
    };
    std::string_view value;
    std::uint64_t number = 0;
    if (value_of("--runs=", &value)) {
      if (!netvm::test::parse_seed(value, &options.runs)) return false;
    } else if (value_of("--draws=", &value)) {
      if (!netvm::test::parse_seed(value, &options.draws)) return false;
    } else if (value_of("--setup=", &value)) {
      if (!netvm::test::parse_seed(value, &number)) return false;
      options.setup = static_cast<int>(number);
    } else if (value_of("--program=", &value)) {
      options.litmus = value;
    } else if (value_of("--choices=", &value)) {
      options.choices = value;
      options.has_choices = true;
    } else {
      argv[kept++] = argv[i];
    }
  }
  *argc = kept;
  argv[kept] = nullptr;
  return netvm::test::take_seed_flags(argc, argv);
}

}  // namespace

int main(int argc, char** argv) {
  if (!take_flags(&argc, argv)) {
    std::fprintf(stderr, "%s: --runs=, --draws= and --setup= take a number, --program= text, --choices= what a failure printed; %s\n",
                 argv[0], netvm::test::kSeedFlagsHelp);
    return 2;
  }
  doctest::Context context(argc, argv);
  return context.run();
}
