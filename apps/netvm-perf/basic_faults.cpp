#include <algorithm>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "apps/netvm-perf/basic.hpp"
#include "apps/netvm-perf/trap_floor.hpp"
#include "runtime/trap.hpp"

namespace netvm::perf {

namespace {

constexpr std::size_t kWordsPerPage = 512;

/// Pages in an order that no read-ahead guesses.
std::vector<std::size_t> shuffled(std::size_t pages, unsigned seed) {
  std::vector<std::size_t> order(pages);
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::shuffle(order.begin(), order.end(), std::mt19937(seed));
  return order;
}

}  // namespace

void measure_faults(Job& job, const Options& options, std::vector<Row>& rows) {
  const std::size_t pages = options.quick ? 64 : 1024;
  const TrapKind trap = resolve_trap(Settings::from_environment().trap).kind.value();
  Series floor_read, floor_upgrade;
  for (const char* protocol : {"hlrc", "sc-directory"}) {
    auto* data = job.allocate_all<std::uint64_t>(pages * kWordsPerPage, {.placement = Placement::at(1), .protocol = protocol});
    Series read_miss, upgrade;
    for (int b = 0; b < std::max(3, options.batches / 3); ++b) {
      const auto order = shuffled(pages, static_cast<unsigned>(b));
      if (job.node() == 0) {
        const TrapFloor floor = measure_trap_floor(trap, static_cast<int>(pages), 1);
        floor_read.add(floor.read_fault_with_copy_ns);
        floor_upgrade.add(floor.upgrade_with_copy_ns);
      }
      if (job.node() == 1) {
        for (std::size_t p = 0; p < pages; ++p) data[p * kWordsPerPage] = static_cast<std::uint64_t>(b) + p;
      }
      job.barrier();  // node 0's copies are invalid now
      if (job.node() == 0) {
        std::uint64_t wrong = 0;
        const double read_ns = time_batch(static_cast<int>(pages), [&](int i) {
          const std::size_t p = order[static_cast<std::size_t>(i)];
          wrong += static_cast<volatile std::uint64_t*>(data)[p * kWordsPerPage] != static_cast<std::uint64_t>(b) + p;
        });
        if (wrong != 0) throw Error("netvm-perf: a page miss brought stale data");
        const double upgrade_ns = time_batch(static_cast<int>(pages), [&](int i) {
          static_cast<volatile std::uint64_t*>(data)[order[static_cast<std::size_t>(i)] * kWordsPerPage + 1] = 1;
        });
        if (b > 0) {  // the first round also brings the frames in
          read_miss.add(read_ns);
          upgrade.add(upgrade_ns);
        }
      }
      job.barrier();
    }
    if (job.node() == 0) {
      const std::string copy = "bare " + std::string(to_string(trap));
      rows.push_back(make_row(std::string("page read miss, ") + protocol, read_miss, copy + " fault + 4 KiB copy", floor_read, 2));
      rows.push_back(make_row(std::string("write upgrade, ") + protocol, upgrade, copy + " upgrade + 4 KiB copy", floor_upgrade, 2));
      job.free(data);
    }
    job.barrier();
  }
}

}  // namespace netvm::perf
