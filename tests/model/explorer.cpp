#include "tests/model/explorer.hpp"

#include <algorithm>
#include <cstdlib>
#include <deque>
#include <optional>
#include <utility>

#include "runtime/check.hpp"

namespace netvm::model {

namespace {

using Id = std::uint64_t;
using Index = std::uint32_t;
constexpr Index kNone = UINT32_MAX;

// ---- what one run did ------------------------------------------------------------------------------------------------------------

struct Event {
  SimChoice what;
  Index cause = kNone;   // in the run
  Index before = kNone;  // the node's previous event
};

// After events[i]: how many events of the run, by node, it follows from (itself included). Positions count from 1.
using Clock = std::vector<Index>;

class Trace {
 public:
  explicit Trace(std::vector<Event> events) : events_(std::move(events)) {
    std::map<Id, Index> place;
    std::size_t nodes = 0;
    for (const Event& event : events_) nodes = std::max(nodes, node_of(event) + 1);
    Clock last(nodes, 0);  // of each node
    for (Index i = 0; i < size(); ++i) {
      Event& event = events_[i];
      const auto cause = place.find(event.what.cause);
      if (cause != place.end()) event.cause = cause->second;
      place.emplace(event.what.id, i);
      const std::size_t node = node_of(event);
      if (last[node] != 0) event.before = last[node] - 1;
      Clock clock(nodes, 0);
      if (event.what.timer) clock = last;  // all others came first
      join(clock, event.cause);
      join(clock, event.before);
      clock[node] = last[node] = i + 1;
      clocks_.push_back(std::move(clock));
    }
  }

  [[nodiscard]] Index size() const { return static_cast<Index>(events_.size()); }
  [[nodiscard]] const Event& operator[](Index i) const { return events_[i]; }
  /// Whether `later` follows from `earlier`, or is it.
  [[nodiscard]] bool follows(Index later, Index earlier) const { return clocks_[later][node_of(events_[earlier])] >= earlier + 1; }

  /// The event of the same node just before, if it could as well have come after this one.
  [[nodiscard]] std::optional<Index> race_of(Index i) const {
    const Event& event = events_[i];
    if (event.before == kNone || event.what.timer) return std::nullopt;
    const Event& other = events_[event.before];
    if (event.what.lane != 0 && event.what.lane == other.what.lane) return std::nullopt;
    if (event.cause != kNone && follows(event.cause, event.before)) return std::nullopt;
    return event.before;
  }

  /// What may come first in runs that take event i before event j: events that were possible before j, and do not follow from it. Those that lead to
  /// i come first.
  [[nodiscard]] std::vector<Index> initials(Index j, Index i) const {
    std::vector<Index> found;
    for (const bool leading : {true, false}) {
      for (Index k = j + 1; k <= i; ++k) {
        if (k != i && follows(k, j)) continue;
        const Event& event = events_[k];
        const bool first = (event.cause == kNone || event.cause < j) && (k == i || event.before == kNone || event.before < j);
        if (first && follows(i, k) == leading) found.push_back(k);
      }
    }
    return found;
  }

 private:
  static std::size_t node_of(const Event& event) { return static_cast<std::size_t>(event.what.node + 1); }
  void join(Clock& clock, Index with) const {
    if (with == kNone) return;
    for (std::size_t n = 0; n < clock.size(); ++n) clock[n] = std::max(clock[n], clocks_[with][n]);
  }

  std::vector<Event> events_;
  std::vector<Clock> clocks_;
};

// ---- the tree of all runs --------------------------------------------------------------------------------------------------------

struct Sleeper {
  Id id;
  std::int32_t node;
};

struct Branch {
  Id id;
  std::int32_t node;
  Index to = kNone;
};

struct State {
  Index from = kNone;
  Id by = 0;                      // the event that led here
  std::uint32_t reversals = 0;    // on the way here
  std::vector<Branch> branches;   // made or planned, in that order
  std::vector<Sleeper> sleeping;  // need not be tried here: what they lead to is explored elsewhere
};

struct Plan {
  Index state;
  std::size_t branch;
};

std::string choices_now;

// Where a run left the order of insertion: "step:choice,step:choice".
void note_choice(std::uint64_t step, std::size_t choice) {
  if (choice == 0) return;
  if (!choices_now.empty()) choices_now += ',';
  choices_now += std::to_string(step) + ':' + std::to_string(choice);
}

class Tree {
 public:
  explicit Tree(const Execution& execute) : execute_(execute) { states_.emplace_back(); }

  Result explore(std::uint64_t most_runs) {
    run({}, 0);
    while (result_.failure.empty()) {
      const auto plans = std::find_if(plans_.begin(), plans_.end(), [](const std::deque<Plan>& all) { return !all.empty(); });
      if (plans == plans_.end()) {
        result_.complete = true;
        result_.reversals = static_cast<std::uint32_t>(plans_.size());
        break;
      }
      result_.reversals = static_cast<std::uint32_t>(plans - plans_.begin());
      if (result_.runs >= most_runs) break;
      const Plan plan = plans->front();
      plans->pop_front();
      carry_out(plan);
    }
    return result_;
  }

 private:
  void carry_out(const Plan& plan) {
    std::vector<Id> path{states_[plan.state].branches[plan.branch].id};
    for (Index at = plan.state; states_[at].from != kNone; at = states_[at].from) path.push_back(states_[at].by);
    std::reverse(path.begin(), path.end());
    run(path, static_cast<Index>(path.size() - 1));
  }

