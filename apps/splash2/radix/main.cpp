// radix: integer radix sort, SPLASH-2's kernel on NetVM. docs/apps/radix.md.
#include <fmt/format.h>
#include <netvm/netvm.hpp>

#include <algorithm>

#include "apps/splash2/radix/sort.hpp"
#include "apps/splash2/radix/verify.hpp"

namespace {

using splash2::radix::Key;

struct RadixOptions {
  splash2::CommonOptions common;
  splash2::LayoutOptions layout;
  std::int64_t keys = 1'048'576;
  std::int64_t radix = 1024;
  std::int64_t max_key = 524288;
  bool test = false;
  std::string permute = "grouped";
};

RadixOptions parse(int argc, char** argv) {
  RadixOptions chosen;
  splash2::Options options("radix", "Sorts random integers in parallel, digit by digit (SPLASH-2's radix kernel).");
  options.whole("-n", chosen.keys, {1, std::int64_t{1} << 32}, "N", "Keys to sort.");
  options.whole("-r", chosen.radix, {2, 1 << 20, true}, "R", "Radix: values of a digit, a power of two.");
  options.whole("-m", chosen.max_key, {1, INT32_MAX}, "M", "Keys lie in 0 .. M-1.");
  chosen.common.add_to(options);
  options.on("-t", chosen.test, "Check that the keys are sorted and are the input's, whatever --verify says.");
  options.choice("--permute", chosen.permute, {"grouped", "direct"},
                 "How keys move to their new place: digit by digit from a private buffer, or one by one as in the suite.");
  chosen.layout.add_to(options);
  options.footer("Example: netvmrun -n 4 radix -n1048576 -r1024 -s");
  options.parse(argc, argv);
  return chosen;
}

int run(int argc, char** argv) {
  const RadixOptions options = parse(argc, argv);
  const splash2::radix::Problem problem{static_cast<std::size_t>(options.keys), static_cast<unsigned>(options.radix), options.max_key};
  const auto job = splash2::join("radix", options.common, std::min<std::int64_t>(options.keys, 4096));

  splash2::radix::ParallelSort sort(
      *job, problem, options.permute == "direct" ? splash2::radix::Permutation::direct : splash2::radix::Permutation::grouped,
      options.layout);
  splash2::ProcessorTimes times(*job, "moving");
  splash2::Outcome outcome;
  job->parallel([&](netvm::Thread& me) { times.set(me, sort.run(me)); });
  if (options.test || options.common.verify_self()) {
    job->parallel([&](netvm::Thread& me) {
      splash2::Check check = splash2::radix::self_test(me, problem, sort.sorted());
      if (me.local() == 0) outcome.checks.push_back(std::move(check));
    });
  }
  if (job->node() == 0) {
    outcome.seconds = times.seconds();
    if (options.common.verify_reference()) {
      outcome.checks.push_back(splash2::radix::compare_with_std_sort(problem, sort.sorted()));
      outcome.sequential_seconds = splash2::radix::sequential_seconds(problem, options.common.sequential_runs);
    }
    fmt::print("radix: {} keys below {}, radix {}, {} passes\n", problem.keys, problem.max_key, problem.radix, problem.passes());
    if (options.common.timing) times.print();
    if (options.common.print) {
      for (const Key key : sort.sorted()) fmt::print("{}\n", key);
    }
  }
  return splash2::finish(*job, "radix", outcome);
}

}  // namespace

int main(int argc, char** argv) {
  return splash2::run_kernel("radix", [&] { return run(argc, argv); });
}
