// netvm_litmus_job: litmus tests and random race-free programs on real processes, through the public interface:
//
//   netvmrun -n 4 --protocol sc-directory netvm_litmus_job litmus --iterations=200 --seeds=4
//   netvmrun -n 3 --threads 2 netvm_litmus_job random --seeds=20
//   netvmrun -n 4 --protocol sc-directory netvm_litmus_job hammer --iterations=2000
//   netvmrun -n 4 --protocol sc-fixed netvm_litmus_job histories --seeds=100
//
// A random program's threads interleave as the machine likes: to see a failure again, run its seed often. Where one hangs, netvmrun --watchdog says who waits.
// Exit status 1 if a forbidden outcome or a wrong load was seen.
#include <CLI/CLI.hpp>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <string_view>

#include "netvm/netvm.hpp"
#include "tests/litmus/litmus.hpp"
#include "tests/support/drf_program.hpp"
#include "tests/support/history_program.hpp"
#include "tests/support/job_machine.hpp"

namespace netvm {
namespace {

struct Options {
  std::uint64_t first_seed = 1;
  std::uint64_t seeds = 2;
  std::uint32_t iterations = 100;
};

bool run_litmus(Job& job, test::Machine& machine, const Options& options) {
  bool well = true;
  litmus::Report report;
  for (const litmus::Litmus& litmus : litmus::table()) {
    if (litmus.threads.size() > std::size_t{machine.nodes()} * machine.threads()) continue;
    for (std::uint64_t seed = options.first_seed; seed < options.first_seed + options.seeds; ++seed) {
      const litmus::Tally tally = litmus::run(
          machine, litmus, {.protocol = job.protocol(), .seed = seed, .iterations = options.iterations, .longest_pause = 3'000});
      report.add(litmus, job.protocol(), tally);
      if (!tally.failure.empty()) {
        well = false;
        std::fprintf(stderr, "node %d, seed %llu: %s\n", job.node(), static_cast<unsigned long long>(seed), tally.failure.c_str());
      }
      if (tally.weak == 0 || litmus::may_show(litmus, job.protocol())) continue;
      well = false;
      if (job.node() == 0)
        std::fprintf(stderr, "forbidden outcome, seed %llu: %s\n", static_cast<unsigned long long>(seed), tally.first_weak.c_str());
    }
  }
  if (job.node() == 0) report.print("litmus tests on processes");
  return well;
}

using test::Place;

bool run_random(Job& job, test::Machine& machine, const Options& options) {
  std::uint64_t loads = 0;
  for (std::uint64_t seed = options.first_seed; seed < options.first_seed + options.seeds; ++seed) {
    const test::DrfResult result =
        test::run_drf_program(machine, seed % 3 == 0 ? test::DrfOptions{.protocol = job.protocol(), .seed = seed, .phases = 6, .steps = 40}
                                                     : test::everything(job.protocol(), seed));
    loads += result.loads;
    if (result.well) continue;
    std::fprintf(stderr, "wrong load, replay with the same command and --seed=%llu --seeds=1: %s\n", static_cast<unsigned long long>(seed),
                 result.text.c_str());
    return false;
  }
  std::printf("node %d: %llu random programs, %llu loads compared\n", job.node(), static_cast<unsigned long long>(options.seeds),
              static_cast<unsigned long long>(loads));
  return true;
}

// One order must explain what racy programs see, if the protocol promises it. With one thread a node: threads of one node share its memory as the
// hardware orders it, which on x86 is not sequential.
bool run_histories(Job& job, test::Machine& machine, const Options& options) {
  const auto index = static_cast<std::size_t>(dsm::find_protocol(job.protocol()));
  const bool promised = dsm::protocols()[index].traits.consistency == dsm::Consistency::sequential && machine.threads() == 1;
  std::uint64_t operations = 0;
  std::uint64_t violated = 0;
  for (std::uint64_t seed = options.first_seed; seed < options.first_seed + options.seeds; ++seed) {
    const test::HistoryResult result =
        test::run_history_program(machine, {.protocol = job.protocol(), .seed = seed, .most_steps = 20, .longest_pause = 3'000});
    operations += result.operations;
    if (result.verdict == test::Verdict::violated) ++violated;
    if (result.well && (!promised || result.verdict != test::Verdict::violated)) continue;
    if (job.node() == 0) std::fprintf(stderr, "seed %llu: %s\n", static_cast<unsigned long long>(seed), result.text.c_str());
    return false;
  }
  if (job.node() == 0) {
    std::printf("%llu racy programs, %llu loads and stores; not sequentially consistent (%s): %llu\n",
                static_cast<unsigned long long>(options.seeds), static_cast<unsigned long long>(operations),
                promised ? "forbidden" : "allowed", static_cast<unsigned long long>(violated));
  }
  return true;
}

// One instruction that needs two pages at once. A protocol that takes one away while it brings the other would never let it through.
void store_across(Place place, std::uint64_t value) {
  struct [[gnu::packed]] Word {
    std::uint64_t value;
  };
  asm volatile("movq %1, %0" : "=m"(*reinterpret_cast<Word*>(place)) : "r"(value));
}

// Everybody stores to the same pages at once: each access must go through in the end. Says how fast.
bool run_hammer(Job& job, test::Machine& machine, const Options& options, bool checked) {
  const Place area = machine.allocate(2 * kPageSize, {.protocol = job.protocol(), .alignment = kPageSize});
  bool well = true;
  for (const bool across : {false, true}) {
    if (across && checked) continue;  // accessors go page by page
    std::uint64_t wrong = 0;
    job.barrier();
    const auto began = std::chrono::steady_clock::now();
    machine.run([&](test::Worker& me) {
      const Place mine = area + me.rank() * 8;
      for (std::uint64_t i = 1; i <= options.iterations; ++i) {
        if (across) store_across(area + kPageSize - 4, i);
        me.store<std::uint64_t>(mine, i);
        if (me.load<std::uint64_t>(mine) != i && me.local() == 0) ++wrong;
      }
    });
    job.barrier();
    const std::chrono::duration<double, std::micro> took = std::chrono::steady_clock::now() - began;
    if (job.node() == 0) {
      std::printf("%s: %u iterations on each of %u threads, %.2f us each\n", across ? "one page, and stores across two" : "one page",
                  options.iterations, machine.nodes() * machine.threads(), took.count() / options.iterations);
    }
    well = well && wrong == 0;
  }
  if (!well) std::fprintf(stderr, "node %d: a thread did not read what it had stored\n", job.node());
  return well;
}

}  // namespace
}  // namespace netvm

int main(int argc, char** argv) {
  netvm::Options options;
  CLI::App app("Litmus tests and random race-free programs on a NetVM job");
  app.require_subcommand(1);
  app.fallthrough();  // the subcommands inherit it: options may stand after them
  const CLI::App* litmus = app.add_subcommand("litmus", "the table of litmus tests");
  const CLI::App* random = app.add_subcommand("random", "random programs against a ledger");
  app.add_subcommand("hammer", "everybody stores to the same pages at once");
  app.add_subcommand("histories", "racy programs, and whether one order explains what they saw");
  app.add_option("--seed", options.first_seed, "first seed")->capture_default_str();
  app.add_option("--seeds", options.seeds, "how many seeds")->capture_default_str();
  app.add_option("--iterations", options.iterations, "of each litmus test and seed")->capture_default_str();
  CLI11_PARSE(app, argc, argv);

  netvm::Job job;
  const CLI::App* hammer = app.get_subcommand("hammer");
  const char* trap = std::getenv("NETVM_TRAP");
  const bool checked = trap != nullptr && std::string_view(trap) == "checked";
  netvm::test::JobMachine machine(job, checked);
  bool well = true;
  if (litmus->parsed()) well = netvm::run_litmus(job, machine, options);
  if (random->parsed()) well = netvm::run_random(job, machine, options);
  if (hammer->parsed()) well = netvm::run_hammer(job, machine, options, checked);
  if (app.get_subcommand("histories")->parsed()) well = netvm::run_histories(job, machine, options);
  return well ? 0 : 1;
}
