#include "apps/netvm-perf/basic.hpp"

#include <fmt/format.h>

namespace netvm::perf {

std::vector<Row> measure_basic(Job& job, const Options& options, FloorPartner* partner, ProgressPipe& progress) {
  std::vector<Row> rows;
  const auto say = [&](const char* what) {
    if (job.node() == 0) progress.say(fmt::format("{} nodes: {}", job.nodes(), what));
  };
  if (job.nodes() == 2) {
    say("put, get, atomics");
    measure_put_get(job, options, partner, rows);
    say("mutex");
    measure_mutex(job, options, partner, rows);
  }
  say("barrier");
  measure_barrier(job, options, partner, rows);
  if (job.nodes() == 2) {
    say("a target that computes");
    measure_busy_target(job, options, rows);
  }
  return rows;
}

}  // namespace netvm::perf
