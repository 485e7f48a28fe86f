#include "runtime/simulator.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <deque>
#include <exception>
#include <iterator>
#include <map>
#include <optional>
#include <queue>
#include <unordered_map>
#include <utility>
#include <vector>

#include "runtime/check.hpp"
#include "runtime/fiber.hpp"
#include "runtime/random.hpp"

namespace netvm {
namespace {

using Word = const std::atomic<std::uint32_t>*;

constexpr std::int32_t kNoNode = -1;
constexpr std::uint64_t kMaxClockReads = 10'000'000;  // without a switch in between: such a fiber polls a clock that stands still
constexpr std::size_t kMaxReported = 64;

// What the heap orders. Stale events (their fiber went on for another reason) are recognised by their ticket.
struct Event {
  enum class Kind : std::uint8_t { resume, timeout, call };
  Nanos time;
  std::uint64_t order;
  std::uint64_t ticket;
  std::uint32_t index;  // of the fiber or the call
  Kind kind;
  bool operator<(const Event& other) const { return std::pair(time, order) > std::pair(other.time, other.order); }
};

enum class State : std::uint8_t { ready, running, parked };

struct Task {
  NodeId node;
  std::string name;
  bool daemon;
  Fiber fiber;
  State state = State::ready;
  Nanos since = 0;  // when it became what it is
  Nanos deadline = kForever;
  std::uint64_t ticket = 0;  // of the one event that may continue it
  std::array<ParkOn, kMaxParkWords> words{};
  std::size_t word_count = 0;

  Task(NodeId node_id, std::string what, bool is_daemon, std::function<void()> body)
      : node(node_id), name(std::move(what)), daemon(is_daemon), fiber(std::move(body)) {}
};

struct Call {
  std::int32_t node = kNoNode;
  std::uint64_t lane = 0;
  std::function<void()> task;
};

// What a chooser is told of an event, beside what the event itself says.
struct Origin {
  std::uint64_t id = 0;
  std::uint64_t cause = 0;
  bool timer = false;
};

// Values with stable indices; the freed ones are used again.
template <class T>
class Slots {
 public:
  std::uint32_t put(T value) {
    if (free_.empty()) {
      values_.push_back(std::move(value));
      return static_cast<std::uint32_t>(values_.size() - 1);
    }
    const std::uint32_t index = free_.back();
    free_.pop_back();
    values_[index] = std::move(value);
    return index;
  }
  T take(std::uint32_t index) {
    free_.push_back(index);
    return std::exchange(values_[index], T{});
  }
  T& operator[](std::uint32_t index) { return values_[index]; }
  const std::vector<T>& all() const { return values_; }

 private:
  std::vector<T> values_;
  std::vector<std::uint32_t> free_;
};

}  // namespace

struct Simulator::Impl {
  explicit Impl(const SimOptions& what) : options(what), schedule(mix64(what.seed)), values(mix64(~what.seed)) {}

  // ---- the world of one node ----
  class SimEnv final : public Env {
   public:
    SimEnv(Impl& sim, NodeId node) : sim_(sim), node_(node) {}
    [[nodiscard]] Nanos now() const override { return sim_.read_clock(); }
    std::uint64_t random() override { return sim_.random(); }
    void park(std::span<const ParkOn> words, Nanos deadline) override { sim_.park(words, deadline); }
    [[nodiscard]] bool can_park() const override { return sim_.current.has_value(); }
    [[nodiscard]] std::uintptr_t context() const override { return sim_.current ? std::uintptr_t{*sim_.current} + 2 : 1; }
    void wake(const std::atomic<std::uint32_t>& word, int count) override { sim_.wake(&word, count); }
    void relax() override { sim_.relax(); }
    [[nodiscard]] Nanos spin_budget() const override { return 0; }
    void at(Nanos when, std::function<void()> task) override {
      sim_.call_at(when, static_cast<std::int32_t>(node_.value), std::move(task));
    }
    void spawn(std::function<void()> task) override { sim_.add(node_, "spawned task", true, std::move(task)); }

   private:
    Impl& sim_;
    NodeId node_;
  };

