#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <cstdio>

#include "runtime/check.hpp"
#include "runtime/random.hpp"
#include "tests/litmus/litmus.hpp"

namespace netvm::litmus {

namespace {

using test::Place;
using test::Worker;

// Everything that chance decides once for a run.
struct Setting {
  Place memory = 0;  // of the variables
  Place lock_memory = 0;
  Place variables[kVariables] = {};
  Place locks[kLocks] = {};
  Spread spread = Spread::apart;
  bool bytes = false;               // variables are bytes, else 8-byte words
  std::vector<std::uint32_t> seat;  // rank of each of the test's threads
  std::uint64_t barriers = 0;       // that each thread passes
  std::string text;
};

std::vector<std::uint32_t> choose_seats(const test::Machine& machine, std::size_t threads, SplitMix64& random) {
  const std::uint32_t count = machine.nodes() * machine.threads();
  NETVM_CHECK(count >= threads, "a litmus test of %zu threads on a machine of %u", threads, count);
  // One thread of each node first, then the second ones: threads share a node only where there are more of them than nodes, or by chance.
  std::vector<std::uint32_t> seats;
  for (std::uint32_t local = 0; local < machine.threads(); ++local) {
    const std::uint64_t turn = random.below(machine.nodes());
    for (std::uint32_t i = 0; i < machine.nodes(); ++i) {
      seats.push_back(static_cast<std::uint32_t>((i + turn) % machine.nodes()) * machine.threads() + local);
    }
  }
  if (random.below(4) == 0) {
    for (std::size_t i = seats.size(); i > 1; --i) std::swap(seats[i - 1], seats[random.below(i)]);
  }
  seats.resize(threads);
  return seats;
}

Setting set_up(test::Machine& machine, const Litmus& litmus, const RunOptions& options, SplitMix64& random) {
  Setting setting;
  setting.seat = choose_seats(machine, litmus.threads.size(), random);
  setting.spread = litmus.spread == Spread::any ? static_cast<Spread>(1 + random.below(3)) : litmus.spread;
  setting.bytes = setting.spread == Spread::adjacent;
  dsm::AllocOptions where;
  where.protocol = options.protocol;
  where.alignment = kPageSize;
  where.placement = static_cast<dsm::Placement>(random.below(4));
  where.home = NodeId{static_cast<std::uint32_t>(random.below(machine.nodes()))};
  if (litmus.home_at_thread >= 0) {
    where.placement = dsm::Placement::at_node;
    where.home = NodeId{setting.seat[static_cast<std::size_t>(litmus.home_at_thread)] / machine.threads()};
  }
  SplitMix64 units(mix64(options.seed ^ 0x6e17));  // of its own: whatever else a seed means stays
  if (units.below(3) == 0) where.granularity = kPageSize << units.below(5);
  const Place base = setting.memory = machine.allocate((kVariables + 1) * kPageSize, where);
  const bool anywhere = setting.spread == Spread::together || setting.spread == Spread::adjacent;
  const std::uint64_t first = anywhere ? random.below(64) * 8 : 0;
  for (std::uint8_t i = 0; i < kVariables; ++i) setting.variables[i] = base + first + offset_of(i, setting.spread);
  const Place locks = setting.lock_memory = machine.allocate(kPageSize, {});
  for (std::uint8_t i = 0; i < kLocks; ++i) setting.locks[i] = locks + std::uint64_t{i} * 8;
  for (const auto& thread : litmus.threads) {
    const auto passed = std::count_if(thread.begin(), thread.end(), [](const Op& op) { return op.act == Act::barrier; });
    setting.barriers = std::max(setting.barriers, static_cast<std::uint64_t>(passed));
  }
  constexpr std::string_view kSpreads[] = {"any", "apart", "together", "adjacent", "across"};
  setting.text = fmt::format("{} nodes x {} threads, variables {}, placement {} (home {}), units of {} bytes, ranks {}", machine.nodes(),
                             machine.threads(), kSpreads[static_cast<int>(setting.spread)], static_cast<int>(where.placement),
                             where.home.value, where.granularity, fmt::join(setting.seat, ","));
  return setting;
}

std::uint8_t load_variable(Worker& me, const Setting& setting, std::uint8_t variable) {
  if (setting.bytes) return me.load<std::uint8_t>(setting.variables[variable]);
  return narrow(me.load<std::uint64_t>(setting.variables[variable]));
}

void store_variable(Worker& me, const Setting& setting, std::uint8_t variable, std::uint8_t value) {
  if (setting.bytes) return me.store<std::uint8_t>(setting.variables[variable], value);
  me.store<std::uint64_t>(setting.variables[variable], widen(value));
}

void execute(Worker& me, const Setting& setting, const std::vector<Op>& ops, Nanos longest_pause, SplitMix64& random,
             std::uint8_t* registers) {
  for (const Op& op : ops) {
    if (random.below(4) == 0) me.pause(static_cast<Nanos>(random.below(static_cast<std::uint64_t>(longest_pause) + 1)));
    switch (op.act) {
      case Act::store:
        store_variable(me, setting, op.what, op.number);
        break;
      case Act::load:
        registers[op.number] = load_variable(me, setting, op.what);
        break;
      case Act::lock:
        me.lock(setting.locks[op.what]);
        break;
      case Act::unlock:
        me.unlock(setting.locks[op.what]);
        break;
      case Act::barrier:
        me.barrier();
        break;
    }
  }
}

void bind_variables(Worker& me, const Litmus& litmus, const Setting& setting) {
  for_each_binding(litmus, [&](std::uint8_t lock, std::uint8_t variable) {
    me.bind(setting.locks[lock], setting.variables[variable], setting.bytes ? 1 : 8);
  });
}

// One thread's part of all iterations. Each begins with zeroed variables, of which a random part is cached.
void take_part(Worker& me, const Litmus& litmus, const Setting& setting, const RunOptions& options, test::Ledger& ledger,
               std::atomic<std::uint64_t>& stale) {
  const auto seat = std::find(setting.seat.begin(), setting.seat.end(), me.rank());
  const auto thread = static_cast<std::size_t>(seat - setting.seat.begin());
  if (me.local() == 0) bind_variables(me, litmus, setting);
  SplitMix64 random(mix64(options.seed) + me.rank());
  for (std::uint32_t iteration = 0; iteration < options.iterations; ++iteration) {
    if (me.rank() == iteration % me.count()) {
      for (std::uint8_t v = 0; v < kVariables; ++v) store_variable(me, setting, v, 0);
    }
    me.barrier();
    const std::uint64_t warm = random.next();
    for (std::uint8_t v = 0; v < kVariables; ++v) {
      if ((warm >> v & 1) != 0) {
        if (load_variable(me, setting, v) != 0) ++stale;
      }
    }
    me.barrier();
    me.pause(static_cast<Nanos>(random.below(static_cast<std::uint64_t>(options.longest_pause) + 1)));
    std::uint8_t registers[kRegisters] = {};
    if (thread < litmus.threads.size()) {
      execute(me, setting, litmus.threads[thread], options.longest_pause, random, registers);
      for (const Op& op : litmus.threads[thread]) {
        if (op.act == Act::load) ledger.write(iteration * kRegisters + op.number, &registers[op.number], 1);
      }
    } else {
      for (std::uint64_t i = 0; i < setting.barriers; ++i) me.barrier();
    }
    me.barrier();
  }
}

}  // namespace

std::uint64_t offset_of(std::uint8_t variable, Spread spread) {
  switch (spread) {
    case Spread::any:
      break;
    case Spread::apart:
      return variable * kPageSize;
    case Spread::together:
      return variable * std::uint64_t{64};
    case Spread::adjacent:
      return variable;
    case Spread::across:
      return (variable + std::uint64_t{1}) * kPageSize - 4;
  }
  NETVM_CHECK(false, "no layout was chosen for a litmus test");
}

bool is_weak(const Litmus& litmus, const std::uint8_t* registers) {
  return std::any_of(litmus.weak.begin(), litmus.weak.end(), [registers](const std::vector<Equals>& all) {
    return std::all_of(all.begin(), all.end(), [registers](const Equals& one) { return registers[one.reg] == one.value; });
  });
}

Tally run(test::Machine& machine, const Litmus& litmus, const RunOptions& options) {
  SplitMix64 random(mix64(options.seed ^ 0x11735));
  const Setting setting = set_up(machine, litmus, options, random);
  const auto ledger = machine.make_ledger(std::size_t{options.iterations} * kRegisters);
  std::atomic<std::uint64_t> stale{0};  // loads of a variable that was reset before a barrier, and was not 0
  const test::Ending ending = machine.run([&](Worker& me) { take_part(me, litmus, setting, options, *ledger, stale); });
  Tally tally;
  if (!ending.well) {
    tally.failure = fmt::format("litmus \"{}\" ({}): {}", litmus.name, setting.text, ending.text);
    return tally;
  }
  machine.free(setting.memory);
  machine.free(setting.lock_memory);
  if (stale > 0) {
    tally.failure = fmt::format("litmus \"{}\" ({}): {} loads saw a value from before it was reset and a barrier", litmus.name,
                                setting.text, stale.load());
  }
  for (std::uint32_t i = 0; i < options.iterations; ++i) {
    std::uint8_t registers[kRegisters] = {};
    ledger->read(std::size_t{i} * kRegisters, registers, kRegisters);
    ++tally.runs;
    if (!is_weak(litmus, registers)) continue;
    if (tally.weak++ == 0) {
      tally.first_weak = fmt::format("litmus \"{}\", {}, iteration {}: a={} b={} c={} d={} ({})", litmus.name, options.protocol, i,
                                     registers[0], registers[1], registers[2], registers[3], setting.text);
    }
  }
  return tally;
}

bool may_show(const Litmus& litmus, std::string_view protocol) {
  const int index = dsm::find_protocol(protocol);
  NETVM_CHECK(index >= 0, "no protocol is called %s", std::string(protocol).c_str());
  return litmus.may_show && dsm::protocols()[static_cast<std::size_t>(index)].traits.consistency >= *litmus.may_show;
}

void Report::add(const Litmus& litmus, std::string_view protocol, const Tally& tally) {
  for (Row& row : rows_) {
    if (row.litmus != &litmus || row.protocol != protocol) continue;
    row.tally.runs += tally.runs;
    row.tally.weak += tally.weak;
    return;
  }
  rows_.push_back({&litmus, std::string(protocol), tally});
}

namespace {
std::string_view verdict_of(bool allowed, std::uint64_t weak) {
  if (allowed) return weak > 0 ? "allowed, seen" : "allowed, not seen";
  return weak > 0 ? "VIOLATED" : "forbidden";
}
}  // namespace

void Report::print(std::string_view title) const {
  std::string text =
      fmt::format("\n{}\n  {:46} {:14} {:18} {:>8} {:>8}\n", title, "weak outcome of", "protocol", "verdict", "seen", "runs");
  for (const Row& row : rows_) {
    const std::string_view verdict = verdict_of(may_show(*row.litmus, row.protocol), row.tally.weak);
    text += fmt::format("  {:46} {:14} {:18} {:>8} {:>8}\n", row.litmus->name, row.protocol, verdict, row.tally.weak, row.tally.runs);
  }
  std::fputs(text.c_str(), stdout);
  std::fflush(stdout);
}

std::string Report::markdown() const {
  std::string text = "| weak outcome of |";
  std::string line = "\n|---|";
  for (const dsm::ProtocolEntry& protocol : dsm::protocols()) {
    text += fmt::format(" {} |", protocol.traits.name);
    line += "---|";
  }
  text += line + "\n";
  for (const Litmus& litmus : table()) {
    text += fmt::format("| {} |", litmus.name);
    for (const dsm::ProtocolEntry& protocol : dsm::protocols()) {
      const auto row = std::find_if(rows_.begin(), rows_.end(),
                                    [&](const Row& one) { return one.litmus == &litmus && one.protocol == protocol.traits.name; });
      text += fmt::format(" {} |", verdict_of(may_show(litmus, protocol.traits.name), row == rows_.end() ? 0 : row->tally.weak));
    }
    text += "\n";
  }
  return text;
}

}  // namespace netvm::litmus
