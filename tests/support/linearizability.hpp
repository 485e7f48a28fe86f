// Linearizability: whether one order of a history's operations explains all their results, in which an operation that had returned before another was
// called comes before it (Herlihy, Wing 1990). What the operations mean says a model: an object that one thread uses.
//
// The search is Wing's and Gong's (1993): whatever was called before the first return that is still open may come next; try one, go on, take it back. A pair of
// "these operations are done" and "this is the object's state" is entered once only (Lowe 2017). Histories are of one object: linearizability is local.
//
// A model has: State (copied; ordered by <), Op, and static bool apply(State&, const Op&): whether the operation may have had its result in this state,
// which it changes then. Operations that never returned may have taken place or not.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

namespace netvm::test {

/// Stamps count the calls and returns of all threads, in the order in which they happened.
inline constexpr std::uint64_t kNeverReturned = UINT64_MAX;

template <class Model>
struct Operation {
  std::uint64_t called = 0;
  std::uint64_t returned = kNeverReturned;
  typename Model::Op op;
};

enum class Linearizable : std::uint8_t { yes, no, undecided };

struct Linearization {
  Linearizable verdict = Linearizable::undecided;
  std::vector<std::size_t> order;  ///< indices of operations; unless the verdict is yes, the longest beginning that was found
  std::uint64_t states = 0;        ///< that the search went through
};

template <class Model>
class LinearizabilityCheck {
 public:
  LinearizabilityCheck(const std::vector<Operation<Model>>& history, typename Model::State initial, std::uint64_t most_states)
      : history_(history), initial_(std::move(initial)), most_states_(most_states), done_((history.size() + 63) / 64, 0) {
    for (std::size_t i = 0; i < history.size(); ++i) by_call_.push_back(i);
    std::ranges::sort(by_call_, {}, [&](std::size_t i) { return history[i].called; });
    for (const Operation<Model>& operation : history) left_ += operation.returned != kNeverReturned ? 1 : 0;
  }
  Linearization run() {
    const std::optional<bool> found = search(initial_);
    result_.verdict = !found ? Linearizable::undecided : *found ? Linearizable::yes : Linearizable::no;
    if (result_.verdict == Linearizable::yes) result_.order = order_;
    return std::move(result_);
  }

 private:
  [[nodiscard]] bool is_done(std::size_t i) const { return (done_[i / 64] >> (i % 64) & 1) != 0; }
  void set_done(std::size_t i) { done_[i / 64] ^= std::uint64_t{1} << i % 64; }

  // Nothing: given up.
  std::optional<bool> search(const typename Model::State& state) {
    if (left_ == 0) return true;
    if (!seen_.emplace(done_, state).second) return false;
    if (++result_.states > most_states_) return std::nullopt;
    if (order_.size() > result_.order.size()) result_.order = order_;
    std::uint64_t first_return = kNeverReturned;
    for (const std::size_t i : by_call_) {
      if (history_[i].called > first_return) break;
      if (is_done(i)) continue;
      first_return = std::min(first_return, history_[i].returned);
    }
    for (const std::size_t i : by_call_) {
      if (history_[i].called > first_return) break;
      if (is_done(i)) continue;
      typename Model::State next = state;
      if (!Model::apply(next, history_[i].op)) continue;
      const bool returned = history_[i].returned != kNeverReturned;
      set_done(i);
      order_.push_back(i);
      left_ -= returned ? 1 : 0;
      const std::optional<bool> found = search(next);
      if (!found || *found) return found;
      left_ += returned ? 1 : 0;
      order_.pop_back();
      set_done(i);
    }
    return false;
  }

  const std::vector<Operation<Model>>& history_;
  typename Model::State initial_;
  const std::uint64_t most_states_;
  std::vector<std::size_t> by_call_;
  std::vector<std::uint64_t> done_;  // a bit for each operation
  std::size_t left_ = 0;             // that returned, and are not done
  std::vector<std::size_t> order_;
  std::set<std::pair<std::vector<std::uint64_t>, typename Model::State>> seen_;
  Linearization result_;
};

template <class Model>
[[nodiscard]] Linearization linearize(const std::vector<Operation<Model>>& history, typename Model::State initial,
                                      std::uint64_t most_states = 200'000) {
  return LinearizabilityCheck<Model>(history, std::move(initial), most_states).run();
}

/// The history, an operation a line, with its place in the order that was found.
template <class Model>
[[nodiscard]] std::string describe(const std::vector<Operation<Model>>& history, const Linearization& found) {
  std::string text;
  for (std::size_t i = 0; i < history.size(); ++i) {
    const auto at = std::ranges::find(found.order, i);
    const std::string place = at == found.order.end() ? "-" : std::to_string(at - found.order.begin());
    const std::string until = history[i].returned == kNeverReturned ? "never" : std::to_string(history[i].returned);
    text += std::to_string(history[i].called) + " to " + until + ": " + Model::describe(history[i].op) + " [" + place + "]\n";
  }
  return text;
}

/// Takes operations down as they happen. Where threads run one at a time (the simulator), no lock is needed.
template <class Model>
class HistoryRecorder {
 public:
  /// Calls body(), which returns the operation's result; it is entered in what was called.
  template <class Body>
  auto operator()(typename Model::Op call, Body&& body) {
    const std::size_t at = history_.size();
    history_.push_back({++stamp_, kNeverReturned, std::move(call)});
    const auto result = body();
    history_[at].op.result = result;
    history_[at].returned = ++stamp_;
    return result;
  }
  [[nodiscard]] const std::vector<Operation<Model>>& history() const { return history_; }

 private:
  std::uint64_t stamp_ = 0;
  std::vector<Operation<Model>> history_;
};

}  // namespace netvm::test