  // ---- events ----
  void push(Event::Kind kind, Nanos time, std::uint32_t index, std::uint64_t ticket, bool timer = false) {
    if (chooser) {
      origins[next_order] = {mix64(cause ^ mix64(++made)), cause, timer};
      choosable.push_back({std::max(time, clock), next_order++, ticket, index, kind});
      return;
    }
    heap.push({std::max(time, clock), next_order++, ticket, index, kind});
  }
  void call_at(Nanos when, std::int32_t node, std::function<void()> task) {
    push(Event::Kind::call, when, calls.put({node, 0, std::move(task)}), 0, when > clock);
  }
  std::uint64_t random() { return chooser ? mix64(options.seed ^ cause ^ mix64(~++draws)) : values.next(); }
  Nanos jitter(Nanos up_to) { return up_to <= 0 ? 0 : static_cast<Nanos>(schedule.below(static_cast<std::uint64_t>(up_to) + 1)); }
  bool stale(const Event& event) {
    if (event.kind == Event::Kind::call) return false;
    const Task* task = tasks[event.index].get();
    return task == nullptr || task->ticket != event.ticket;
  }
  Nanos read_clock() const {
    ++clock_reads;
    NETVM_CHECK(clock_reads < kMaxClockReads, "a fiber polls the clock without relax() or park(): virtual time stands still");
    return clock;
  }

  // ---- fibers ----
  void add(NodeId node, std::string name, bool daemon, std::function<void()> body) {
    const std::uint32_t index = tasks.put(std::make_unique<Task>(node, std::move(name), daemon, std::move(body)));
    if (!daemon) ++live;
    make_ready(index, clock + jitter(options.schedule_jitter));
  }
  void make_ready(std::uint32_t index, Nanos when, bool timer = false) {
    Task& task = *tasks[index];
    task.state = State::ready;
    task.since = clock;
    task.ticket = ++next_ticket;
    push(Event::Kind::resume, when, index, task.ticket, timer);
  }
  Task& current_task(const char* function) {
    NETVM_CHECK(current.has_value(), "%s needs a fiber: tasks of at() and code outside of run() must not block", function);
    return *tasks[*current];
  }

  void relax(bool timer = true) {
    Task& task = current_task("relax()");
    // Up to twice the step: two fibers that poll would otherwise keep in step for ever.
    make_ready(*current, clock + options.relax_step + jitter(options.relax_step), timer);
    task.fiber.suspend();
  }

  void park(std::span<const ParkOn> words, Nanos deadline) {
    Task& task = current_task("park()");
    NETVM_CHECK(!words.empty() && words.size() <= kMaxParkWords, "park() takes 1 or 2 words, not %zu", words.size());
    // A caller that never looks again would loop here for ever if this were not a switch.
    const bool changed = std::any_of(words.begin(), words.end(), [](const ParkOn& on) { return on.word->load() != on.expected; });
    if (changed || deadline <= clock) return relax(!changed);
    task.word_count = words.size();
    std::copy(words.begin(), words.end(), task.words.begin());
    for (const ParkOn& on : words) parked[on.word].push_back(*current);
    task.state = State::parked;
    task.since = clock;
    task.deadline = deadline;
    task.ticket = ++next_ticket;
    if (deadline != kForever) push(Event::Kind::timeout, deadline, *current, task.ticket, true);
    task.fiber.suspend();
  }

  void unpark(std::uint32_t index) {
    Task& task = *tasks[index];
    for (std::size_t i = 0; i < task.word_count; ++i) {
      const auto queue = parked.find(task.words[i].word);
      if (queue == parked.end()) continue;  // both words are the same one
      std::erase(queue->second, index);
      if (queue->second.empty()) parked.erase(queue);
    }
    task.word_count = 0;
    make_ready(index, clock + jitter(options.schedule_jitter));
  }

  void wake(Word word, int count) {
    for (; count > 0; --count) {
      const auto queue = parked.find(word);
      if (queue == parked.end()) return;
      unpark(queue->second.front());
    }
  }

  // ---- the loop ----
  bool next(Event* event);
  bool choose(Event* event);
  SimChoice choice_of(const Event& event);
  void step(const Event& event, CheckContext& context);
  void run_task(std::uint32_t index);
  Report report(End end) const;

  SimOptions options;
  SplitMix64 schedule;  // jitter
  SplitMix64 values;    // random(): apart, so that a program's draws do not move the schedule
  std::map<std::uint32_t, SimEnv> envs;
  std::priority_queue<Event> heap;
  Slots<std::unique_ptr<Task>> tasks;
  Slots<Call> calls;
  std::unordered_map<Word, std::deque<std::uint32_t>> parked;  // looked up by address, never walked; first in, first out
  std::optional<std::uint32_t> current;                        // the fiber that runs
  Nanos clock = 0;
  mutable std::uint64_t clock_reads = 0;
  std::uint64_t next_order = 0;
  std::uint64_t next_ticket = 0;
  std::uint64_t live = 0;  // fibers of start() that have not ended
  std::uint64_t events = 0;
  std::uint64_t hash = 0;
  bool in_run = false;