  // The first steps are given; from then on, what comes first in the order of insertion.
  void run(const std::vector<Id>& path, Index fresh) {
    std::vector<Event> events;
    std::vector<Index> states{0};
    bool redundant = false;
    choices_now.clear();
    const std::string failure = execute_([&](std::span<const SimChoice> choices) {
      const std::size_t chosen =
          events.size() < path.size() ? find(choices, path[events.size()]) : awake(choices, states.back(), &redundant);
      note_choice(events.size(), chosen);
      events.push_back({choices[chosen]});
      if (!redundant) states.push_back(step(states.back(), choices[chosen]));
      return chosen;
    });
    ++result_.runs;
    result_.steps += events.size();
    result_.longest = std::max<std::uint64_t>(result_.longest, events.size());
    if (redundant) ++result_.redundant;
    if (!failure.empty()) {
      result_.failure = failure;
      result_.choices = choices_now;
      return;
    }
    if (redundant) events.resize(states.size() - 1);
    plan(Trace(std::move(events)), states, fresh);
  }

  static std::size_t find(std::span<const SimChoice> choices, Id id) {
    const auto at = std::find_if(choices.begin(), choices.end(), [id](const SimChoice& choice) { return choice.id == id; });
    NETVM_CHECK(at != choices.end(), "a run with the choices of another went another way: something in it does not follow from them");
    return static_cast<std::size_t>(at - choices.begin());
  }

  std::size_t awake(std::span<const SimChoice> choices, Index state, bool* redundant) {
    if (*redundant) return 0;
    const std::vector<Sleeper>& sleeping = states_[state].sleeping;
    for (std::size_t i = 0; i < choices.size(); ++i) {
      if (std::none_of(sleeping.begin(), sleeping.end(), [&](const Sleeper& one) { return one.id == choices[i].id; })) return i;
    }
    *redundant = true;
    return 0;
  }

  // The state after this event; makes it if this is the first time.
  Index step(Index at, const SimChoice& by) {
    std::vector<Branch>& branches = states_[at].branches;
    auto branch = std::find_if(branches.begin(), branches.end(), [&](const Branch& one) { return one.id == by.id; });
    if (branch == branches.end()) branch = branches.insert(branches.end(), {by.id, by.node});
    if (branch->to != kNone) return branch->to;
    branch->to = static_cast<Index>(states_.size());
    const auto order = branch - branches.begin();
    State next;
    next.from = at;
    next.by = by.id;
    next.reversals = states_[at].reversals + (order == 0 ? 0 : 1);
    // Whatever commutes with this event need not be tried after it, if it is tried before.
    const auto keep = [&](Id id, std::int32_t node) {
      if (!by.timer && node != by.node) next.sleeping.push_back({id, node});
    };
    for (const Sleeper& one : states_[at].sleeping) keep(one.id, one.node);
    for (auto one = branches.begin(); one != branches.begin() + order; ++one) keep(one->id, one->node);
    const Index to = branch->to;
    states_.push_back(std::move(next));
    return to;
  }

  void plan(const Trace& trace, const std::vector<Index>& states, Index fresh) {
    for (Index i = fresh; i < trace.size(); ++i) {
      const std::optional<Index> j = trace.race_of(i);
      if (!j) continue;
      State& state = states_[states[*j]];
      const std::vector<Index> initials = trace.initials(*j, i);
      NETVM_CHECK(!initials.empty(), "event %u cannot come before event %u after all", i, *j);
      const auto covered = [&](Index k) {
        const Id id = trace[k].what.id;
        return std::any_of(state.branches.begin(), state.branches.end(), [id](const Branch& one) { return one.id == id; }) ||
               std::any_of(state.sleeping.begin(), state.sleeping.end(), [id](const Sleeper& one) { return one.id == id; });
      };
      if (std::any_of(initials.begin(), initials.end(), covered)) continue;
      const SimChoice& first = trace[initials.front()].what;
      state.branches.push_back({first.id, first.node});
      const std::uint32_t reversals = state.reversals + 1;
      if (plans_.size() <= reversals) plans_.resize(reversals + 1);
      plans_[reversals].push_back({states[*j], state.branches.size() - 1});
    }
  }

  const Execution& execute_;
  std::deque<State> states_;
  std::deque<std::deque<Plan>> plans_;  // by reversals
  Result result_;
};

}  // namespace

Result explore(const Execution& execute, std::uint64_t most_runs) { return Tree(execute).explore(most_runs); }

bool replay(const Execution& execute, const std::string& choices, std::string* failure) {
  std::map<std::uint64_t, std::size_t> chosen;
  for (const char* at = choices.c_str(); *at != '\0';) {
    char* end = nullptr;
    const std::uint64_t step = std::strtoull(at, &end, 10);
    if (end == at || *end != ':') return false;
    at = end + 1;
    chosen[step] = std::strtoull(at, &end, 10);
    if (end == at || (*end != ',' && *end != '\0')) return false;
    at = *end == ',' ? end + 1 : end;
  }
  choices_now = choices;
  std::uint64_t step = 0;
  *failure = execute([&](std::span<const SimChoice> possible) {
    const auto found = chosen.find(step++);
    return found == chosen.end() || found->second >= possible.size() ? 0 : found->second;
  });
  return true;
}

std::string current_choices() { return choices_now; }

}  // namespace netvm::model
