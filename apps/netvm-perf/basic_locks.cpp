#include <mutex>

#include "apps/netvm-perf/basic.hpp"

namespace netvm::perf {

void measure_mutex(Job& job, const Options& options, FloorPartner* partner, std::vector<Row>& rows) {
  auto* guard = job.allocate_all<mutex>();
  if (job.node() == 0) {
    Series free_lock, bare;
    std::mutex local;
    for (int b = 0; b < options.batches; ++b) {
      bare.add(time_batch(20000, [&](int) {
        local.lock();
        local.unlock();
      }));
      free_lock.add(time_batch(20000, [&](int) {
        guard->lock();
        guard->unlock();
      }));
    }
    rows.push_back(make_row("mutex, free, held here last: lock + unlock", free_lock, "std::mutex lock + unlock", bare, 0));
  }
  job.barrier();

  // Handed over: both nodes always want it. The holder waits until the other must be queued, tells it the time, and unlocks; the
  // other takes the time when its lock() returns (one host, one clock).
  const int rounds = options.quick ? 20 : 300;
  auto* unlocked_at = job.symmetric_all<std::int64_t>(1);
  Series handed, hand_over;
  for (int b = 0; b < options.batches; ++b) {
    if (job.node() == 0) hand_over.add(partner->flag_hand_over_ns(1000));
    *unlocked_at = 0;
    job.barrier();
    Series latencies;
    for (int i = 0; i < rounds && job.node() <= 1; ++i) {
      guard->lock();
      const std::int64_t now = clock_ns();
      if (*unlocked_at != 0) latencies.add(static_cast<double>(now - *unlocked_at));
      while (clock_ns() < now + 20'000) __builtin_ia32_pause();
      *unlocked_at = 0;
      const std::int64_t then = clock_ns();
      put(1 - job.node(), unlocked_at, &then);
      guard->unlock();
    }
    if (!latencies.empty()) handed.add(latencies.median());
    job.barrier();
  }
  if (job.node() == 0) rows.push_back(make_row("mutex, handed over: unlock -> lock returns", handed, "bare flag hand-over", hand_over, 0));
}

void measure_barrier(Job& job, const Options& options, FloorPartner* partner, std::vector<Row>& rows) {
  const int rounds = options.quick ? 50 : 500;
  const std::string name = "barrier of " + std::to_string(job.nodes());
  // The same barrier with nothing cached, with 1 MiB and with much more: nothing may scan what is cached.
  const std::size_t much = options.quick ? (std::size_t{4} << 20) : (std::size_t{256} << 20);
  Series bare, empty, one_mib, large;
  const auto measure = [&](Series& series) {
    for (int b = 0; b < options.batches; ++b) {
      if (job.node() == 0) bare.add(partner->flag_hand_over_ns(rounds));
      job.barrier();
      series.add(time_batch(rounds, [&](int) { job.barrier(); }));
    }
  };
  const auto cache = [&](std::size_t bytes) {
    auto* data = job.allocate_all<std::uint64_t>(bytes / 8, {.placement = Placement::at(0)});
    std::uint64_t sum = 0;
    for (std::size_t i = 0; i < bytes / 8; i += 512) sum += static_cast<volatile std::uint64_t*>(data)[i];
    job.barrier();
    return data + static_cast<std::ptrdiff_t>(sum);  // zeroed memory: sum is 0
  };
  measure(empty);
  auto* small = cache(std::size_t{1} << 20);
  measure(one_mib);
  auto* big = cache(much);
  measure(large);
  if (job.node() == 0) {
    job.free(small);
    job.free(big);
    rows.push_back(make_row(name + ", nothing cached", empty, "bare flag hand-over", bare, 0));
    rows.push_back(make_row(name + ", " + std::to_string(much >> 20) + " MiB cached on every node", large, "the same with 1 MiB cached",
                            one_mib, 1.1));
  }
  job.barrier();
}

}  // namespace netvm::perf
