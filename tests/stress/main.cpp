// netvm_stress: doctest's own flags, and --seeds=N and --seed=S (tests/support/seeds.hpp).
#define DOCTEST_CONFIG_IMPLEMENT
#include <doctest/doctest.h>

#include <cstdio>

#include "tests/support/seeds.hpp"

int main(int argc, char** argv) {
  if (!netvm::test::take_seed_flags(&argc, argv)) {
    std::fprintf(stderr, "%s: --seeds= and --seed= take a number, for instance --seeds=2000 or --seed=17\n", argv[0]);
    return 2;
  }
  doctest::Context context(argc, argv);
  return context.run();
}