  // With a chooser: the events (no heap then), and where they come from, by Event::order.
  SimChooser chooser;
  std::vector<Event> choosable;
  std::map<std::uint64_t, Origin> origins;
  std::uint64_t cause = 0;  // the event that runs
  std::uint64_t made = 0;   // events it has made; starts anew with each
  std::uint64_t draws = 0;  // random words it has drawn
};

// The next event that is not stale; false if none is left.
bool Simulator::Impl::next(Event* event) {
  if (chooser) return choose(event);
  while (!heap.empty()) {
    *event = heap.top();
    if (!stale(*event)) return true;
    heap.pop();
  }
  return false;
}

SimChoice Simulator::Impl::choice_of(const Event& event) {
  const Origin& origin = origins.at(event.order);
  SimChoice choice{origin.id, origin.cause, kNoNode, 0, origin.timer};
  if (event.kind == Event::Kind::call) {
    choice.node = calls[event.index].node;
    choice.lane = calls[event.index].lane;
  } else {
    choice.node = static_cast<std::int32_t>(tasks[event.index]->node.value);
  }
  return choice;
}

bool Simulator::Impl::choose(Event* event) {
  std::erase_if(choosable, [this](const Event& old) { return stale(old) && origins.erase(old.order) != 0; });
  if (choosable.empty()) return false;
  std::vector<SimChoice> choices;
  std::vector<std::size_t> places;  // in choosable, which is in the order of making
  std::optional<std::size_t> earliest;
  for (std::size_t i = 0; i < choosable.size(); ++i) {
    const SimChoice choice = choice_of(choosable[i]);
    if (choice.timer) {
      if (!earliest || choosable[*earliest] < choosable[i]) earliest = i;
      continue;
    }
    const auto before = [&choice](const SimChoice& other) { return choice.lane != 0 && other.lane == choice.lane; };
    if (std::any_of(choices.begin(), choices.end(), before)) continue;
    choices.push_back(choice);
    places.push_back(i);
  }
  if (choices.empty()) {
    choices.push_back(choice_of(choosable[*earliest]));
    places.push_back(*earliest);
  }
  const std::size_t chosen = chooser(choices);
  NETVM_CHECK(chosen < choices.size(), "a chooser took event %zu of %zu", chosen, choices.size());
  const auto at = choosable.begin() + static_cast<std::ptrdiff_t>(places[chosen]);
  *event = *at;
  event->time = choices[chosen].timer ? std::max(clock, event->time) : clock;
  cause = choices[chosen].id;
  made = draws = 0;
  origins.erase(event->order);
  choosable.erase(at);
  return true;
}

void Simulator::Impl::step(const Event& event, CheckContext& context) {
  clock = event.time;
  clock_reads = 0;
  context.time_ns = clock;
  hash = mix64(hash ^ static_cast<std::uint64_t>(event.time));
  hash = mix64(hash ^ (std::uint64_t{event.index} << 8) ^ static_cast<std::uint64_t>(event.kind));
  switch (event.kind) {
    case Event::Kind::call: {
      const Call call = calls.take(event.index);
      context.node = call.node;
      call.task();
      break;
    }
    case Event::Kind::timeout:
      context.node = static_cast<std::int32_t>(tasks[event.index]->node.value);
      unpark(event.index);
      break;
    case Event::Kind::resume:
      context.node = static_cast<std::int32_t>(tasks[event.index]->node.value);
      run_task(event.index);
      break;
  }
}

void Simulator::Impl::run_task(std::uint32_t index) {
  Task& task = *tasks[index];
  task.state = State::running;
  task.since = clock;
  current = index;
  task.fiber.resume();
  current.reset();
  if (!task.fiber.done()) return;
  const std::unique_ptr<Task> ended = tasks.take(index);
  if (!ended->daemon) --live;
  if (std::exception_ptr thrown = ended->fiber.take_exception()) std::rethrow_exception(std::move(thrown));
}

namespace {

std::string describe_task(const Task& task) {
  std::string line = fmt::format("\n  node {} '{}': ", task.node.value, task.name);
  if (task.state != State::parked) return line + fmt::format("ready since {} ns", task.since);
  line += fmt::format("parked since {} ns", task.since);
  if (task.deadline != kForever) line += fmt::format(" until {} ns", task.deadline);
  for (std::size_t i = 0; i < task.word_count; ++i) {
    const std::uint32_t value = task.words[i].word->load();
    if (value == task.words[i].expected) {
      line += fmt::format("; its word still holds {}", value);
    } else {
      line += fmt::format("; its word went from {} to {} and nobody called wake(): a lost wake-up", task.words[i].expected, value);
    }
  }
  return line;
}

std::string_view describe_end(Simulator::End end) {
  switch (end) {
    case Simulator::End::all_done:
      return "all done";
    case Simulator::End::deadlock:
      return "deadlock";
    case Simulator::End::limit:
      return "limit of events or of time reached";
  }
  return "";
}

}  // namespace

Simulator::Report Simulator::Impl::report(End end) const {
  Report result{end, {}, events, clock, hash};
  if (end == End::all_done) return result;
  result.text =
      fmt::format("{} at {} ns after {} events (seed {}): {} fibers have not ended", describe_end(end), clock, events, options.seed, live);
  std::size_t lines = 0;
  std::size_t left_out = 0;
  for (const bool daemons : {false, true}) {
    for (const std::unique_ptr<Task>& task : tasks.all()) {
      if (task == nullptr || task->daemon != daemons) continue;
      if (++lines > kMaxReported) {
        ++left_out;
      } else {
        result.text += describe_task(*task);
      }
    }
  }
  if (left_out > 0) result.text += fmt::format("\n  and {} more", left_out);
  return result;
}

Simulator::Simulator(const SimOptions& options) : impl_(std::make_unique<Impl>(options)) {}
Simulator::~Simulator() = default;

Env& Simulator::env(NodeId node) { return impl_->envs.try_emplace(node.value, *impl_, node).first->second; }

void Simulator::start(NodeId node, std::string name, std::function<void()> body) {
  impl_->add(node, std::move(name), false, std::move(body));
}

Simulator::Report Simulator::run() {
  Impl& sim = *impl_;
  NETVM_CHECK(!sim.in_run, "run() was called from inside the simulation");
  sim.in_run = true;
  struct Leave {
    Impl& sim;
    ~Leave() { sim.in_run = false; }
  } const leave{sim};
  const ScopedCheckContext scope({kNoNode, sim.clock, sim.options.seed});
  while (sim.live > 0) {
    Event event;
    if (!sim.next(&event)) return sim.report(End::deadlock);
    if (sim.events >= sim.options.max_events || event.time > sim.options.max_time) return sim.report(End::limit);
    if (!sim.chooser) sim.heap.pop();
    ++sim.events;
    sim.step(event, check_context());
  }
  return sim.report(End::all_done);
}

Nanos Simulator::now() const { return impl_->read_clock(); }
std::uint64_t Simulator::random() { return impl_->random(); }
std::uint64_t Simulator::seed() const { return impl_->options.seed; }
void Simulator::at(Nanos when, std::function<void()> task) { impl_->call_at(when, kNoNode, std::move(task)); }
void Simulator::at_node(NodeId node, std::uint64_t lane, Nanos when, std::function<void()> task) {
  Impl& sim = *impl_;
  sim.push(Event::Kind::call, when, sim.calls.put({static_cast<std::int32_t>(node.value), lane, std::move(task)}), 0);
}

void Simulator::set_chooser(SimChooser chooser) {
  Impl& sim = *impl_;
  NETVM_CHECK(!sim.in_run, "set_chooser() was called from inside the simulation");
  std::vector<Event> all = std::exchange(sim.choosable, {});
  for (; !sim.heap.empty(); sim.heap.pop()) all.push_back(sim.heap.top());
  std::sort(all.begin(), all.end(), [](const Event& a, const Event& b) { return a.order < b.order; });
  sim.chooser = std::move(chooser);
  sim.origins.clear();
  sim.cause = sim.made = 0;
  for (const Event& event : all) {
    if (sim.stale(event)) continue;
    if (!sim.chooser) {
      sim.heap.push(event);
      continue;
    }
    const bool waits = event.kind == Event::Kind::timeout || (event.kind == Event::Kind::call && sim.calls[event.index].lane == 0);
    sim.origins[event.order] = {mix64(++sim.made), 0, waits && event.time > sim.clock};
    sim.choosable.push_back(event);
  }
}

void Simulator::trace(std::uint64_t what) { impl_->hash = mix64(impl_->hash ^ what); }

}  // namespace netvm
