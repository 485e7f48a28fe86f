#include <fmt/format.h>

#include <array>
#include <atomic>

#include "apps/netvm-perf/measurements.hpp"

namespace netvm::perf {
namespace {

struct Subject {
  const char* name;
  nic::AtomicOp op;
};
constexpr std::array<Subject, 5> kSubjects = {Subject{"fetch_add", nic::AtomicOp::fetch_add}, Subject{"swap", nic::AtomicOp::swap},
                                              Subject{"compare_swap", nic::AtomicOp::compare_swap},
                                              Subject{"masked_cas", nic::AtomicOp::masked_cas},
                                              Subject{"fetch_or", nic::AtomicOp::fetch_or}};

void bare(std::uint64_t& word, nic::AtomicOp op, std::uint64_t operand) {
  const std::atomic_ref<std::uint64_t> ref(word);
  std::uint64_t expected = operand;
  switch (op) {
    case nic::AtomicOp::fetch_add:
      ref.fetch_add(operand);
      return;
    case nic::AtomicOp::swap:
      ref.exchange(operand);
      return;
    case nic::AtomicOp::fetch_or: {  // with the old value, as the NIC's
      volatile std::uint64_t old = ref.fetch_or(operand);
      static_cast<void>(old);
      return;
    }
    case nic::AtomicOp::compare_swap:
    case nic::AtomicOp::masked_cas:
      ref.compare_exchange_strong(expected, operand + 1);
      return;
  }
}

/// A's atomics at B's memory; B serves them where they come as packets.
double time_atomics(Session& session, nic::AtomicOp op, int rounds) {
  double ns = 0;
  if (session.measures()) {
    ns = time_batch(rounds, [&](int i) {
      const auto operand = static_cast<std::uint64_t>(i);
      const auto old = session.nic().atomic(session.peer(), session.data_offset(), {.op = op, .operand = operand, .compare = operand});
      session.require(old.status(), "atomic");
    });
  }
  if (session.packet()) session.meet(nic::WaitMode::spin);
  return ns;
}

/// A and B at once at one word of B's.
double time_contended(Session& session, int rounds) {
  const nic::RemoteRegion& region =
      session.runtime().symmetric[static_cast<std::size_t>(session.options().between[1])];  // B's, as B names it too
  const double ns = time_batch(rounds, [&](int) {
    session.require(session.nic().atomic(region, session.data_offset(), {.op = nic::AtomicOp::fetch_add, .operand = 1}).status(), "atomic");
  });
  session.meet(nic::WaitMode::spin);
  return ns;
}

}  // namespace

Table measure_atomics(Session& session) {
  Table table;
  table.title = title_of(session, "atomics");
  table.columns = {{"operation", "operation", 0, true},
                   {"median_us", "us", 4},
                   {"mops_per_s", "Mops/s", 3},
                   {"floor_us", "floor us", 4},
                   {"ratio", "ratio", 2},
                   {"ratio_low", "low", 2},
                   {"ratio_high", "high", 2}};
  table.notes = {"from the call until the old value is here; floor: the locked instruction on shared memory; ratio with its 95 % interval"};
  SharedBuffer shared(kPageSize);
  auto& word = *reinterpret_cast<std::uint64_t*>(shared.data());
  std::vector<std::string> noisy;
  for (const Subject& subject : kSubjects) {
    session.say(subject.name);
    Arms arms(session);
    const auto run = [&session, &subject](int rounds) { return time_atomics(session, subject.op, rounds); };
    const std::size_t ours = session.packet() ? arms.add_pair(run) : arms.add_local(run);
    const std::size_t floor =
        arms.add_local([&](int n) { return time_batch(n, [&](int i) { bare(word, subject.op, static_cast<std::uint64_t>(i)); }); });
    arms.run();
    if (!session.measures()) continue;
    const Interval ratio = paired_ratio(arms.values(ours), arms.values(floor));
    if (ratio.spread() > kNoisySpread) noisy.emplace_back(subject.name);
    table.rows.push_back({subject.name, arms.median_ns(ours) / 1e3, 1e3 / arms.median_ns(ours), arms.median_ns(floor) / 1e3, ratio.value,
                          ratio.low, ratio.high});
  }
  session.say("fetch_add from both nodes");
  Arms arms(session);
  const std::size_t both = arms.add_pair([&](int n) { return time_contended(session, n); });
  arms.run();
  if (session.measures()) {
    table.rows.push_back({"fetch_add, both nodes at once", arms.median_ns(both) / 1e3, 1e3 / arms.median_ns(both), {}, {}, {}, {}});
  }
  note_noise(table, noisy);
  return table;
}

}  // namespace netvm::perf
