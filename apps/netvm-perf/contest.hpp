// Both nodes of a job want the same thing all the time: what an entry costs, how even it is, how many messages it takes.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include <fmt/format.h>

#include "apps/netvm-perf/floors.hpp"
#include "apps/netvm-perf/options.hpp"
#include "apps/netvm-perf/stats.hpp"
#include "dsm/api/job_runtime.hpp"
#include "netvm/netvm.hpp"
#include "runtime/stats.hpp"

namespace netvm::perf {

struct Contender {
  std::string name;
  std::function<void()> enter;
  std::function<void()> leave;
};

/// One value a batch; at node 0.
struct Contest {
  Series per_entry;  ///< nanoseconds
  Series fairness;   ///< Jain's index
  Series messages;   ///< of node 0, for each of its entries
};

/// Enters and leaves as fast as possible for a while, with each arm in turn, batch by batch. Collective, of two nodes.
inline std::vector<Contest> contend(Job& job, const Options& options, const std::vector<Contender>& arms) {
  auto* counts = job.symmetric_all<std::uint64_t>(2);
  Stats& stats = detail::Runtime::current("netvm-perf").stats;
  const std::int64_t time = options.quick ? 2'000'000 : 20'000'000;
  std::vector<Contest> contests(arms.size());
  for (int b = 0; b < std::max(3, options.batches / 3); ++b) {
    for (std::size_t a = 0; a < arms.size(); ++a) {
      job.barrier();
      const std::uint64_t sent = stats.get(Stat::messages_sent);
      std::uint64_t entries = 0;
      const std::int64_t begin = clock_ns();
      while (clock_ns() - begin < time) {
        arms[a].enter();
        arms[a].leave();
        ++entries;
      }
      const auto ours = static_cast<double>(stats.get(Stat::messages_sent) - sent);
      put(0, counts + job.node(), &entries);
      job.barrier();
      if (job.node() != 0) continue;
      const auto x = static_cast<double>(counts[0]);
      const auto y = static_cast<double>(counts[1]);
      contests[a].per_entry.add(static_cast<double>(time) / (x + y));
      contests[a].fairness.add((x + y) * (x + y) / (2 * (x * x + y * y)));
      contests[a].messages.add(ours / x);
    }
  }
  return contests;
}

/// Jain's index; of what is NetVM's own with the aim.
inline std::string fairness_note(const Contest& contest, bool is_ours) {
  constexpr double kAim = 0.95;
  const double index = contest.fairness.median();
  const char* const verdict = !is_ours ? "" : index >= kAim ? " (>= 0.95: met)" : " (>= 0.95: not met)";
  return fmt::format("Jain fairness {:.3f}{}", index, verdict);
}

}  // namespace netvm::perf
