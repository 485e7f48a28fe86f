#include "nic/event_counter.hpp"

namespace netvm::nic {

Result<CounterId> EventCounters::create(bool own) {
  std::uint32_t& next = own ? next_own_ : next_;
  for (std::uint32_t tried = 0; tried < kEntries; ++tried) {
    const std::uint32_t at = (next + tried) % kEntries;
    const std::uint32_t index = own ? kEntries - 1 - at : at;
    if (!try_create(index)) continue;
    next = at + 1;
    return CounterId{index};
  }
  return Status::exhausted;
}

bool EventCounters::try_create(std::uint32_t index) {
  if (exists(CounterId{index})) return false;
  EventCounter& counter = counters_[index];
  counter.ok.store(0, std::memory_order_relaxed);            // relaxed: published by its bit
  counter.error.store(0, std::memory_order_relaxed);         // relaxed: published by its bit
  counter.armed.store(kUnarmed, std::memory_order_relaxed);  // relaxed: published by its bit
  // release: partner is exists()'s acquire
  marks_->exist[index / 64].fetch_or(std::uint64_t{1} << (index % 64), std::memory_order_release);
  return true;
}

Status EventCounters::destroy(CounterId id, Env& env) {
  if (!exists(id)) return Status::counter_range;
  EventCounter& counter = at(id);
  // release: nothing of the counter's use moves below
  marks_->exist[id.value / 64].fetch_and(~(std::uint64_t{1} << (id.value % 64)), std::memory_order_release);
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
