// Simulator: one thread, a virtual clock, an event heap, application threads as fibers. Everything that happens follows from the seed.
//
// Invariants
//  1. Events run in the order of (time, insertion); a fiber runs until it parks, relaxes or ends.
//  2. No pointer, wall clock or hash order influences what happens: two runs with one seed give the same trace hash.
//  3. run() ends: with all fibers done, or with a report that says which fiber of which node waits since when (a deadlock: no event left
//     and fibers parked; or the limits).
//  4. With a chooser, whoever explores orders of events says what comes next. Time stands still then unless only timers are left, and what an
//     event does follows from its node's past alone: events of different nodes commute.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "runtime/env.hpp"
#include "runtime/ids.hpp"

namespace netvm {

struct SimOptions {
  std::uint64_t seed = 1;
  std::uint64_t max_events = 50'000'000;
  Nanos max_time = Nanos{3600} * 1'000'000'000;
  Nanos relax_step = 100;        ///< virtual cost of Env::relax(): this to twice this, by the seed
  Nanos schedule_jitter = 1000;  ///< a fiber that becomes ready runs after 0 .. this, by the seed: explores interleavings
};

/// An event that may come next.
struct SimChoice {
  std::uint64_t id = 0;     ///< follows from its cause: the same in every run in which the same event made it
  std::uint64_t cause = 0;  ///< the id of the event that made it; 0: none that a chooser saw
  std::int32_t node = -1;   ///< where it happens; -1: not at one node
  std::uint64_t lane = 0;   ///< events of a lane happen in the order in which they were made; 0: of no lane
  bool timer = false;       ///< was waiting for its time (a deadline, relax()): comes when nothing else is left, the earliest first
};
/// Which of the events comes next: an index. All but the first of a lane are left out; so are timers, as long as there is anything else.
using SimChooser = std::function<std::size_t(std::span<const SimChoice>)>;

class Simulator {
 public:
  explicit Simulator(const SimOptions& options);
  ~Simulator();
  Simulator(const Simulator&) = delete;
  Simulator& operator=(const Simulator&) = delete;

  /// The world as one node sees it. Lives as long as the simulator.
  Env& env(NodeId node);

  /// Adds a fiber of a node; starts when run() reaches it. From inside a fiber, too.
  void start(NodeId node, std::string name, std::function<void()> body);

  enum class End : std::uint8_t { all_done, deadlock, limit };
  struct Report {
    End end = End::all_done;
    std::string text;  ///< who waits, for a person; empty if all_done
    std::uint64_t events = 0;
    Nanos time = 0;
    std::uint64_t trace_hash = 0;
  };
  /// Runs until every started fiber is done. Fibers of Env::spawn() that still wait then do not count. Fibers left over are
  /// abandoned without unwinding by the destructor. What a fiber or a task throws comes out of run(). After more start()s, run()
  /// goes on from where it was.
  Report run();

  [[nodiscard]] Nanos now() const;
  std::uint64_t random();
  [[nodiscard]] std::uint64_t seed() const;

  /// Runs in the simulator's loop at that moment; must not block.
  void at(Nanos when, std::function<void()> task);

  /// The same for what reaches a node from outside, a packet. `lane`: see SimChoice.
  void at_node(NodeId node, std::uint64_t lane, Nanos when, std::function<void()> task);

  /// From now on the chooser says what comes next; an empty one gives the order back to time and insertion. Not from inside run().
  void set_chooser(SimChooser chooser);

  /// Adds to the trace hash: a word that says what happened (ids and values, never addresses).
  void trace(std::uint64_t what);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace netvm
