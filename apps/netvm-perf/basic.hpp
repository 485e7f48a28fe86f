// netvm-perf basic: operations of the public interface. Each section is collective: every node calls it; node 0 adds the rows.
#pragma once

#include <vector>

#include "apps/netvm-perf/basic_rows.hpp"
#include "apps/netvm-perf/floors.hpp"
#include "apps/netvm-perf/launch.hpp"
#include "apps/netvm-perf/options.hpp"
#include "netvm/netvm.hpp"

namespace netvm::perf {

/// All sections that make sense with so many nodes; the rows at node 0.
std::vector<Row> measure_basic(Job& job, const Options& options, FloorPartner* partner, ProgressPipe& progress);

/// put of 8 bytes and of 64 KiB, get, fetch_add between nodes 0 and 1.
void measure_put_get(Job& job, const Options& options, FloorPartner* partner, std::vector<Row>& rows);
/// A get and a page miss while node 1 computes for two seconds and calls nothing of NetVM.
void measure_busy_target(Job& job, const Options& options, std::vector<Row>& rows);
/// Mutex: free, and handed over between nodes 0 and 1.
void measure_mutex(Job& job, const Options& options, FloorPartner* partner, std::vector<Row>& rows);
/// Barrier of all nodes, and whether it depends on how much memory is cached.
void measure_barrier(Job& job, const Options& options, FloorPartner* partner, std::vector<Row>& rows);

}  // namespace netvm::perf
