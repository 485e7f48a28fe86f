// How long a wait spins: nic/spin_budget.hpp. The clock is given, so nothing here takes time. And where another node's thread is: Nic::shares_processor().
#include "nic/spin_budget.hpp"

#include <doctest/doctest.h>
#include <sched.h>

#include <algorithm>
#include <array>
#include <thread>

#include "runtime/topology.hpp"
#include "tests/support/nic_world.hpp"

namespace netvm::nic {
namespace {

/// A clock that stands where it is put.
class ClockOnly final : public Env {
 public:
  explicit ClockOnly(Nanos spin_budget) : spin_budget_(spin_budget) {}
  Nanos time = 1;

  [[nodiscard]] Nanos now() const override { return time; }
  std::uint64_t random() override { return 0; }
  void park(std::span<const ParkOn> /*words*/, Nanos /*deadline*/) override {}
  [[nodiscard]] std::uintptr_t context() const override { return 1; }
  void wake(const std::atomic<std::uint32_t>& /*word*/, int /*count*/) override {}
  void relax() override {}
  [[nodiscard]] Nanos spin_budget() const override { return spin_budget_; }
  void at(Nanos /*when*/, std::function<void()> /*task*/) override {}
  void spawn(std::function<void()> /*task*/) override {}

 private:
  const Nanos spin_budget_;
};

// Waits from `from` for what comes at `comes`, as a waiting thread does; a sleeper goes on `wake_up` later. Returns when the thread goes on.
Nanos wait(ClockOnly& clock, SpinHistory& history, Nanos from, Nanos comes, Nanos wake_up) {
  if (comes <= from) return from;
  SpinBudget spin(clock, history);
  constexpr Nanos kLook = 10;
  for (clock.time = from; clock.time < comes; clock.time += kLook) {
    if (spin.lasts(clock.time)) continue;
    spin.sleeps(clock.time);
    clock.time = comes + wake_up;
  }
  spin.over();
  return clock.time;
}

// Two nodes meet `times` times, each at work for `work` in between; node 1 is late for the first. How long a meeting took, of the second half.
Nanos meet(Nanos budget, Nanos wake_up, int times, bool learns) {
  ClockOnly clock(budget);
  std::array<SpinHistory, 2> histories{SpinHistory(budget), SpinHistory(budget)};
  constexpr Nanos kWork = 10;
  std::array<Nanos, 2> at{1, 1 + 20 * budget};
  Nanos half_time = 0;
  for (int i = 0; i < times; ++i) {
    if (i == times / 2) half_time = std::max(at[0], at[1]);
    std::array<SpinHistory, 2> fresh{SpinHistory(budget), SpinHistory(budget)};
    std::array<SpinHistory, 2>& known = learns ? histories : fresh;
    const Nanos first = wait(clock, known[0], at[0], at[1], wake_up);
    const Nanos second = wait(clock, known[1], at[1], at[0], wake_up);
    at = {first + kWork, second + kWork};
  }
  return (std::max(at[0], at[1]) - half_time) / (times - times / 2);
}

}  // namespace

TEST_CASE("a wait spins for its budget, and for another one whenever it was of use") {
  ClockOnly clock(1000);
  SpinHistory history(clock.spin_budget());
  SpinBudget spin(clock, history);
  REQUIRE(spin.any());
  CHECK(spin.lasts(10));  // from here on
  CHECK(spin.lasts(900));
  spin.renew();
  CHECK(spin.lasts(5000));  // from here on: what it was at work for does not count
  CHECK(spin.lasts(5900));
  CHECK_FALSE(spin.lasts(6100));
  CHECK_FALSE(spin.lasts(6100));
  CHECK_FALSE(spin.any());
  spin.renew();
  CHECK(spin.any());
  CHECK(spin.lasts(9000));
  CHECK_FALSE(spin.lasts(10'000));
}

TEST_CASE("who is not to spin does not, of use or not, and learns nothing else") {
  ClockOnly clock(0);
  SpinHistory history(clock.spin_budget());
  for (int i = 0; i < 3; ++i) {
    SpinBudget spin(clock, history);
    CHECK_FALSE(spin.any());
    CHECK_FALSE(spin.lasts(10));
    spin.renew();
    CHECK_FALSE(spin.any());
    CHECK_FALSE(spin.turn());
    CHECK_FALSE(spin.lasts(20));
    spin.sleeps(20);
    clock.time = 21;
    spin.over();
  }
  CHECK(history.budget() == 0);
}

TEST_CASE(
    "a sleep that spinning a bit longer would have spared makes the next waits do so, up to a limit; long sleeps and quick answers take it "
    "back") {
  constexpr Nanos kUsual = 1000;
  ClockOnly clock(kUsual);
  SpinHistory history(kUsual);
  const auto wait_for = [&](Nanos comes_after) { (void)wait(clock, history, clock.time, clock.time + comes_after, 100); };

  wait_for(500);
  CHECK(history.budget() == kUsual);
  wait_for(2500);
  CHECK(history.budget() == 2 * kUsual);
  wait_for(1900);  // answered while it spins, but not without what has been learnt
  CHECK(history.budget() == 2 * kUsual);
  for (const Nanos after : {5000, 10'000, 20'000, 20'000}) wait_for(after);
  CHECK(history.budget() == SpinHistory::kMostGrowth * kUsual);

  for (const Nanos budget : {4 * kUsual, 2 * kUsual, kUsual, kUsual}) {
    wait_for(1'000'000);
    CHECK(history.budget() == budget);
  }

  wait_for(2500);
  REQUIRE(history.budget() == 2 * kUsual);
  for (int i = 0; i < 100; ++i) wait_for(20);
  CHECK(history.budget() == kUsual);
}

TEST_CASE("who gives up spinning sleeps at once, whatever happens, and learns nothing from that") {
  ClockOnly clock(1000);
  SpinHistory history(clock.spin_budget());
  SpinBudget spin(clock, history);
  REQUIRE(spin.begins());
  spin.give_up();
  CHECK_FALSE(spin.begins());
  CHECK_FALSE(spin.lasts(10));
  spin.sleeps(10);
  spin.renew();
  CHECK_FALSE(spin.begins());
  CHECK_FALSE(spin.lasts(20));
  clock.time = 1500;
  spin.over();
  CHECK(history.budget() == 1000);
}

TEST_CASE("something that happens while a thread sleeps, and is not what it waits for, is not what the sleep was for") {
  ClockOnly clock(1000);
  SpinHistory history(clock.spin_budget());
  SpinBudget spin(clock, history);
  CHECK(spin.lasts(10));
  CHECK_FALSE(spin.lasts(1100));
  spin.sleeps(1100);
  spin.renew();
  CHECK(spin.lasts(1200));
  clock.time = 1300;
  spin.over();
  CHECK(history.budget() == 1000);
}

TEST_CASE("two nodes that tell each other at once do not sleep in turns for ever because one was late") {
  constexpr Nanos kBudget = 1000;
  for (const Nanos wake_up : {1100, 1500, 2000, 2400}) {
    CHECK(meet(kBudget, wake_up, 1000, false) > wake_up / 3);  // what is to be avoided
    CHECK(meet(kBudget, wake_up, 1000, true) < 30);
  }
  CHECK(meet(kBudget, 900, 1000, false) < 30);  // a wake-up that takes less than the budget: no need to learn
}

TEST_CASE("who is put back again and again asks to be moved ever more seldom") {
  constexpr Nanos kFirst = ProcessorMoves::kFirstPause;
  ProcessorMoves moves;
  Nanos now = 100 * kFirst;
  REQUIRE(moves.due(now));
  CHECK_FALSE(moves.due(now + kFirst - 1));  // it could not be moved
  now += kFirst;
  REQUIRE(moves.due(now));
  moves.moved(now);
  for (Nanos pause = kFirst; pause < ProcessorMoves::kLongestPause; pause *= 2) {
    CHECK_FALSE(moves.due(now + pause - 1));
    now += pause;
    REQUIRE(moves.due(now));
    moves.moved(now);
  }
  now += ProcessorMoves::kLongestPause;
  REQUIRE(moves.due(now));
  moves.moved(now);
  CHECK_FALSE(moves.due(now + ProcessorMoves::kLongestPause - 1));
  now += 3 * ProcessorMoves::kLongestPause;
  REQUIRE(moves.due(now));
  moves.moved(now);
  CHECK(moves.due(now + kFirst));
}

namespace {

// A thread of one node waits where it finds noted that one of the other node was.
void wait_beside(std::uint32_t waiting, bool bound, bool* moved) {
  constexpr Nanos kForAnHour = 3'600'000'000'000;
  test::NicWorldOptions options;
  options.spin = kForAnHour;
  options.engines = false;
  test::ThreadNicWorld world(test::WorldKind::direct, options);
  Nic& nic = world.nic(waiting);
  const auto noted = [&world](std::uint32_t node) { return world.device(node).header().processor.load() % (1U << 16); };
  WaitWord word;
  std::atomic<bool> come{false};
  std::atomic<bool> is_set_up{false};
  std::thread waiter([&] {
    cpu_set_t all;
    REQUIRE(sched_getaffinity(0, sizeof(all), &all) == 0);
    const int here = nic.env().processor();
    REQUIRE(bind_this_thread(here));
    world.device(1 - waiting).header().processor.store((std::uint64_t{1} << 16) + static_cast<std::uint64_t>(here) + 1);
    if (!bound) REQUIRE(sched_setaffinity(0, sizeof(all), &all) == 0);
    is_set_up.store(true);
    CHECK(nic.wait_until(word, [&] { return come.load(); }) == Status::ok);
    cpu_set_t after;
    REQUIRE(sched_getaffinity(0, sizeof(after), &after) == 0);
    if (!bound) CHECK(CPU_EQUAL(&all, &after));
  });
  const auto looks = [&] {
    return word.has_waiters() || (is_set_up.load() && noted(waiting) != 0 && noted(waiting) != noted(1 - waiting));
  };
  for (int i = 0; i < 60'000 && !looks(); ++i) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  *moved = !word.has_waiters();
  CHECK(looks());
  CHECK(noted(waiting) != 0);
  come.store(true);
  word.announce(nic.env());
  waiter.join();
}

}  // namespace

TEST_CASE("who waits does not spin where a thread of another node was, and says where it is itself") {
  bool moved = true;
  wait_beside(0, true, &moved);
  CHECK_FALSE(moved);
  wait_beside(1, true, &moved);
  CHECK_FALSE(moved);
}

TEST_CASE("of two nodes' threads on one processor the higher one goes elsewhere, if it may") {
  if (Topology::of_this_host().processors().size() < 2) return;
  bool moved = false;
  wait_beside(1, false, &moved);
  CHECK(moved);
}

}  // namespace netvm::nic
