// Topology: the processors that this process may use, and who runs on which. The one user of hwloc.
//
// Invariants
//  1. All nodes of a host make the same plan from the same topology without talking to each other: no processor is given twice.
//  2. Where application threads of all nodes of this host outnumber the processors, the host is crowded: nobody spins, for a spinning
//     thread keeps off the very one that it waits for. Where they fit but the engines do not, engines sleep (a waiting thread drives its NIC).
//     Threads are bound only where all of both have a processor.
//  3. The processors are those that the process was allowed at its first look: a thread that was bound later changes nothing.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "runtime/env.hpp"
#include "runtime/settings.hpp"

namespace netvm {

/// What one node does with its threads. Processors are named by the operating system's numbers.
struct Binding {
  bool crowded = false;
  Nanos spin_ns = 0;                   ///< how long application threads spin before they park
  Nanos engine_spin_ns = 0;            ///< the same for the engine
  std::vector<int> application_cores;  ///< by application thread; empty: bind none
  int engine_core = -1;                ///< -1: do not bind
};

class Topology {
 public:
  /// Of this host, restricted to the cpuset and affinity of this process at the first call, and to its cgroup's CPU quota.
  static const Topology& of_this_host();
  /// Of a machine that is described in hwloc's words, "numa:2 core:4 pu:2"; for tests.
  static Topology synthetic(const std::string& description);

  /// A hardware thread.
  struct Processor {
    int number = 0;  ///< the operating system's
    int core = 0;    ///< equal for the hardware threads of one core
    int numa = 0;
    int sibling = 0;  ///< 0 for the first hardware thread of its core, 1 for the second, ...
  };
  /// Near ones next to each other.
  [[nodiscard]] const std::vector<Processor>& processors() const { return processors_; }
  /// How many threads can run at once: the processors, or fewer by quota.
  [[nodiscard]] std::uint32_t capacity() const { return capacity_; }

  /// The plan of one of `nodes_on_host` nodes that have `threads_per_node` application threads and an engine each.
  [[nodiscard]] Binding plan(std::uint32_t nodes_on_host, std::uint32_t index_on_host, std::uint32_t threads_per_node,
                             const Settings& settings) const;

  /// Overrides the capacity, as a quota does; for tests.
  void set_capacity(std::uint32_t threads) { capacity_ = threads; }

 private:
  struct Plan;
  [[nodiscard]] Plan assign(std::uint32_t nodes, std::uint32_t threads_per_node) const;

  std::vector<Processor> processors_;
  std::uint32_t capacity_ = 1;
};

/// Topology::of_this_host().plan().
[[nodiscard]] Binding plan_binding(std::uint32_t nodes_on_host, std::uint32_t index_on_host, std::uint32_t threads_per_node,
                                   const Settings& settings);

/// Binds the calling thread to a processor. False if the system refuses; the thread then runs where it ran.
bool bind_this_thread(int processor);

/// CPUs' worth of time that a cgroup v2 "cpu.max" file grants ("150000 100000" is 1, "max 100000" is 0: no limit), rounded down
/// but at least 1; 0 for text that is none.
[[nodiscard]] std::uint32_t cpus_of_quota(const std::string& cpu_max);

}  // namespace netvm
