#include "tests/support/history.hpp"

#include <fmt/format.h>

#include <map>
#include <set>
#include <utility>

#include "runtime/check.hpp"

namespace netvm::test {

namespace {

constexpr std::uint32_t kNoStore = UINT32_MAX;

// An operation, with the store that it is or that it loads from, by number. The first stores, one a word, are the words' zeros.
struct Step {
  bool is_store;
  std::uint32_t word;
  std::uint32_t store;  // kNoStore: a value that nobody stored
};

class Search {
 public:
  Search(const History& history, std::uint64_t most_states) : most_states_(most_states), at_(history.size()) {
    std::map<std::pair<std::uint32_t, std::uint64_t>, std::uint32_t> stores;
    std::uint32_t words = 0;
    for (const auto& thread : history) {
      for (const MemoryOp& op : thread) words = std::max(words, op.word + 1);
    }
    for (std::uint32_t word = 0; word < words; ++word) stores[{word, 0}] = word;
    std::uint32_t next = words;
    for (const auto& thread : history) {
      for (const MemoryOp& op : thread) {
        if (op.is_store) NETVM_CHECK(stores.emplace(std::pair(op.word, op.value), next++).second, "a value is stored twice to a word");
      }
    }
    loads_left_.resize(next);
    current_.resize(words);
    for (std::uint32_t word = 0; word < words; ++word) current_[word] = word;
    for (const auto& thread : history) {
      auto& steps = threads_.emplace_back();
      for (const MemoryOp& op : thread) {
        const auto found = stores.find({op.word, op.value});
        steps.push_back({op.is_store, op.word, found == stores.end() ? kNoStore : found->second});
        if (!op.is_store && found != stores.end()) ++loads_left_[found->second];
        ++steps_;
      }
    }
  }

  Explanation run() {
    const bool found = go_on();
    explanation_.verdict = found ? Verdict::sequential : explanation_.states >= most_states_ ? Verdict::undecided : Verdict::violated;
    return std::move(explanation_);
  }

 private:
  // Whether what is left can be ordered. If not, everything is as it was before.
  bool go_on() {
    const std::size_t before = order_.size();
    while (take_a_load()) {
    }
    if (order_.size() > explanation_.order.size()) explanation_.order = order_;
    if (order_.size() == steps_) return true;
    const bool fresh = entered_.insert(state()).second;
    if (fresh && ++explanation_.states < most_states_) {
      for (std::uint32_t t = 0; t < threads_.size(); ++t) {
        if (try_store(t)) return true;
      }
    }
    while (order_.size() > before) take_back_load();
    return false;
  }

  bool take_a_load() {
    for (std::uint32_t t = 0; t < threads_.size(); ++t) {
      if (at_[t] == threads_[t].size()) continue;
      const Step& step = threads_[t][at_[t]];
      if (step.is_store || step.store == kNoStore || current_[step.word] != step.store) continue;
      --loads_left_[step.store];
      ++at_[t];
      order_.push_back(t);
      return true;
    }
    return false;
  }

  void take_back_load() {
    const std::uint32_t t = order_.back();
    order_.pop_back();
    ++loads_left_[threads_[t][--at_[t]].store];
  }

  bool try_store(std::uint32_t t) {
    if (at_[t] == threads_[t].size()) return false;
    const Step& step = threads_[t][at_[t]];
    if (!step.is_store || loads_left_[current_[step.word]] != 0) return false;
    const std::uint32_t old = std::exchange(current_[step.word], step.store);
    ++at_[t];
    order_.push_back(t);
    if (go_on()) return true;
    order_.pop_back();
    --at_[t];
    current_[step.word] = old;
    return false;
  }

  // Which value a word has cannot be told from the positions alone: the last stores of two threads may have come in either order.
  [[nodiscard]] std::vector<std::uint32_t> state() const {
    std::vector<std::uint32_t> all(at_.begin(), at_.end());
    all.insert(all.end(), current_.begin(), current_.end());
    return all;
  }

  std::uint64_t most_states_;
  std::vector<std::vector<Step>> threads_;
  std::size_t steps_ = 0;
  std::vector<std::uint32_t> at_;          // by thread: how far
  std::vector<std::uint32_t> current_;     // by word: whose value it has
  std::vector<std::uint32_t> loads_left_;  // by store: loads of it that are yet to come
  std::vector<std::uint32_t> order_;
  std::set<std::vector<std::uint32_t>> entered_;
  Explanation explanation_;
};

}  // namespace

Explanation explain(const History& history, std::uint64_t most_states) { return Search(history, most_states).run(); }

std::string describe(const History& history, const Explanation& explanation) {
  std::vector<std::size_t> explained(history.size());
  for (const std::uint32_t thread : explanation.order) ++explained[thread];
  std::string text = explanation.verdict == Verdict::sequential ? "one order explains all loads"
                     : explanation.verdict == Verdict::violated ? "no order explains all loads"
                                                                : "no order was found, and the search was given up";
  text += fmt::format(" ({} states; '|': as far as the best order comes)", explanation.states);
  for (std::size_t t = 0; t < history.size(); ++t) {
    text += fmt::format("\n  thread {}:", t);
    for (std::size_t i = 0; i < history[t].size(); ++i) {
      const MemoryOp& op = history[t][i];
      text +=
          fmt::format("{} {}{}{}{}", i == explained[t] ? " |" : "", op.is_store ? "W" : "R", op.word, op.is_store ? ":=" : "=", op.value);
    }
  }
  return text;
}

}  // namespace netvm::test
