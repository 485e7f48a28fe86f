// Nic: what an event counter sets off. See counter_events.hpp for the invariants.
#include <algorithm>
#include <mutex>

#include "nic/nic_impl.hpp"

namespace netvm::nic {

// ---- the verbs ------------------------------------------------------------------------------------------------------------------------------

Status Nic::set_handler(const RemoteCounter& mine, std::uint64_t threshold, CounterHandler handler) {
  if (impl_->forked.load()) return Status::forked;
  if (mine.node != config_.node) return Status::counter_range;
  if (!handler) return Status::invalid;
  return impl_->events->set_handler(mine.id, threshold, std::move(handler));
}

Status Nic::clear_handler(const RemoteCounter& mine) {
  if (impl_->forked.load()) return Status::forked;
  return mine.node == config_.node ? impl_->events->clear_handler(mine.id) : Status::counter_range;
}

Result<TriggeredId> Nic::post_triggered(const RemoteCounter& mine, std::uint64_t threshold, const TriggeredOperation& operation,
                                        Completion* completion) {
  if (impl_->forked.load()) return Status::forked;
  if (mine.node != config_.node) return Status::counter_range;
  const bool notifies = operation.kind == TriggeredOperation::Kind::notify || operation.kind == TriggeredOperation::Kind::write_notify;
  const bool moves = operation.kind != TriggeredOperation::Kind::notify;
  if (operation.kind > TriggeredOperation::Kind::atomic || (notifies && !impl_->is_node(operation.counter.node)) ||
      (moves && !impl_->is_node(operation.region.node)) || (notifies && moves && operation.counter.node != operation.region.node) ||
      (operation.bytes > 0 && operation.source == nullptr) || operation.args.op > AtomicOp::fetch_or) {
    return Status::invalid;
  }
  // Whoever drives posts it, and must not wait for a page: the source stays from now on.
  const bool reads = operation.kind == TriggeredOperation::Kind::write || operation.kind == TriggeredOperation::Kind::write_notify;
  HeldMemory source(impl_->own, operation.source, reads ? operation.bytes : 0, HeldMemory::As::source_later);
  if (!ok(source.status())) return source.status();
  return impl_->events->post(mine.id, threshold, operation, source.take_pins(), completion);
}

bool Nic::cancel_triggered(const RemoteCounter& mine, TriggeredId id) {
  return mine.node == config_.node && !impl_->forked.load() && impl_->events->cancel(mine.id, id);
}

std::size_t Nic::cancel_triggered(const RemoteCounter& mine) { return mine.node == config_.node ? impl_->events->cancel_all(mine.id) : 0; }

// ---- arming ---------------------------------------------------------------------------------------------------------------------------------

CounterEvents::CounterEvents(Nic& nic, EventCounters& counters, Env& env, const std::atomic<bool>& has_engine)
    : nic_(nic), counters_(counters), env_(env), has_engine_(has_engine), tasks_(env), watches_(EventCounters::kEntries) {}
CounterEvents::~CounterEvents() = default;

CounterEvents::Watch& CounterEvents::watch(CounterId id) {
  std::unique_ptr<Watch>& slot = watches_[id.value];
  if (slot == nullptr) slot = std::make_unique<Watch>();
  return *slot;
}

bool CounterEvents::handler_due(const Watch& watch, std::uint64_t ok, std::uint64_t errors) const {
  return watch.handler != nullptr && !watch.closing && watch.state == State::idle && (ok >= watch.threshold || errors > watch.errors_told);
}

bool CounterEvents::arm(CounterId id, const Watch& watch) {
  if (!counters_.exists(id)) return false;
  EventCounter& counter = counters_.at(id);
  std::uint64_t lowest = watch.operations.empty() ? EventCounters::kUnarmed : watch.operations.begin()->first.threshold;
  if (watch.handler != nullptr && !watch.closing && watch.state == State::idle) lowest = std::min(lowest, watch.threshold);
  counter.armed.store(lowest);
  // What was counted before the store rang nobody: look again.
  const std::uint64_t ok = counter.ok.load();
  return (lowest != EventCounters::kUnarmed && ok >= lowest) || handler_due(watch, ok, counter.error.load());
}

bool CounterEvents::collect(CounterId id, Watch& watch, Operations* due) {
  const EventCounter& counter = counters_.at(id);
  bool queued = false;
  do {
    const std::uint64_t ok = counter.ok.load();
    while (!watch.operations.empty() && watch.operations.begin()->first.threshold <= ok) {
      due->insert(due->end(), watch.operations.extract(watch.operations.begin()));
    }
    if (handler_due(watch, ok, counter.error.load())) {
      watch.state = State::queued;
      ready_.push_back(id);
      queued = true;
    }
  } while (arm(id, watch));
  return queued;
}

Status CounterEvents::set_handler(CounterId id, std::uint64_t threshold, CounterHandler handler) {
  auto shared = std::make_shared<CounterHandler>(std::move(handler));
  bool reached = false;
  {
    const std::lock_guard guard(lock_);
    if (stopped_) return Status::cancelled;
    if (!counters_.exists(id)) return Status::counter_range;
    Watch& w = watch(id);
    if (w.handler != nullptr) return Status::invalid;
    w.handler = std::move(shared);
    w.threshold = std::min(threshold, kErrorsOnly);
    w.errors_told = 0;
    w.state = State::idle;
    reached = arm(id, w);
  }
  start_task(true);
  if (reached) look(id);
  return Status::ok;
}

Status CounterEvents::clear_handler(CounterId id) {
  if (id.value >= watches_.size()) return Status::counter_range;
  std::shared_ptr<CounterHandler> mine;  // keeps it until no lock is held
  for (;;) {
    const ParkOn ended = handler_ended_.on(handler_ended_.prepare());
    bool over = false;
    bool reached = false;
    {
      const std::lock_guard guard(lock_);
      Watch& w = watch(id);
      if (mine == nullptr) mine = w.handler;
      if (mine == nullptr || w.handler != mine) {
        over = true;  // there is none, or its last run has ended
      } else if (w.state == State::running) {
        w.closing = true;
        over = w.runner == env_.context();  // from inside: waiting would be for ever
      } else {
        if (w.state == State::queued) std::erase(ready_, id);
        reached = drop_handler(id, w);
        over = true;
      }
    }
    if (!over) env_.park({&ended, 1}, kForever);
    handler_ended_.finish();
    if (reached) look(id);
    if (over) return mine == nullptr ? Status::invalid : Status::ok;
  }
}

bool CounterEvents::drop_handler(CounterId id, Watch& watch) {
  watch.handler = nullptr;
  watch.closing = false;
  watch.state = State::idle;
  return arm(id, watch);
}

Result<TriggeredId> CounterEvents::post(CounterId id, std::uint64_t threshold, const TriggeredOperation& operation, FramePins source,
                                        Completion* completion) {
  std::uint64_t number = 0;
  bool reached = false;
  {
    const std::lock_guard guard(lock_);
    if (stopped_) return Status::cancelled;
    if (!counters_.exists(id)) return Status::counter_range;
    Watch& w = watch(id);
    number = next_id_++;
    w.operations.try_emplace({std::min(threshold, kErrorsOnly), number}, Triggered{operation, std::move(source), completion});
    reached = arm(id, w);
  }
  start_task(!has_engine_.load());
  if (reached) look(id);
  return TriggeredId{number};
}

// ---- cancelling -----------------------------------------------------------------------------------------------------------------------------

void CounterEvents::end_cancelled(Operations& operations) {
  for (auto& [order, triggered] : operations) Completion::end(triggered.completion, env_, Status::cancelled);
}

bool CounterEvents::cancel(CounterId id, TriggeredId which) {
  Operations cancelled;
  bool reached = false;
  {
    const std::lock_guard guard(lock_);
    Watch* w = id.value < watches_.size() ? watches_[id.value].get() : nullptr;
    if (w == nullptr) return false;
    const auto found = std::find_if(w->operations.begin(), w->operations.end(),
                                    [which](const auto& operation) { return operation.first.id == which.value; });
    if (found == w->operations.end()) return false;
    cancelled.insert(w->operations.extract(found));
    reached = arm(id, *w);
  }
  if (reached) look(id);
  end_cancelled(cancelled);
  return true;
}

std::size_t CounterEvents::cancel_all(CounterId id) {
  Operations cancelled;
  bool reached = false;
  {
    const std::lock_guard guard(lock_);
    Watch* w = id.value < watches_.size() ? watches_[id.value].get() : nullptr;
    if (w == nullptr) return 0;
    cancelled.swap(w->operations);
    reached = arm(id, *w);
  }
  if (reached) look(id);
  end_cancelled(cancelled);
  return cancelled.size();
}

void CounterEvents::stop() {
  Operations cancelled;
  {
    const std::lock_guard guard(lock_);
    stopped_ = true;
    for (const std::unique_ptr<Watch>& w : watches_) {
      if (w == nullptr) continue;
      cancelled.merge(w->operations);
      if (w->state == State::queued) w->state = State::idle;
    }
    ready_.clear();
  }
  end_cancelled(cancelled);
  counters_.tasks().announce(env_);
}

bool CounterEvents::runs_here() {
  const std::lock_guard guard(lock_);
  return std::any_of(watches_.begin(), watches_.end(), [this](const std::unique_ptr<Watch>& w) {
    return w != nullptr && w->state == State::running && w->runner == env_.context();
  });
}

void CounterEvents::close() { tasks_.close(); }

// ---- firing ---------------------------------------------------------------------------------------------------------------------------------

bool CounterEvents::fire() {
  // What is fired may increment counters of this node; bounded, as deliver_local() is. What is left keeps its mark.
  constexpr int kRounds = 8;
  bool any = false;
  for (int round = 0; round < kRounds; ++round) {
    bool found = false;
    counters_.take_marks([&](CounterId id) {
      service(id);
      found = true;
    });
    if (!found) break;
    any = true;
  }
  return any;
}

void CounterEvents::service(CounterId id) {
  Operations due;
  bool queued = false;
  bool short_of_tasks = false;
  {
    const std::lock_guard guard(lock_);
    Watch* w = watches_[id.value].get();
    if (w == nullptr || stopped_ || !counters_.exists(id)) return;
    queued = collect(id, *w, &due);
    short_of_tasks = ready_.size() > looking_;
  }
  if (queued && !short_of_tasks) counters_.tasks().announce(env_);
  if (queued && short_of_tasks) start_task(false);
  for (auto& [order, triggered] : due) start(triggered);
}

void CounterEvents::start(Triggered& triggered) {
  const TriggeredOperation& op = triggered.operation;
  switch (op.kind) {
    case TriggeredOperation::Kind::write:
      return nic_.post_write(op.region, op.offset, op.source, op.bytes, triggered.completion);
    case TriggeredOperation::Kind::write_notify:
      return nic_.post_write_notify(op.region, op.offset, op.source, op.bytes, op.counter, op.increment, op.mode, triggered.completion);
    case TriggeredOperation::Kind::notify:
      return nic_.post_notify(op.counter, op.increment, triggered.completion);
    case TriggeredOperation::Kind::atomic:
      return nic_.post_atomic(op.region, op.offset, op.args, triggered.completion);
  }
}

void CounterEvents::look(CounterId id) {
  counters_.mark(id);
  (void)nic_.drive_once();
  if (counters_.any_marked()) counters_.ring(env_);  // another thread drives, or this one does and has yet to come to it
}

// ---- event tasks ----------------------------------------------------------------------------------------------------------------------------

/// Starts one if handlers are queued that no task will come to; with `wanted`, if none looks at all.
void CounterEvents::start_task(bool wanted) {
  {
    const std::lock_guard guard(lock_);
    if (stopped_ || (ready_.size() <= looking_ && !(wanted && looking_ == 0))) return;
    ++looking_;
  }
  if (tasks_.spawn([this] { run_tasks(); })) return;
  const std::lock_guard guard(lock_);
  --looking_;
}

bool CounterEvents::take_ready(Run* run) {
  const std::lock_guard guard(lock_);
  if (ready_.empty() || stopped_) return false;
  run->id = ready_.front();
  ready_.pop_front();
  Watch& w = *watches_[run->id.value];
  w.state = State::running;
  w.runner = env_.context();
  run->handler = w.handler;
  --looking_;
  return true;
}

void CounterEvents::run_tasks() {
  for (;;) {
    Run run;
    if (take_ready(&run)) {
      start_task(!has_engine_.load());  // while this one is in the handler
      run_handler(std::move(run));
      continue;
    }
    if (counters_.any_marked() && !nic_.drive_once()) env_.relax();  // somebody else does
    {
      const std::lock_guard guard(lock_);
      if (stopped_ || (ready_.empty() && looking_ > 1)) {
        --looking_;
        return;
      }
      if (!ready_.empty()) continue;
    }
    const auto changed = [this] {
      if (counters_.any_marked()) return true;
      const std::lock_guard guard(lock_);
      return !ready_.empty() || stopped_;
    };
    (void)nic_.wait_until(counters_.tasks(), changed);
  }
}

void CounterEvents::run_handler(Run run) {
  const EventCounter& counter = counters_.at(run.id);
  const std::uint64_t ok = counter.ok.load(std::memory_order_acquire);         // acquire: partner is the increment
  const std::uint64_t errors = counter.error.load(std::memory_order_acquire);  // acquire: partner is the increment
  const std::uint64_t next = (*run.handler)(ok, errors);
  const std::shared_ptr<CounterHandler> last = std::move(run.handler);  // goes after the lock
  bool ended = false;
  const std::lock_guard guard(lock_);
  ++looking_;
  Watch& w = *watches_[run.id.value];
  w.threshold = std::min(next, kErrorsOnly);
  w.errors_told = errors;
  w.state = State::idle;
  ended = w.closing;
  if (ended ? drop_handler(run.id, w) : arm(run.id, w)) counters_.mark(run.id);  // run_tasks() looks before it waits
  if (ended) handler_ended_.announce(env_);
}

}  // namespace netvm::nic
