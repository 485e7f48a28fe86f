#include "nic/event_counter.hpp"

namespace netvm::nic {

Result<CounterId> EventCounters::create() {
  for (std::uint32_t tried = 0; tried < kEntries; ++tried) {
    const std::uint32_t index = (next_ + tried) % kEntries;
    EventCounter& counter = counters_[index];
    if (counter.in_use.load(std::memory_order_relaxed) != 0) continue;  // relaxed: only the owner writes it, serialised
    counter.ok.store(0, std::memory_order_relaxed);                     // relaxed: published by in_use
    counter.error.store(0, std::memory_order_relaxed);                  // relaxed: published by in_use
    counter.armed.store(kUnarmed, std::memory_order_relaxed);           // relaxed: published by in_use
    counter.in_use.store(1, std::memory_order_release);                 // release: partner is exists()'s acquire
    next_ = index + 1;
    return CounterId{index};
  }
  return Status::exhausted;
}

Status EventCounters::destroy(CounterId id, Env& env) {
  if (!exists(id)) return Status::counter_range;
  EventCounter& counter = at(id);
  counter.in_use.store(0, std::memory_order_release);  // release: nothing of the counter's use moves below
  counter.armed.store(kUnarmed);
  counter.waiters.announce(env);
  return Status::ok;
}

void EventCounters::increment_all_errors(Env& env) {
  for (std::uint32_t index = 0; index < kEntries; ++index) {
    if (exists(CounterId{index})) (void)increment_error(CounterId{index}, env);
  }
}

void EventCounters::mark(CounterId id) {
  const std::uint32_t group = id.value / 64;
  marks_->counters[group].fetch_or(std::uint64_t{1} << (id.value % 64));
  marks_->groups.fetch_or(std::uint64_t{1} << group);
}

void EventCounters::ring(Env& env) {
  // Both kinds of sleeper announce themselves, then look at the marks, then park: whoever registers after this look sees the mark.
  if (marks_->tasks.has_waiters()) {
    marks_->tasks.announce(env);
  } else {
    bell_->wake_one(env);
  }
}

}  // namespace netvm::nic
