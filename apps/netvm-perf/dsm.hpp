// netvm-perf dsm: what coherence costs over the bare mechanism under it, for each protocol. Collective: every node of a job of two calls it; node 0 adds
// the rows. Node 1 is the pages' home and the other writer.
#pragma once

#include <vector>

#include "apps/netvm-perf/basic_rows.hpp"
#include "apps/netvm-perf/launch.hpp"
#include "apps/netvm-perf/options.hpp"
#include "netvm/netvm.hpp"

namespace netvm::perf {

std::vector<Row> measure_dsm(Job& job, const Options& options, ProgressPipe& progress);

}  // namespace netvm::perf
