// netvm_litmus: doctest's own flags, --seeds=N, --seed=S, --protocol=NAME (tests/support/seeds.hpp), and --document=FILE: writes what the simulator
// showed there, as docs/litmus.md.
#define DOCTEST_CONFIG_IMPLEMENT
#include <doctest/doctest.h>

#include <cstdio>
#include <string_view>

#include "tests/litmus/litmus.hpp"
#include "tests/support/replay_on_crash.hpp"
#include "tests/support/seeds.hpp"

int main(int argc, char** argv) {
  if (!netvm::test::take_seed_flags(&argc, argv)) {
    std::fprintf(stderr, "%s: %s\n", argv[0], netvm::test::kSeedFlagsHelp);
    return 2;
  }
  constexpr std::string_view kDocument = "--document=";
  int kept = 0;
  for (int i = 0; i < argc; ++i) {
    const std::string_view argument = argv[i];
    if (argument.starts_with(kDocument)) {
      netvm::litmus::document_path() = argument.substr(kDocument.size());
    } else {
      argv[kept++] = argv[i];
    }
  }
  argv[argc = kept] = nullptr;
  doctest::Context context(argc, argv);
  return context.run();
}
