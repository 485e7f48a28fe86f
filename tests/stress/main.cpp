// netvm_stress: doctest's own flags, and --seeds=N, --seed=S, --times=N, --protocol=NAME (tests/support/seeds.hpp).
#define DOCTEST_CONFIG_IMPLEMENT
#include <doctest/doctest.h>

#include <cstdio>

#include "tests/support/replay_on_crash.hpp"
#include "tests/support/seeds.hpp"

int main(int argc, char** argv) {
  netvm::test::seed_options().interleaves = true;
  if (!netvm::test::take_seed_flags(&argc, argv)) {
    std::fprintf(stderr, "%s: %s\n", argv[0], netvm::test::kSeedFlagsHelp);
    return 2;
  }
  doctest::Context context(argc, argv);
  return context.run();
}
