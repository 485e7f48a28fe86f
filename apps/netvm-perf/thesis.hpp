// netvm-perf thesis: the measurements behind its table, by the job that they run in.
#pragma once

#include <cstddef>

#include "apps/netvm-perf/session.hpp"
#include "apps/netvm-perf/table.hpp"

namespace netvm::perf {

/// The figures that a job like this one can give, by its mode and whether its nodes have a memory budget; both sides call it.
Table measure_thesis(Session& session);

/// The figures that need more than two nodes; all nodes call it.
void add_figures_of_many(Session& session, Table& table);

/// Goodput in virtual time on the simulated fabric, clean and rough; needs no job.
void add_virtual_goodput(const Options& options, Table& table);

/// Bytes of the largest transfer that measure_thesis() makes.
inline constexpr std::size_t kThesisLargest = std::size_t{1} << 20;

}  // namespace netvm::perf
