#include "tests/model/programs.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <span>

#include "dsm/protocol_env.hpp"
#include "runtime/check.hpp"
#include "tests/support/sim_cluster.hpp"

namespace netvm::model {

namespace {

using litmus::Act;
using litmus::kLocks;
using litmus::kRegisters;
using litmus::kVariables;
using litmus::Litmus;
using litmus::Op;
using litmus::Spread;
using test::Place;
using test::Worker;

constexpr std::uint64_t kPages = 64;
constexpr std::size_t kMostOps = 14;

// The protocol's environments of all nodes, by which the rights to pages can be seen from outside. One simulation at a time.
std::vector<dsm::ProtocolEnv*> watched;
dsm::ProtocolFactory watched_make = nullptr;
std::unique_ptr<dsm::Protocol> make_watched(dsm::ProtocolEnv& env) {
  watched.push_back(&env);
  return watched_make(env);
}

struct Places {
  std::array<Place, kVariables> variables{};
  std::array<Place, kLocks> locks{};
  bool bytes = false;
};

std::uint8_t load(Worker& me, const Places& places, std::uint8_t variable) {
  const Place at = places.variables[variable];
  return places.bytes ? me.load<std::uint8_t>(at) : litmus::narrow(me.load<std::uint64_t>(at));
}

void store(Worker& me, const Places& places, std::uint8_t variable, std::uint8_t value) {
  const Place at = places.variables[variable];
  if (places.bytes) return me.store(at, value);
  me.store(at, litmus::widen(value));
}

void execute_ops(Worker& me, const Places& places, std::span<const Op> ops, std::uint8_t* registers) {
  for (const Op& op : ops) {
    switch (op.act) {
      case Act::store:
        store(me, places, op.what, op.number);
        break;
      case Act::load:
        registers[op.number] = load(me, places, op.what);
        break;
      case Act::lock:
        me.lock(places.locks[op.what]);
        break;
      case Act::unlock:
        me.unlock(places.locks[op.what]);
        break;
      case Act::barrier:
        me.barrier();
        break;
    }
  }
}

std::uint64_t barriers_of(const Litmus& litmus) {
  std::uint64_t most = 0;
  for (const auto& thread : litmus.threads) {
    const auto passed = std::count_if(thread.begin(), thread.end(), [](const Op& op) { return op.act == Act::barrier; });
    most = std::max(most, static_cast<std::uint64_t>(passed));
  }
  return most;
}

class Run {
 public:
  Run(const Litmus& litmus, const Setup& setup, const Subject& subject)
      : litmus_(litmus), setup_(setup), subject_(subject), cluster_(options(litmus, subject, setup)), barriers_(barriers_of(litmus)) {
    const std::uint32_t nodes = cluster_.nodes();
    dsm::AllocOptions where;
    where.protocol = subject.protocol;
    where.alignment = kPageSize;
    where.placement = dsm::Placement::at_node;
    where.home = NodeId{litmus.home_at_thread >= 0 ? static_cast<std::uint32_t>(litmus.home_at_thread) : std::min(setup.home, nodes - 1)};
    const Spread spread = litmus.spread == Spread::any ? setup.spread : litmus.spread;
    places_.bytes = spread == Spread::adjacent;
    base_ = cluster_.allocate((kVariables + 1) * kPageSize, where);
    for (std::uint8_t v = 0; v < kVariables; ++v) places_.variables[v] = base_ + litmus::offset_of(v, spread);
    where.home = NodeId{0};
    const Place locks = cluster_.allocate(kPageSize, where);
    for (std::uint8_t i = 0; i < kLocks; ++i) places_.locks[i] = locks + std::uint64_t{i} * 8;
  }

  std::string go(const SimChooser& chooser) {
    prepare();
    cluster_.simulator().set_chooser([&](std::span<const SimChoice> choices) {
      look();
      return chooser(choices);
    });
    std::uint8_t registers[kRegisters] = {};
    const test::Ending ending = cluster_.run_at_once([&](Worker& me) {
      if (me.rank() < litmus_.threads.size()) {
        execute_ops(me, places_, litmus_.threads[me.rank()], registers);
      } else {
        for (std::uint64_t i = 0; i < barriers_; ++i) me.barrier();
      }
    });
    cluster_.simulator().set_chooser({});
    if (!ending.well) return ending.text;
    if (!wrong_.empty()) return wrong_;
    if (litmus::is_weak(litmus_, registers) && !litmus::may_show(litmus_, subject_.protocol)) {
      return fmt::format("forbidden outcome a={} b={} c={} d={}", registers[0], registers[1], registers[2], registers[3]);
    }
    const bool settled = !litmus_.racy || consistency() == dsm::Consistency::sequential;  // else nodes may differ for ever
    return settled ? compare() : std::string();
  }

