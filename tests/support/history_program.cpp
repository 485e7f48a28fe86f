#include "tests/support/history_program.hpp"

#include <fmt/format.h>

#include <vector>

#include "runtime/random.hpp"

namespace netvm::test {

namespace {

struct Plan {
  Place area = 0;
  std::vector<Place> words;
  History history;  // values of loads: to be filled in
  std::string text;
};

Plan make_plan(Machine& machine, const HistoryOptions& options) {
  SplitMix64 random(mix64(options.seed ^ 0x415));
  Plan plan;
  const std::uint64_t pages = 1 + random.below(3);
  const std::uint64_t words = 2 + random.below(3);
  dsm::AllocOptions where;
  where.protocol = options.protocol;
  where.alignment = kPageSize;
  where.placement = static_cast<dsm::Placement>(random.below(4));
  where.home = NodeId{static_cast<std::uint32_t>(random.below(machine.nodes()))};
  plan.area = machine.allocate(pages * kPageSize, where);
  const std::uint64_t first = random.below(kPageSize / 8 - words);
  for (std::uint64_t i = 0; i < words; ++i) plan.words.push_back(plan.area + i % pages * kPageSize + (first + i) * 8);
  const std::uint32_t threads = machine.nodes() * machine.threads();
  const std::uint64_t stores_of_8 = 2 + random.below(4);
  for (std::uint32_t t = 0; t < threads; ++t) {
    auto& ops = plan.history.emplace_back();
    for (std::uint64_t i = 4 + random.below(options.most_steps - 3); i != 0; --i) {
      const bool is_store = random.below(8) < stores_of_8;
      const auto word = static_cast<std::uint32_t>(random.below(words));
      ops.push_back({is_store, word, is_store ? (t + 1) * std::uint64_t{1000} + ops.size() : 0});
    }
  }
  plan.text = fmt::format("{}, {} nodes x {} threads, {} words in {} pages (placement {})", options.protocol, machine.nodes(),
                          machine.threads(), words, pages, static_cast<int>(where.placement));
  return plan;
}

}  // namespace

HistoryResult run_history_program(Machine& machine, const HistoryOptions& options) {
  Plan plan = make_plan(machine, options);
  const auto slot = [&options](std::size_t thread, std::size_t step) { return (thread * options.most_steps + step) * 8; };
  const auto ledger = machine.make_ledger(slot(plan.history.size(), 1));
  const Ending ending = machine.run([&](Worker& me) {
    SplitMix64 random(mix64(options.seed ^ 0x4157) + me.rank());
    const auto& ops = plan.history[me.rank()];
    std::vector<std::uint64_t> seen;
    for (const MemoryOp& op : ops) {
      if (random.below(3) == 0) me.pause(static_cast<Nanos>(random.below(static_cast<std::uint64_t>(options.longest_pause) + 1)));
      std::uint64_t value = op.value;
      if (op.is_store) {
        me.store(plan.words[op.word], value);
      } else {
        value = me.load<std::uint64_t>(plan.words[op.word]);
      }
      seen.push_back(value);
      me.trace(value);
    }
    for (std::size_t i = 0; i < ops.size(); ++i) ledger->write(slot(me.rank(), i), &seen[i], 8);
  });
  HistoryResult result;
  result.text = plan.text;
  result.trace_hash = ending.trace_hash;
  if (!ending.well) {
    result.well = false;
    result.text += ": " + ending.text;
    return result;
  }
  for (std::size_t t = 0; t < plan.history.size(); ++t) {
    for (std::size_t i = 0; i < plan.history[t].size(); ++i) ledger->read(slot(t, i), &plan.history[t][i].value, 8);
    result.operations += plan.history[t].size();
  }
  machine.free(plan.area);  // on processes a barrier, too: only then may the ledger be used again
  const Explanation explanation = explain(plan.history);
  result.verdict = explanation.verdict;
  result.states = explanation.states;
  if (result.verdict != Verdict::sequential) result.text += ": " + describe(plan.history, explanation);
  return result;
}

}  // namespace netvm::test
