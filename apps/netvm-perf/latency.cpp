#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "apps/netvm-perf/measurements.hpp"

namespace netvm::perf {

std::string title_of(Session& session, const std::string& what) {
  return fmt::format("{}, {}, node {} to node {} of {}", what, session.packet() ? "packet" : "direct", session.options().between[0],
                     session.options().between[1], session.job().nodes());
}

void note_noise(Table& table, const std::vector<std::string>& noisy_rows) {
  if (noisy_rows.empty()) return;
  std::string rows;
  for (const std::string& row : noisy_rows) rows += (rows.empty() ? "" : ", ") + row;
  table.notes.push_back(fmt::format("interval wider than {:.0f} % at {}: the machine was not quiet; run again", kNoisySpread * 100, rows));
}

double clock_cost_ns() {
  std::vector<double> costs;
  for (int i = 0; i < 1000; ++i) {
    const std::int64_t before = clock_ns();
    costs.push_back(static_cast<double>(clock_ns() - before));
  }
  return median(costs);
}

namespace {

/// One get, waited for.
double time_gets(Session& session, std::size_t bytes, int rounds, std::vector<double>* each) {
  const auto get = [&] { session.require(session.nic().read(session.peer(), session.data_offset(), session.source(), bytes), "get"); };
  double ns = 0;
  if (session.measures()) {
    ns = time_batch(rounds, [&](int) {
      const std::int64_t before = each != nullptr ? clock_ns() : 0;
      get();
      if (each != nullptr) each->push_back(static_cast<double>(clock_ns() - before));
    });
  }
  if (session.packet()) session.meet(nic::WaitMode::spin);  // until here B serves
  return ns;
}

struct Samples {
  std::size_t subject;
  std::size_t floor;
  std::vector<double> each;
};

/// Runs both arms, then as many single operations as make a 99th percentile.
Samples measure_size(Session& session, Arms& arms, bool put, std::size_t bytes, SharedBuffer& shared) {
  QuickPut quick(session);
  const auto subject = [&](int rounds, std::vector<double>* each) {
    return put ? ping_pong(session, quick, bytes, rounds, each) : time_gets(session, bytes, rounds, each);
  };
  Samples out{};
  const bool pair = put || session.packet();
  out.subject =
      pair ? arms.add_pair([&](int n) { return subject(n, nullptr); }) : arms.add_local([&](int n) { return subject(n, nullptr); });
  out.floor = arms.add_local([&](int n) {
    if (session.packet()) return session.floor().ring_one_way_ns(put ? bytes : bytes + 8, n) * (put ? 1 : 2);
    if (put) return session.floor().hand_over_ns(bytes, n);
    return time_batch(n, [&](int) {
      std::memcpy(session.source(), shared.data(), bytes);
      std::atomic_signal_fence(std::memory_order_seq_cst);
    });
  });
  arms.run();
  const int singles = std::clamp(arms.rounds(out.subject), 20, session.options().quick ? 50 : 2000);
  const std::uint64_t agreed = session.agree(static_cast<std::uint64_t>(singles));
  if (pair) session.meet();
  if (pair || session.measures()) subject(static_cast<int>(agreed), &out.each);
  const double cost = clock_cost_ns() / (put ? 2 : 1);
  for (double& ns : out.each) ns = std::max(ns - cost, 0.0);
  return out;
}

}  // namespace

Table measure_latency(Session& session) {
  const bool put = session.options().op == "put";
  Table table;
  table.title = title_of(session, session.options().op + " latency");
  table.columns = {{"bytes", "bytes", 0}, {"median_us", "us", 3},  {"min_us", "min", 3},
                   {"p50_us", "p50", 3},  {"p99_us", "p99", 3},    {"floor_us", "floor us", 3},
                   {"ratio", "ratio", 2}, {"ratio_low", "low", 2}, {"ratio_high", "high", 2}};
  const std::string floor = session.packet() ? (put ? "the bare ring, one way" : "the bare ring, there and back")
                                             : (put ? "memcpy into shared memory and a flag between two processes" : "memcpy");
  table.notes = {fmt::format("{}; floor: {}; ratio with its 95 % interval",
                             put ? "one way, half a ping-pong that spins on the last word" : "from the call until the bytes are here",
                             floor)};
  table.plot = {"bytes", {"median_us", "p99_us", "floor_us"}, "bytes", "microseconds", true};
  SharedBuffer shared(session.largest());
  std::vector<std::string> noisy;
  for (const std::uint64_t bytes : session.options().sizes) {
    session.say(fmt::format("{} latency, {} bytes", session.options().op, size_text(bytes)));
    Arms arms(session);
    const Samples s = measure_size(session, arms, put, bytes, shared);
    if (!session.measures()) continue;
    const Interval ratio = paired_ratio(arms.values(s.subject), arms.values(s.floor));
    if (ratio.spread() > kNoisySpread) noisy.push_back(size_text(bytes));
    table.rows.push_back({static_cast<double>(bytes), arms.median_ns(s.subject) / 1e3, quantile(s.each, 0) / 1e3, median(s.each) / 1e3,
                          quantile(s.each, 0.99) / 1e3, arms.median_ns(s.floor) / 1e3, ratio.value, ratio.low, ratio.high});
  }
  note_noise(table, noisy);
  return table;
}

}  // namespace netvm::perf
