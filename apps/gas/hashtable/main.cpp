// hashtable: a distributed hash table on one-sided gets, compare-and-swaps and fetch-and-adds. docs/apps/hashtable.md.
#include <fmt/format.h>
#include <netvm/netvm.hpp>

#include <algorithm>
#include <limits>

#include "apps/gas/hashtable/workload.hpp"

namespace {

using gas::hashtable::Slot;

struct HashtableOptions {
  splash2::CommonOptions common;
  std::int64_t inserts = 1 << 18;
  std::int64_t keys = 1 << 16;
  double load = 0.5;

  [[nodiscard]] gas::hashtable::Parameters parameters() const {
    return {static_cast<std::uint64_t>(inserts), static_cast<std::uint64_t>(keys), load};
  }
};

HashtableOptions parse(int argc, char** argv) {
  HashtableOptions chosen;
  splash2::Options options(
      "hashtable",
      "Counts keys in a hash table that lies on all nodes, by one-sided gets, compare-and-swaps and fetch-and-adds, then\n"
      "looks keys up, half of which are there: no coherent memory, no lock, and no node serves another.");
  options.whole("-n", chosen.inserts, {1, std::int64_t{1} << 40}, "N", "Insertions, and as many look-ups.");
  options.whole("--keys", chosen.keys, {1, std::int64_t{1} << 36}, "K", "Different keys, drawn evenly.");
  options.real("--load", chosen.load, 0.01, 1, "L", "Share of the slots that is taken if all keys come.");
  chosen.common.add_to(options);
  options.footer("Example: netvmrun -n 4 hashtable -n 1000000 --keys 250000 -s");
  options.parse(argc, argv);
  return chosen;
}

int run(int argc, char** argv) {
  const HashtableOptions options = parse(argc, argv);
  const gas::hashtable::Parameters parameters = options.parameters();
  const auto job = splash2::join("hashtable", options.common, 4096);
  const gas::hashtable::Table table(*job, parameters.buckets(job->nodes()));
  splash2::ProcessorTimes times(*job, "operations");
  splash2::Outcome outcome;
  gas::hashtable::Result result;
  job->parallel([&](netvm::Thread& me) {
    const gas::hashtable::Result all = run(*job, me, table, parameters);
    times.set(me, all.time);
    if (me.local() == 0) result = all;
  });
  if (job->node() == 0) {
    std::vector<Slot> contents;
    for (int node = 0; node < job->nodes(); ++node) {
      const std::vector<Slot> theirs = table.contents(node);
      contents.insert(contents.end(), theirs.begin(), theirs.end());
    }
    outcome.seconds = times.seconds();
    const double millions = 1e-6 * static_cast<double>(parameters.inserts);
    fmt::print(
        "hashtable: {} keys in {} slots a node, {:.2f} million insertions and {:.2f} million look-ups a second, {:.2f} buckets each, "
        "{} slots lost to others\n",
        contents.size(), table.buckets() * gas::hashtable::kSlots, millions / result.insert_seconds, millions / result.find_seconds,
        static_cast<double>(result.fetched) / static_cast<double>(2 * parameters.inserts), result.lost);
    if (options.common.timing) times.print();
    if (options.common.print) {
      for (const Slot& slot : contents) fmt::print("{:016x} {}\n", slot.key, slot.count);
    }
    if (options.common.verify_self()) outcome.checks = self_test(parameters, contents, result);
    if (options.common.verify_reference()) {
      const gas::hashtable::SequentialRun sequential(parameters, options.common.sequential_runs);
      outcome.sequential_seconds = sequential.seconds();
      outcome.checks.push_back(sequential.compare(std::move(contents)));
      outcome.checks.push_back({"look-ups", result.found == sequential.found(),
                                fmt::format("{} keys found, {} by the sequential run", result.found, sequential.found())});
    }
  }
  return splash2::finish(*job, "hashtable", outcome);
}

}  // namespace

int main(int argc, char** argv) {
  return splash2::run_kernel("hashtable", [&] { return run(argc, argv); });
}
