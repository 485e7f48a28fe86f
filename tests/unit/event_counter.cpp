// Event counters as a table: existence, the two halves, announcing.
#include "nic/event_counter.hpp"

#include <doctest/doctest.h>

#include <thread>
#include <vector>

#include "runtime/real_env.hpp"

using namespace netvm;
using namespace netvm::nic;

namespace {

struct Counters {
  RealEnv env;
  std::vector<EventCounter> memory{EventCounters::kEntries};
  CounterMarks marks{};
  Doorbell bell{};
  EventCounters counters{memory.data(), &marks, &bell};
};

}  // namespace

TEST_CASE("a counter that does not exist counts nothing and says so") {
  Counters c;
  CHECK(c.counters.increment(CounterId{0}, 1, c.env) == Status::counter_range);
  CHECK(c.counters.increment(CounterId{EventCounters::kEntries}, 1, c.env) == Status::counter_range);
  CHECK(c.counters.increment_error(CounterId{~0U}, c.env) == Status::counter_range);
  CHECK(c.memory[0].ok.load() == 0);
  const CounterId id = c.counters.create().value();
  CHECK(c.counters.increment(id, 5, c.env) == Status::ok);
  CHECK(c.counters.increment_error(id, c.env) == Status::ok);
  CHECK(c.counters.at(id).ok.load() == 5);
  CHECK(c.counters.at(id).error.load() == 1);
  CHECK(c.counters.destroy(id, c.env) == Status::ok);
  CHECK(c.counters.destroy(id, c.env) == Status::counter_range);
  CHECK(c.counters.increment(id, 1, c.env) == Status::counter_range);
  CHECK(c.counters.at(id).ok.load() == 5);
}

TEST_CASE("a new counter is zero, and a freed one is reused as late as possible") {
  Counters c;
  const CounterId first = c.counters.create().value();
  (void)c.counters.increment(first, 9, c.env);
  (void)c.counters.destroy(first, c.env);
  for (std::uint32_t i = 1; i < EventCounters::kEntries; ++i) CHECK(c.counters.create().value() != first);
  CHECK(c.counters.create().value() == first);
  CHECK(c.counters.at(first).ok.load() == 0);
  CHECK(c.counters.create().status() == Status::exhausted);
}

TEST_CASE("increments of several threads add up, and carry what was written before them") {
  Counters c;
  const CounterId id = c.counters.create().value();
  constexpr std::uint64_t kThreads = 3, kEach = 20'000;
  std::vector<std::uint64_t> plain(kThreads, 0);
  std::vector<std::thread> threads;
  for (std::uint64_t t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      plain[t] = t + 1;  // plain: the increment publishes it
      for (std::uint64_t i = 0; i < kEach; ++i) (void)c.counters.increment(id, 1, c.env);
    });
  }
  while (c.counters.at(id).ok.load(std::memory_order_acquire) < kThreads * kEach) std::this_thread::yield();
  for (std::uint64_t t = 0; t < kThreads; ++t) CHECK(plain[t] == t + 1);
  for (std::thread& t : threads) t.join();
  CHECK(c.counters.at(id).ok.load() == kThreads * kEach);
}
