// Mutexes between a few nodes, in every order of events that makes a difference: exclusion, that everybody gets in or is told why not, what a hand-over
// carries and costs, and that a queue of nodes is served in the order of its swaps.
#include <doctest/doctest.h>

#include <algorithm>
#include <optional>
#include <string>
#include <vector>

#include "tests/model/explorer.hpp"
#include "tests/support/sync_world.hpp"

namespace netvm::model {
namespace {

using test::Clock;
using test::SimSyncWorld;
using test::SyncWorldOptions;

constexpr std::uint64_t kLock = 0x1000;
constexpr std::uint64_t kScratch = 40 * kPageSize;  // behind the lock table

/// What each of a node's threads does, one step after the other.
enum class Do : std::uint8_t { visit, try_visit };

struct Program {
  std::uint32_t nodes = 3;
  std::uint32_t threads = 1;
  std::uint32_t cohort = 16;
  bool bare = false;                   // grants carry nothing, and go directly
  std::vector<std::vector<Do>> steps;  // by node
};

class Run {
 public:
  Run(const Program& program, const SimChooser& chooser)
      : program_(program), chooser_(chooser), world_(1, options(program), nic::SimNetworkOptions{.in_order = true}) {}

  std::string execute() {
    // Another mutex of the same 64 bytes first: what each node says once of its first use there (lock_directory.hpp) is not what is explored.
    world_.start_all([this](std::uint32_t node, std::uint32_t local) {
      sync::Sync& sync = *world_.node(node).sync;
      if (sync.lock(kLock + 8, local + 1) != Status::ok || sync.unlock(kLock + 8, local + 1) != Status::ok) wrong_ = "a first use failed";
    });
    if (const Simulator::Report report = world_.run(); report.end != Simulator::End::all_done) return report.text;
    const std::uint64_t sent_before = world_.total(Stat::messages_sent);
    world_.simulator().set_chooser(chooser_);
    world_.start_all([this](std::uint32_t node, std::uint32_t local) {
      for (const Do step : program_.steps[node]) take(node, local + 1, step);
    });
    const Simulator::Report report = world_.run();
    if (report.end != Simulator::End::all_done) return report.text;
    if (world_.hooks_broken()) return "a hook was told nonsense";
    std::uint64_t hand_overs = 0;
    for (std::uint32_t n = 0; n < program_.nodes; ++n) hand_overs = std::max(hand_overs, world_.node(n).sync->epoch_of(kLock));
    if (!asks_ && world_.total(Stat::messages_sent) - sent_before != (program_.bare ? 1 : 2) * hand_overs)
      return "a hand-over cost more than a request and a grant";
    return wrong_;
  }

 private:
  static SyncWorldOptions options(const Program& program) {
    SyncWorldOptions options;
    options.nodes = program.nodes;
    options.threads = program.threads;
    options.cohort = program.cohort;
    options.dawdle = false;
    options.silent = program.bare;
    if (program.bare) options.mode = ShmMode::direct;
    return options;
  }

  void take(std::uint32_t node, std::uint64_t who, Do step) {
    sync::Sync& sync = *world_.node(node).sync;
    if (step == Do::try_visit) {
      asks_ = true;
      const netvm::Result<bool> got = sync.try_lock(kLock, who);
      if (!got) wrong_ = "a try_lock failed";
      if (!got || !*got) return;
    } else if (sync.lock(kLock, who) != Status::ok) {
      wrong_ = "a lock failed";
      return;
    }
    if (inside_) wrong_ = "two are inside";
    inside_ = true;
    if (!known_.empty() && !world_.node(node).hook->covers(known_)) wrong_ = "a holder lacks what the one before wrote";
    const std::uint64_t epoch = sync.epoch_of(kLock);
    if (epoch < epoch_) wrong_ = "the fencing token fell";
    epoch_ = epoch;
    // Others may come in meanwhile: a way to another node and back.
    const nic::RemoteRegion& next = world_.node((node + 1) % program_.nodes).table;
    if (!world_.node(node).nic->atomic(next, kScratch, {.op = nic::AtomicOp::fetch_add, .operand = 1})) wrong_ = "an atomic failed";
    if (program_.bare) world_.pause(node, 1);  // that was at once
    known_ = world_.node(node).hook->write();
    inside_ = false;
    if (sync.unlock(kLock, who) != Status::ok) wrong_ = "an unlock failed";
  }

  const Program program_;
  const SimChooser chooser_;
  SimSyncWorld world_;
  bool inside_ = false;
  bool asks_ = false;  // somebody called try_lock, which costs messages of its own
  Clock known_;
  std::uint64_t epoch_ = 0;
  std::string wrong_;
};

void explore_program(const std::string& name, const Program& program, std::uint64_t most_runs, bool all) {
  const Result result = explore([&](const SimChooser& chooser) { return Run(program, chooser).execute(); }, most_runs);
  CHECK_MESSAGE(result.failure.empty(), name << ": " << result.failure << "; choices " << result.choices);
  if (all) CHECK(result.complete);
  MESSAGE(name, ": ", result.runs, " runs, ", result.redundant, " redundant, longest of ", result.longest, " events; ",
          result.complete ? std::string("complete") : "up to " + std::to_string(result.reversals) + " reversals");
}

TEST_CASE("mutex: three nodes that each want it once, in every order") {
  explore_program("three nodes", {.steps = {{Do::visit}, {Do::visit}, {Do::visit}}}, 20'000, true);
}

TEST_CASE("mutex: three nodes whose grants carry nothing, in every order") {
  explore_program("bare", {.bare = true, .steps = {{Do::visit}, {Do::visit}, {Do::visit}}}, 20'000, true);
  explore_program("bare, two nodes twice", {.nodes = 2, .bare = true, .steps = {{Do::visit, Do::visit}, {Do::visit, Do::visit}}}, 20'000,
                  true);
  explore_program("bare, with try_lock", {.bare = true, .steps = {{Do::visit}, {Do::try_visit}, {Do::visit}}}, 3'000, false);
}

TEST_CASE("mutex: two nodes that want it again, in every order") {
  explore_program("two nodes, twice", {.nodes = 2, .steps = {{Do::visit, Do::visit}, {Do::visit, Do::visit}}}, 20'000, true);
}

TEST_CASE("mutex: two threads a node and a cohort of one") {
  explore_program("two nodes of two threads", {.nodes = 2, .threads = 2, .cohort = 1, .steps = {{Do::visit}, {Do::visit}}}, 3'000, false);
}

TEST_CASE("mutex: try_lock among those who lock") {
  explore_program("try_lock", {.steps = {{Do::visit}, {Do::try_visit}, {Do::visit}}}, 3'000, false);
}

TEST_CASE("mutex: three nodes that want it twice") {
  explore_program("three nodes, twice", {.steps = {{Do::visit, Do::visit}, {Do::visit, Do::visit}, {Do::visit, Do::visit}}}, 3'000, false);
}

}  // namespace
}  // namespace netvm::model
