// Streams: bandwidth (a window of operations, then all are waited for) and message rate (a sliding window).
#include <fmt/format.h>

#include <cstring>

#include "apps/netvm-perf/in_flight.hpp"
#include "apps/netvm-perf/measurements.hpp"

namespace netvm::perf {
namespace {

struct Stream {
  std::size_t subject;
  std::size_t floor;
};

/// `drain`: each window is waited for as a whole before the next.
Stream measure_stream(Session& session, Arms& arms, bool drain, std::size_t bytes, SharedBuffer& shared, InFlight& flight) {
  const bool put = session.options().op == "put";
  const int window = session.options().window;
  const auto subject = [&session, &flight, drain, bytes, put, window](int rounds) {
    double ns = 0;
    if (session.measures()) {
      const std::int64_t begin = clock_ns();
      for (int i = 0; i < rounds; ++i) {
        for (int k = 0; k < window; ++k) flight.post(put, bytes);
        if (drain) flight.finish_all();
      }
      flight.finish_all();
      ns = static_cast<double>(clock_ns() - begin) / rounds;
    }
    if (session.packet()) session.meet(nic::WaitMode::spin);  // until here B serves
    return ns;
  };
  const auto floor = [&session, &shared, bytes, put, window](int rounds) {
    if (session.packet()) return session.floor().ring_stream_ns(bytes, rounds * window) * window;
    std::byte* const to = put ? shared.data() : session.source();
    const std::byte* const from = put ? session.source() : shared.data();
    return time_batch(rounds, [&](int) {
      for (int k = 0; k < window; ++k) {
        std::memcpy(to, from, bytes);
        std::atomic_signal_fence(std::memory_order_seq_cst);
      }
    });
  };
  Stream stream{};
  stream.subject = session.packet() ? arms.add_pair(subject) : arms.add_local(subject);
  stream.floor = arms.add_local(floor);
  arms.run();
  return stream;
}

/// "put bandwidth on a queue pair, 64 in flight"
std::string describe(const Options& options, bool drain) {
  const char* const name = drain ? "bandwidth" : "message rate";
  if (options.verbs == Verbs::blocking) return fmt::format("{} {} of blocking verbs", options.op, name);
  const char* const how = options.verbs == Verbs::posted ? "of posted operations" : "on a queue pair";
  return fmt::format("{} {} {}, {} in flight", options.op, name, how, options.window);
}

Table measure_streams(Session& session, bool drain) {
  const std::string what = describe(session.options(), drain);
  Table table;
  table.title = title_of(session, what);
  table.columns = {
      {"bytes", "bytes", 0},       {"mb_per_s", "MB/s", 1},
      {"mops_per_s", "Mops/s", 3}, {drain ? "floor_mb_per_s" : "floor_mops_per_s", drain ? "floor MB/s" : "floor Mops/s", drain ? 1 : 3},
      {"ratio", "ratio", 3},       {"ratio_low", "low", 3},
      {"ratio_high", "high", 3}};
  table.notes = {fmt::format("MB: 10^6 bytes; floor: {}; ratio: ours over the floor's (1 is the floor), with its 95 % interval",
                             session.packet() ? "the bare ring to a process that copies out" : "memcpy, to or from shared memory")};
  table.plot = {"bytes",
                {drain ? "mb_per_s" : "mops_per_s", drain ? "floor_mb_per_s" : "floor_mops_per_s"},
                "bytes",
                drain ? "MB/s" : "million operations/s",
                false};
  SharedBuffer shared(session.largest());
  std::vector<std::string> noisy;
  for (const std::uint64_t bytes : session.options().sizes) {
    session.say(fmt::format("{}, {} bytes", what, size_text(bytes)));
    InFlight flight(session, session.options().window, session.options().verbs);
    Arms arms(session);
    const Stream s = measure_stream(session, arms, drain, bytes, shared, flight);
    if (!session.measures()) continue;
    const double window = session.options().window;
    const double ns = arms.median_ns(s.subject) / window;
    const double floor_ns = arms.median_ns(s.floor) / window;
    const Interval ratio = paired_ratio(arms.values(s.floor), arms.values(s.subject));
    if (ratio.spread() > kNoisySpread) noisy.push_back(size_text(bytes));
    const auto size = static_cast<double>(bytes);
    table.rows.push_back(
        {size, size * 1e3 / ns, 1e3 / ns, drain ? size * 1e3 / floor_ns : 1e3 / floor_ns, ratio.value, ratio.low, ratio.high});
  }
  note_noise(table, noisy);
  return table;
}

}  // namespace

Table measure_bandwidth(Session& session) { return measure_streams(session, true); }
Table measure_message_rate(Session& session) { return measure_streams(session, false); }

}  // namespace netvm::perf
