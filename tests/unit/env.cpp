// What is built on Env, in both worlds: EnvMutex excludes, WaitWord loses nothing; SpinLock between threads.
#include "runtime/env.hpp"

#include <doctest/doctest.h>

#include <mutex>
#include <thread>
#include <vector>

#include "runtime/real_env.hpp"
#include "runtime/simulator.hpp"

using netvm::Env;
using netvm::EnvMutex;
using netvm::kForever;
using netvm::NodeId;
using netvm::ParkOn;
using netvm::RealEnv;
using netvm::SimOptions;
using netvm::Simulator;
using netvm::SpinLock;
using netvm::WaitWord;

namespace {

constexpr int kRounds = 2000;
constexpr int kContenders = 4;

// Not atomic on purpose: ThreadSanitizer and the sum notice a lock that does not exclude.
struct Counter {
  int inside = 0;
  int sum = 0;
  bool clash = false;
};

void contend(Env& env, EnvMutex& mutex, Counter& counter, int rounds) {
  for (int i = 0; i < rounds; ++i) {
    const std::lock_guard lock(mutex);
    if (++counter.inside != 1) counter.clash = true;
    const int before = counter.sum;
    if (i % 16 == 0) env.relax();
    counter.sum = before + 1;
    --counter.inside;
  }
}

void contend_with_threads(const netvm::RealEnvOptions& options) {
  RealEnv env(options);
  EnvMutex mutex(env);
  Counter counter;
  std::vector<std::thread> threads;
  for (int t = 0; t < kContenders; ++t) threads.emplace_back([&] { contend(env, mutex, counter, kRounds); });
  for (std::thread& thread : threads) thread.join();
  CHECK_FALSE(counter.clash);
  CHECK(counter.sum == kContenders * kRounds);
}

}  // namespace

TEST_CASE("an EnvMutex excludes threads, spinning or parking") {
  SUBCASE("parking at once, crowded") { contend_with_threads({.spin_budget = 0, .crowded = true, .seed = 1}); }
  SUBCASE("spinning first") { contend_with_threads({.spin_budget = 20'000, .crowded = false, .seed = 1}); }
}

TEST_CASE("an EnvMutex excludes fibers in every interleaving") {
  for (std::uint64_t seed = 1; seed <= 50; ++seed) {
    SimOptions options;
    options.seed = seed;
    Simulator sim(options);
    Env& env = sim.env(NodeId{0});
    EnvMutex mutex(env);
    Counter counter;
    for (int f = 0; f < kContenders; ++f) {
      sim.start(NodeId{0}, "contender", [&] { contend(env, mutex, counter, 64); });
    }
    const Simulator::Report report = sim.run();
    REQUIRE_MESSAGE(report.end == Simulator::End::all_done, report.text);
    CHECK_FALSE(counter.clash);
    CHECK(counter.sum == kContenders * 64);
  }
}

TEST_CASE("try_lock tells whether the mutex is held") {
  RealEnv env;
  EnvMutex mutex(env);
  CHECK(mutex.try_lock());
  CHECK_FALSE(mutex.try_lock());
  mutex.unlock();
  CHECK(mutex.try_lock());
  mutex.unlock();
}

TEST_CASE("a wait word between threads loses no wake-up") {
  RealEnv env({.spin_budget = 0, .crowded = true, .seed = 1});
  WaitWord word;
  std::atomic<int> turn{0};
  auto play = [&](int parity) {
    for (int round = parity; round < kRounds; round += 2) {
      while (turn.load() != round) {
        const std::uint32_t ticket = word.prepare();
        if (turn.load() != round) {
          const ParkOn on = word.on(ticket);
          env.park({&on, 1}, kForever);
        }
        word.finish();
      }
      turn.store(round + 1);
      word.announce(env);
    }
  };
  std::thread other([&] { play(1); });
  play(0);
  other.join();
  CHECK(turn.load() == kRounds);
  CHECK_FALSE(word.has_waiters());
}

TEST_CASE("a spin lock excludes threads even where they outnumber the cores") {
  SpinLock lock;
  int sum = 0;
  std::vector<std::thread> threads;
  for (int t = 0; t < 8; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < kRounds; ++i) {
        const std::lock_guard guard(lock);
        ++sum;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(sum == 8 * kRounds);
  CHECK(lock.try_lock());
  CHECK_FALSE(lock.try_lock());
  lock.unlock();
}
