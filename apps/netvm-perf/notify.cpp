#include <fmt/format.h>

#include <array>
#include <atomic>

#include "apps/netvm-perf/measurements.hpp"

namespace netvm::perf {
namespace {

struct Mechanism {
  const char* name;
  nic::WaitMode wait;
  nic::NotifyMode mode;
};
constexpr std::array<Mechanism, 4> kMechanisms = {Mechanism{"ordered, spin", nic::WaitMode::spin, nic::NotifyMode::ordered},
                                                  Mechanism{"own, spin", nic::WaitMode::spin, nic::NotifyMode::own},
                                                  Mechanism{"ordered, adaptive", nic::WaitMode::adaptive, nic::NotifyMode::ordered},
                                                  Mechanism{"ordered, block", nic::WaitMode::block, nic::NotifyMode::ordered}};

}  // namespace

double notify_ping_pong(Session& session, nic::WaitMode wait, nic::NotifyMode mode, std::size_t bytes, int rounds) {
  std::uint64_t seen = session.nic().counter_value(session.my_counter());
  session.meet();  // nobody notifies before both have looked
  const auto tell = [&] {
    session.require(
        session.nic().write_notify(session.peer(), session.data_offset(), session.source(), bytes, session.peer_counter(), 1, mode),
        "put with a notification");
  };
  const auto hear = [&] { session.require(session.nic().counter_wait(session.my_counter(), ++seen, wait), "waiting for a notification"); };
  std::int64_t begin = 0;
  for (int i = 0; i <= rounds; ++i) {
    if (i == 1) begin = clock_ns();
    if (session.measures()) {
      tell();
      hear();
    } else {
      hear();
      tell();
    }
  }
  return static_cast<double>(clock_ns() - begin) / (2.0 * rounds);
}

double handler_ping_pong(Session& session, std::size_t bytes, int rounds) {
  const std::uint64_t start = session.nic().counter_value(session.my_counter());
  const auto tell = [&] {
    session.require(session.nic().write_notify(session.peer(), session.data_offset(), session.source(), bytes, session.peer_counter(), 1,
                                               nic::NotifyMode::ordered),
                    "put with a notification");
  };
  std::int64_t begin = 0;
  std::int64_t end = 0;
  std::atomic<bool> done{false};
  const std::uint64_t last = start + static_cast<std::uint64_t>(rounds) + 1;  // the first round trip starts both handlers' threads
  const auto hear = [&](std::uint64_t ok, std::uint64_t /*errors*/) {
    if (session.measures() && ok == start + 1) begin = clock_ns();
    if (session.measures() && ok == last) end = clock_ns();
    if (session.answers() || ok < last) tell();
    if (ok == last) {
      done.store(true);
      done.notify_one();
    }
    return ok + 1;
  };
  session.require(session.nic().set_handler(session.my_counter(), start + 1, hear), "setting a handler");
  session.meet();  // both handlers stand
  if (session.measures()) tell();
  done.wait(false);
  session.require(session.nic().clear_handler(session.my_counter()), "removing a handler");
  session.meet();
  return static_cast<double>(end - begin) / (2.0 * rounds);
}

Table measure_notify(Session& session) {
  Table table;
  table.title = title_of(session, "put with a notification");
  table.columns = {{"mechanism", "mechanism", 0, true}, {"bytes", "bytes", 0},          {"median_us", "us", 3},  {"put_us", "put us", 3},
                   {"added_us", "added us", 3},         {"ratio", "ratio", 2},          {"ratio_low", "low", 2}, {"ratio_high", "high", 2},
                   {"floor_us", "futex us", 3},         {"over_floor", "over futex", 2}};
  table.notes = {
      "one way, half a ping-pong; put: the same put noticed by spinning on its last word; ratio: what the notification adds, over the put, "
      "with "
      "its 95 % interval",
      "futex: a bare hand-over between two processes that sleep"};
  table.plot = {"bytes", {"median_us"}, "bytes", "microseconds", true, {"mechanism"}};
  std::vector<std::string> noisy;
  bool cheaper = false;  // than the put alone, beyond doubt
  for (const std::uint64_t bytes : session.options().sizes) {
    session.say(fmt::format("notify, {} bytes", size_text(bytes)));
    QuickPut put(session);
    Arms arms(session);
    const std::size_t base = arms.add_pair([&](int n) { return ping_pong(session, put, bytes, n); });
    std::vector<std::size_t> ours;
    ours.reserve(std::size(kMechanisms) + 1);
    for (const Mechanism& m : kMechanisms) {
      ours.push_back(arms.add_pair([&session, m, bytes](int n) { return notify_ping_pong(session, m.wait, m.mode, bytes, n); }));
    }
    ours.push_back(arms.add_pair([&session, bytes](int n) { return handler_ping_pong(session, bytes, n); }));
    const std::size_t futex = arms.add_local([&](int n) { return session.floor().futex_hand_over_ns(n); });
    arms.run();
    if (!session.measures()) continue;
    for (std::size_t i = 0; i < ours.size(); ++i) {
      const Interval whole = paired_ratio(arms.values(ours[i]), arms.values(base));
      const bool handler = i == kMechanisms.size();
      const std::string name = handler ? "ordered, handler" : kMechanisms[i].name;
      const bool sleeps = handler || kMechanisms[i].wait == nic::WaitMode::block;
      if (whole.spread() > kNoisySpread) noisy.push_back(fmt::format("{} {}", name, size_text(bytes)));
      cheaper = cheaper || whole.high < 1;
      const double us = arms.median_ns(ours[i]) / 1e3;
      const double put_us = arms.median_ns(base) / 1e3;
      table.rows.push_back({name, static_cast<double>(bytes), us, put_us, us - put_us, whole.value - 1, whole.low - 1, whole.high - 1,
                            sleeps ? Cell(arms.median_ns(futex) / 1e3) : Cell(),
                            sleeps ? Cell(paired_ratio(arms.values(ours[i]), arms.values(futex)).value) : Cell()});
    }
  }
  if (cheaper) {
    table.notes.emplace_back(
        "below 0: the receiver of the bare put polls the very line that the put fills, which each look takes from the writer; who waits "
        "for a "
        "notification polls the counter's line, which is written once. So the put with a notification can be the faster of the two");
  }
  note_noise(table, noisy);
  return table;
}

}  // namespace netvm::perf
