// How the threads of a random race-free program keep out of each other's way: its locks, which may be of several kinds, and what ends its phases.
#pragma once

#include <atomic>
#include <cstdint>
#include <vector>

#include "runtime/random.hpp"
#include "runtime/status.hpp"
#include "tests/support/drf_plan.hpp"
#include "tests/support/machine.hpp"

namespace netvm::test {

class Guards {
 public:
  enum class Hold : std::uint8_t { none, reads, writes };

  Guards(const Plan& plan, const DrfOptions& options, std::uint32_t nodes, std::uint32_t threads)
      : plan_(plan), options_(options), stops_(std::size_t{nodes} * (threads + 1)) {}

  /// One thread of each node, before the first use.
  void bind(Worker& me);
  /// One thread, before the first use: the memory may have held others before.
  void begin(Worker& me);
  /// None: the thread has lost patience. Never with `patient`.
  Hold take(Worker& me, std::uint32_t lock, SplitMix64& random, bool patient = false);
  void give_back(Worker& me, std::uint32_t lock, Hold hold);
  /// Everybody waits for everybody. Not with the machine's barrier: then false.
  bool meet_all(Worker& me, std::uint32_t phase, SplitMix64& random);
  /// Asks a thread of this node that waits with a stop flag to give up, if there is one.
  void stop_somebody(Worker& me, SplitMix64& random);
  /// Locks that were not had.
  [[nodiscard]] std::uint64_t given_up() const { return given_up_.load(); }

 private:
  struct Patience {
    Nanos deadline = kForever;  ///< 0: does not wait
    const std::atomic<bool>* give_up = nullptr;
  };
  /// A thread that waits until it is asked to stop: for the lock before this number; 0: it does not.
  struct Stop {
    std::atomic<bool> asked{false};
    std::atomic<std::uint32_t> behind{0};
  };

  Stop& stop_of(const Worker& me, std::uint32_t local) { return stops_[std::size_t{me.node()} * (me.threads() + 1) + local]; }
  Patience choose_patience(Worker& me, std::uint32_t lock, SplitMix64& random);
  Hold take_with(Worker& me, std::uint32_t lock, const Patience& patience, SplitMix64& random);
  Hold take_monitor(Worker& me, std::uint32_t lock, const Patience& patience);
  bool lock_mutex(Worker& me, std::uint32_t lock, const Patience& patience);
  void meet(Worker& me, std::uint64_t barrier, std::uint64_t count, SplitMix64& random);
  // wait(deadline), again and again where it gives up.
  template <class Wait>
  void keep_waiting(Worker& me, SplitMix64& random, const char* what, Wait&& wait);
  Nanos soon(Worker& me, SplitMix64& random) const;

  const Plan& plan_;
  const DrfOptions& options_;
  std::vector<Stop> stops_;
  std::atomic<std::uint64_t> given_up_{0};
};

}  // namespace netvm::test
