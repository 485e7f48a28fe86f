// netvm-perf sync: synchronisation objects beside what can be built by hand from the same NIC's atomics, and beside the bare machine. Collective: every node of
// a job of two calls it; node 0 adds the rows. All arms of a row take turns in one run.
#pragma once

#include <vector>

#include "apps/netvm-perf/basic_rows.hpp"
#include "apps/netvm-perf/floors.hpp"
#include "apps/netvm-perf/launch.hpp"
#include "apps/netvm-perf/options.hpp"
#include "netvm/netvm.hpp"

namespace netvm::perf {

std::vector<Row> measure_sync(Job& job, const Options& options, FloorPartner* partner, ProgressPipe& progress);

/// Mutexes: free, handed over by distance, contended.
void measure_mutexes(Job& job, const Options& options, FloorPartner* partner, std::vector<Row>& rows);

/// Semaphores, wait queues, reader-writer locks, barriers of some threads.
void measure_objects(Job& job, const Options& options, FloorPartner* partner, std::vector<Row>& rows);

}  // namespace netvm::perf