 private:
  static test::SimClusterOptions options(const Litmus& litmus, const Subject& subject, const Setup& setup) {
    test::SimClusterOptions made;
    made.nodes = static_cast<std::uint32_t>(litmus.threads.size()) + setup.spare_nodes;
    made.seed = subject.seed;
    made.protocol = subject.protocol;
    made.pages = kPages;
    made.network.in_order = true;
    made.network.min_delay = made.network.max_delay = 500;
    made.schedule_jitter = 0;
    const auto number = static_cast<std::size_t>(dsm::find_protocol(subject.protocol));
    watched.clear();
    watched_make = subject.make != nullptr ? subject.make : dsm::protocols()[number].make;
    made.factories.assign(dsm::protocols().size(), nullptr);
    made.factories[number] = make_watched;
    return made;
  }

  void prepare() {
    const test::Ending ending = cluster_.run([this](Worker& me) {
      litmus::for_each_binding(litmus_, [&](std::uint8_t lock, std::uint8_t variable) {
        me.bind(places_.locks[lock], places_.variables[variable], places_.bytes ? 1 : 8);
      });
      if (!setup_.warm) return;
      for (std::uint8_t v = 0; v < kVariables; ++v) (void)load(me, places_, v);
    });
    NETVM_CHECK(ending.well, "%s", ending.text.c_str());
  }

  [[nodiscard]] dsm::Consistency consistency() const {
    return dsm::protocols()[static_cast<std::size_t>(dsm::find_protocol(subject_.protocol))].traits.consistency;
  }

  // At every moment: who may write a page is alone with it.
  void look() {
    if (consistency() != dsm::Consistency::sequential || !wrong_.empty()) return;
    for (std::uint64_t p = 0; p <= kVariables; ++p) {
      const PageId page{base_ / kPageSize + p};
      int writers = 0;
      int readers = 0;
      for (dsm::ProtocolEnv* env : watched) {
        const Access access = env->entry(page).access();
        writers += access == Access::write ? 1 : 0;
        readers += access == Access::read ? 1 : 0;
      }
      if (writers > 1 || (writers == 1 && readers > 0)) {
        wrong_ = fmt::format("page {} of the variables has {} writers and {} readers", p, writers, readers);
      }
    }
  }

  // After one more barrier nobody sees anything else than the others.
  std::string compare() {
    std::vector<std::array<std::uint8_t, kVariables>> seen(cluster_.nodes());
    const test::Ending ending = cluster_.run([&](Worker& me) {
      for (std::uint8_t v = 0; v < kVariables; ++v) seen[me.node()][v] = load(me, places_, v);
    });
    if (!ending.well) return "at the end: " + ending.text;
    for (std::uint32_t node = 1; node < cluster_.nodes(); ++node) {
      for (std::uint8_t v = 0; v < kVariables; ++v) {
        if (seen[node][v] == seen[0][v]) continue;
        return fmt::format("after a last barrier node {} reads {} in variable {}, and node 0 reads {}", node, seen[node][v], v, seen[0][v]);
      }
    }
    return {};
  }

  const Litmus& litmus_;
  const Setup& setup_;
  const Subject& subject_;
  test::SimCluster cluster_;
  std::uint64_t barriers_;
  Place base_ = 0;
  Places places_;
  std::string wrong_;
};

}  // namespace

const std::vector<Setup>& setups() {
  static const std::vector<Setup> all = {
      {0, 0, false, Spread::together, "one page at the first thread's node, cold"},
      {0, 1, true, Spread::together, "one page at the second thread's node, read by all before"},
      {0, 1, true, Spread::apart, "a page each at the second thread's node, read by all before"},
      {1, 3, false, Spread::apart, "a page each at a node of its own, cold"},
      {1, 3, true, Spread::together, "one page at a node of its own, read by all before"},
  };
  return all;
}

bool is_small(const litmus::Litmus& litmus) {
  std::size_t ops = 0;
  for (const auto& thread : litmus.threads) ops += thread.size();
  return litmus.threads.size() <= 3 && ops <= kMostOps;
}

Execution execution(const litmus::Litmus& litmus, const Setup& setup, const Subject& subject) {
  return [&litmus, &setup, subject](const SimChooser& chooser) { return Run(litmus, setup, subject).go(chooser); };
}

}  // namespace netvm::model
