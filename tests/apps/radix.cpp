// radix: the input, the passes, and that a wrong answer is seen.
#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <vector>

#include "apps/splash2/radix/verify.hpp"

namespace splash2::radix {
namespace {

std::vector<Key> sorted_input(const Problem& problem) {
  std::vector<Key> keys(problem.keys);
  for (std::size_t i = 0; i < keys.size(); ++i) keys[i] = problem.key(i);
  std::sort(keys.begin(), keys.end());
  return keys;
}

TEST_CASE("there is a pass for each digit of the largest key") {
  CHECK(Problem{1, 1024, 524288}.passes() == 2);
  CHECK(Problem{1, 1024, 1024}.passes() == 1);
  CHECK(Problem{1, 1024, 1025}.passes() == 2);
  CHECK(Problem{1, 2, 8}.passes() == 3);
  CHECK(Problem{1, 2, 1}.passes() == 1);
  CHECK(Problem{1, 65536, INT32_MAX}.passes() == 2);
}

TEST_CASE("keys lie below the largest and fall evenly") {
  const Problem problem{80000, 16, 8};
  std::array<int, 8> count{};
  for (std::size_t i = 0; i < problem.keys; ++i) {
    const Key key = problem.key(i);
    REQUIRE(key >= 0);
    REQUIRE(key < 8);
    ++count[static_cast<std::size_t>(key)];
  }
  for (const int n : count) CHECK(std::abs(n - 10000) < 500);
}

TEST_CASE("the reference accepts the right answer and names the first wrong key") {
  const Problem problem{1000, 16, 5000};
  std::vector<Key> keys = sorted_input(problem);
  CHECK(compare_with_std_sort(problem, keys).passed);
  keys[500] += 1;
  const Check check = compare_with_std_sort(problem, keys);
  CHECK_FALSE(check.passed);
  CHECK(check.detail.find("at 500") != std::string::npos);
}

TEST_CASE("the self-test sees keys out of order and keys that are not the input's") {
  netvm::Job job(2);
  const Problem problem{1000, 16, 5000};
  std::vector<Key> keys = sorted_input(problem);
  const auto passes = [&] {
    bool passed = false;
    job.parallel([&](netvm::Thread& me) {
      const Check check = self_test(me, problem, keys);
      if (me.rank() == 0) passed = check.passed;
    });
    return passed;
  };
  CHECK(passes());
  std::swap(keys[0], keys[999]);
  CHECK_FALSE(passes());
  std::swap(keys[0], keys[999]);
  keys[999] += 1;  // still in order
  CHECK_FALSE(passes());
}

TEST_CASE("every way to move keys sorts, with any number of threads") {
  for (const int threads : {1, 3, 4}) {
    for (const Permutation permutation : {Permutation::grouped, Permutation::direct}) {
      netvm::Job job(threads);
      const Problem problem{12345, 32, 100000};
      ParallelSort sort(job, problem, permutation);
      job.parallel([&](netvm::Thread& me) { sort.run(me); });
      CHECK(compare_with_std_sort(problem, sort.sorted()).passed);
    }
  }
}

}  // namespace
}  // namespace splash2::radix
