// netvm_simulation: doctest's own flags, and --seeds=N, --seed=S, --protocol=NAME (tests/support/seeds.hpp).
#define DOCTEST_CONFIG_IMPLEMENT
#include <doctest/doctest.h>

#include <cstdio>

#include "tests/support/replay_on_crash.hpp"
#include "tests/support/seeds.hpp"

int main(int argc, char** argv) {
  if (!netvm::test::take_seed_flags(&argc, argv)) {
    std::fprintf(stderr, "%s: %s\n", argv[0], netvm::test::kSeedFlagsHelp);
    return 2;
  }
  doctest::Context context;
  context.setOption("abort-after", 20);  // one bug fails under many seeds: enough is enough, unless the command line says otherwise
  context.applyCommandLine(argc, argv);
  return context.run();
}
