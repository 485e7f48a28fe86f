// Says how to run a test again that has stopped the program. What doctest knows of a failure (INFO) it prints where a check fails or an exception comes, not behind a
// broken invariant or another thread's crash. For the one file of a program that implements doctest.
#pragma once

#include <doctest/doctest.h>

#include <cstdio>
#include <string>

#include "tests/support/seeds.hpp"

namespace netvm::test {

struct ReplayOnCrash final : doctest::IReporter {
  explicit ReplayOnCrash(const doctest::ContextOptions&) {}
  void test_case_exception(const doctest::TestCaseException& failure) override {
    const std::string& command = seed_options().command;
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
REGISTER_LISTENER("replay_on_crash", 1, ReplayOnCrash);

}  // namespace netvm::test
