// Counter events: what the owner of an event counter wants done when it reaches a threshold: triggered operations, which whoever drives the NIC
// posts, and a handler, which an event task runs (a context of Env::spawn).
//
// Invariants
//  1. EventCounter::armed is, under the lock, the lowest threshold of the counter's triggered operations and of its handler if that is idle. Whoever stores it
//     looks at the halves afterwards, and acts or marks the counter if they have reached it (pitfall 10: arm, re-check).
//  2. A triggered operation leaves its counter's list once: fired, cancelled or stopped. Operations are fired by the driver alone, so in order.
//  3. A handler is idle, queued or running; queued or running in one task at most. When a run ends its counter is armed again, and
//     marked if that is reached already: the next look queues it again.
//  4. As long as a counter is armed, an event task looks for work or the node has an engine; a queued handler has a task that will look. A task in a
//     handler is none that looks.
//  5. A handler that clears itself is closing: it keeps its counter's place until the run has ended, and who else clears it waits for that.
//  6. No lock is held while an operation is posted, a completion ends or a handler runs or is destroyed.
// Threads: any, but fire(): the driver.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "nic/event_counter.hpp"
#include "nic/verbs.hpp"
#include "runtime/env.hpp"
#include "runtime/host_vm.hpp"
#include "runtime/ids.hpp"
#include "runtime/status.hpp"
#include "runtime/task_group.hpp"

namespace netvm::nic {

class Nic;

class CounterEvents final {
 public:
  /// `has_engine`: a thread drives the NIC whenever somebody rings, so triggered operations need no task.
  CounterEvents(Nic& nic, EventCounters& counters, Env& env, const std::atomic<bool>& has_engine);
  ~CounterEvents();
  CounterEvents(const CounterEvents&) = delete;
  CounterEvents& operator=(const CounterEvents&) = delete;

  // See Nic's functions of these names.
  Status set_handler(CounterId id, std::uint64_t threshold, CounterHandler handler);
  Status clear_handler(CounterId id);
  /// `source`: keeps the operation's source where it is until it has fired.
  Result<TriggeredId> post(CounterId id, std::uint64_t threshold, const TriggeredOperation& operation, FramePins source,
                           Completion* completion);
  bool cancel(CounterId id, TriggeredId which);
  std::size_t cancel_all(CounterId id);

  /// Looks at the counters that are marked, fires and queues what is due. Returns whether there was anything. Under the driver's role.
  bool fire();
  /// Cancels everything; nothing is fired and no handler begins to run any more. Does not block.
  void stop();
  /// Whether the caller is inside a handler.
  [[nodiscard]] bool runs_here();
  /// After stop(): blocks until no task runs.
  void close();

 private:
  struct Order {
    std::uint64_t threshold;
    std::uint64_t id;  // grows with each post
    auto operator<=>(const Order&) const = default;
  };
  struct Triggered {
    TriggeredOperation operation;
    FramePins source;
    Completion* completion;
  };
  using Operations = std::map<Order, Triggered>;
  enum class State : std::uint8_t { idle, queued, running };
  struct Watch {
    Operations operations;
    std::shared_ptr<CounterHandler> handler;
    std::uint64_t threshold = 0;    // of the handler
    std::uint64_t errors_told = 0;  // to the handler
    State state = State::idle;
    bool closing = false;       // the handler's next end is its last
    std::uintptr_t runner = 0;  // while running: Env::context() of the task
  };

  Watch& watch(CounterId id);
  bool handler_due(const Watch& watch, std::uint64_t ok, std::uint64_t errors) const;
  /// Stores what the counter is armed for now. True: that is reached already.
  bool arm(CounterId id, const Watch& watch);
  /// Arms; takes what is due into `due` and the queue of handlers. Returns whether a handler was queued.
  bool collect(CounterId id, Watch& watch, Operations* due);
  void service(CounterId id);
  void start(Triggered& triggered);
  void end_cancelled(Operations& operations);
  /// Marks the counter and has the marks looked at, by this thread or by others.
  void look(CounterId id);
  /// Forgets the handler, which is not running. Returns whether a triggered operation is due.
  bool drop_handler(CounterId id, Watch& watch);

  struct Run {
    CounterId id{};
    std::shared_ptr<CounterHandler> handler;
  };
  void start_task(bool wanted);
  void run_tasks();
  bool take_ready(Run* run);
  void run_handler(Run run);

  Nic& nic_;
  EventCounters& counters_;
  Env& env_;
  const std::atomic<bool>& has_engine_;
  TaskGroup tasks_;
  WaitWord handler_ended_;  // clear_handler() waits here

  SpinLock lock_;                                // guards everything below
  std::vector<std::unique_ptr<Watch>> watches_;  // by counter; made when first needed
  std::deque<CounterId> ready_;                  // handlers to run, oldest first
  std::uint64_t next_id_ = 1;
  std::uint32_t looking_ = 0;  // tasks that will look at ready_ before they end
  bool stopped_ = false;
};

}  // namespace netvm::nic
