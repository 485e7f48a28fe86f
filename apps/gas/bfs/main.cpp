// bfs: breadth-first search on an R-MAT graph that lies on all nodes, Graph500's kernel 2 by one-sided atomics. docs/apps/bfs.md.
#include <fmt/format.h>
#include <netvm/netvm.hpp>

#include <algorithm>
#include <limits>

#include "apps/gas/bfs/search.hpp"
#include "apps/gas/bfs/verify.hpp"

namespace {

using gas::bfs::Graph;
using gas::bfs::Search;

struct BfsOptions {
  splash2::CommonOptions common;
  std::int64_t scale = 14;
  std::int64_t edge_factor = 16;
  std::int64_t roots = 8;

  [[nodiscard]] gas::bfs::Parameters parameters() const { return {static_cast<int>(scale), edge_factor, roots}; }
};

BfsOptions parse(int argc, char** argv) {
  BfsOptions chosen;
  splash2::Options options(
      "bfs",
      "Breadth-first search from several roots in an R-MAT graph that lies on all nodes (Graph500's kernel 2, with its\n"
      "validation), by one-sided compare-and-swaps, fetch-and-adds and puts: no coherent memory, and no node serves another.");
  options.whole("--scale", chosen.scale, {4, 32}, "S", "The graph has 2^S vertices.");
  options.whole("--edge-factor", chosen.edge_factor, {1, 1024}, "F", "Edges a vertex.");
  options.whole("--roots", chosen.roots, {1, 4096}, "R", "Searches, each from a vertex of its own (Graph500: 64).");
  chosen.common.add_to(options);
  options.footer("Example: netvmrun -n 4 bfs --scale 18 --roots 16 -s");
  options.parse(argc, argv);
  return chosen;
}

/// Rates of the searches, in edges a second.
struct Rates {
  double least = std::numeric_limits<double>::infinity();
  double most = 0;
  double inverse = 0;
  int count = 0;
  void add(double rate) {
    least = std::min(least, rate);
    most = std::max(most, rate);
    inverse += 1 / rate;
    ++count;
  }
  [[nodiscard]] double harmonic_mean() const { return count / inverse; }
};

/// What node 0 thinks of the searches.
class Referee {
 public:
  explicit Referee(const BfsOptions& options) : options_(options), parameters_(options.parameters()) {
    if (options.common.verify_reference()) sequential_ = std::make_unique<gas::bfs::SequentialGraph>(parameters_);
  }

  void judge(std::uint64_t root, const std::vector<std::uint64_t>& words) {
    const auto note = [root](std::string& wrong, const std::string& what) {
      if (wrong.empty() && !what.empty()) wrong = fmt::format("root {}: {}", root, what);
    };
    if (options_.common.verify_self()) note(invalid_, validate(parameters_, root, words));
    if (sequential_ != nullptr) {
      std::vector<std::uint64_t> expected;
      seconds_ += splash2::median_seconds(
          options_.common.sequential_runs, [] {}, [&] { expected = sequential_->search(root); });
      note(different_, gas::bfs::compare_levels(words, expected));
    }
    ++roots_;
  }

  void close(splash2::Outcome& outcome) const {
    if (options_.common.verify_self())
      outcome.checks.push_back(
          {"validation", invalid_.empty(), invalid_.empty() ? fmt::format("{} trees pass Graph500's five checks", roots_) : invalid_});
    if (sequential_ == nullptr) return;
    outcome.sequential_seconds = seconds_;
    outcome.checks.push_back(
        {"reference", different_.empty(), different_.empty() ? "every vertex is in the level of the sequential search" : different_});
  }

 private:
  const BfsOptions& options_;
  gas::bfs::Parameters parameters_;
  std::unique_ptr<gas::bfs::SequentialGraph> sequential_;
  std::string invalid_;
  std::string different_;
  double seconds_ = 0;
  int roots_ = 0;
};

int run(int argc, char** argv) {
  const BfsOptions options = parse(argc, argv);
  const auto job = splash2::join("bfs", options.common, 4096);
  const Graph graph(*job, options.parameters());
  Search search(*job, graph);
  splash2::ProcessorTimes times(*job, "visiting");
  std::vector<splash2::ProcessorTime> own(static_cast<std::size_t>(job->threads_per_node()));
  splash2::Outcome outcome;
  Rates rates;
  const auto referee = job->node() == 0 ? std::make_unique<Referee>(options) : nullptr;
  for (const std::uint64_t root : graph.choose_roots()) {
    Search::Result result;
    job->parallel([&](netvm::Thread& me) {
      const Search::Result mine = search.run(*job, me, root);
      splash2::ProcessorTime& time = own[static_cast<std::size_t>(me.local())];
      time = {time.total + mine.time.total, time.part + mine.time.part};
      times.set(me, time);
      if (me.local() == 0) result = mine;
    });
    if (referee == nullptr) continue;
    const std::vector<std::uint64_t> words = search.collect();
    rates.add(static_cast<double>(result.edges) / result.time.total);
    if (options.common.print) {
      fmt::print("root {}: {} vertices and {} edges in {} levels, {:.6f} s, {:.3e} TEPS, {} compare-and-swaps\n", root, result.vertices,
                 result.edges, result.levels, result.time.total, static_cast<double>(result.edges) / result.time.total, result.asked);
    }
    referee->judge(root, words);
  }
  if (referee != nullptr) {
    outcome.seconds = times.seconds();
    fmt::print("bfs: 2^{} vertices, {} edges, built in {:.6f} s; {} searches, TEPS: harmonic mean {:.3e}, least {:.3e}, most {:.3e}\n",
               options.scale, options.parameters().edges(), graph.build_seconds(), rates.count, rates.harmonic_mean(), rates.least,
               rates.most);
    if (options.common.timing) times.print();
    referee->close(outcome);
    job->annotate("teps", rates.harmonic_mean());
  }
  return splash2::finish(*job, "bfs", outcome);
}

}  // namespace

int main(int argc, char** argv) {
  return splash2::run_kernel("bfs", [&] { return run(argc, argv); });
}
