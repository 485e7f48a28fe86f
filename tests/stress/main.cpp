// netvm_stress: doctest's own flags, and --seeds=N, --seed=S, --times=N, --protocol=NAME (tests/support/seeds.hpp).
#define DOCTEST_CONFIG_IMPLEMENT
#include <doctest/doctest.h>

#include <cstdio>

#include "tests/support/seeds.hpp"

namespace {

// What doctest knows of a failure is the test's own thread's: where another one stops the program, this says how to run it again.
struct OnCrash final : doctest::IReporter {
  explicit OnCrash(const doctest::ContextOptions&) {}
  void test_case_exception(const doctest::TestCaseException& failure) override {
    const std::string& command = netvm::test::seed_options().command;
    if (failure.is_crash && !command.empty()) std::fprintf(stderr, "replay with: %s\n", command.c_str());
  }
  void report_query(const doctest::QueryData&) override {}
  void test_run_start() override {}
  void test_run_end(const doctest::TestRunStats&) override {}
  void test_case_start(const doctest::TestCaseData&) override {}
  void test_case_reenter(const doctest::TestCaseData&) override {}
  void test_case_end(const doctest::CurrentTestCaseStats&) override {}
  void subcase_start(const doctest::SubcaseSignature&) override {}
  void subcase_end() override {}
  void log_assert(const doctest::AssertData&) override {}
  void log_message(const doctest::MessageData&) override {}
  void test_case_skipped(const doctest::TestCaseData&) override {}
};
REGISTER_LISTENER("on_crash", 1, OnCrash);

}  // namespace

int main(int argc, char** argv) {
  netvm::test::seed_options().interleaves = true;
  if (!netvm::test::take_seed_flags(&argc, argv)) {
    std::fprintf(stderr, "%s: %s\n", argv[0], netvm::test::kSeedFlagsHelp);
    return 2;
  }
  doctest::Context context(argc, argv);
  return context.run();
}
