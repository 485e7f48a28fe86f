// RealEnv: the Env of a process: futexes, CLOCK_MONOTONIC, threads.
//
// Invariants
//  1. Words that are parked on may lie in memory shared between processes: the futexes are never private.
//  2. Timers run only in run_due_timers(), so in the thread that calls it (the node's engine); at() itself never runs a task.
//  3. The destructor waits for spawned tasks: they must end by themselves. Timers that have not run are dropped.
// Threads: every function may be called from any thread; wake(), park(), now(), random() and relax() from signal handlers, too.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>

#include "runtime/env.hpp"

namespace netvm {

struct RealEnvOptions {
  Nanos spin_budget = 0;   ///< what spin_budget() answers
  bool crowded = false;    ///< more threads than cores: relax() gives the processor away now and then
  std::uint64_t seed = 0;  ///< of random(); 0 takes one from the kernel
};

class RealEnv final : public Env {
 public:
  explicit RealEnv(const RealEnvOptions& options = {});
  ~RealEnv() override;

  [[nodiscard]] Nanos now() const override;
  std::uint64_t random() override;
  /// Two words need futex_waitv (Linux 5.16). Without it the first is honoured and the second looked at every 200 us.
  void park(std::span<const ParkOn> words, Nanos deadline) override;
  void wake(const std::atomic<std::uint32_t>& word, int count) override;
  void relax() override;
  [[nodiscard]] std::uintptr_t context() const override;
  [[nodiscard]] Nanos spin_budget() const override { return options_.spin_budget; }
  [[nodiscard]] int processor() const override;
  bool move_from(std::span<const int> processors) override;
  void at(Nanos when, std::function<void()> task) override;
  void spawn(std::function<void()> task) override;

  /// When the earliest timer is due; kForever if there is none. The engine parks no longer than this.
  [[nodiscard]] Nanos next_timer() const;
  /// Runs the tasks whose moment has come, in the order of their moments, without a lock held; returns how many.
  std::size_t run_due_timers();
  /// Called by at() (in its thread) when the new timer is due before all others: the engine's park must end earlier now.
  /// Set it before other threads use this object.
  void set_earlier_timer_hook(std::function<void()> hook);

 private:
  struct Timers;
  class Workers;

  RealEnvOptions options_;
  std::atomic<std::uint64_t> random_state_;
  std::unique_ptr<Timers> timers_;
  std::unique_ptr<Workers> workers_;
};

}  // namespace netvm
