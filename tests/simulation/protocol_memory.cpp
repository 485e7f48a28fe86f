// What protocols keep beside frames stays bounded, however long a program runs.
#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>

#include "dsm/protocols/entry.hpp"
#include "dsm/protocols/erc.hpp"
#include "dsm/protocols/hlrc.hpp"
#include "dsm/protocols/lease.hpp"
#include "dsm/protocols/lrc.hpp"
#include "dsm/protocols/scope.hpp"
#include "dsm/protocols/update.hpp"
#include "runtime/sanitizers.hpp"
#include "tests/support/canaries.hpp"
#include "tests/support/sim_cluster.hpp"

namespace netvm::test {
namespace {

// Looks at a node's memory whenever it releases something.
template <class P>
class Measured final : public P {
 public:
  using P::P;
  static std::unique_ptr<dsm::Protocol> make(dsm::ProtocolEnv& env) { return std::make_unique<Measured>(env); }
  static inline std::uint64_t peak = 0;

  void on_barrier_arrive(sync::Bytes& out) override {
    P::on_barrier_arrive(out);
    peak = std::max(peak, this->memory_bytes());
  }
  void on_release(sync::SyncId object) override {
    P::on_release(object);
    peak = std::max(peak, this->memory_bytes());
  }
};

template <class P, class Program>
std::uint64_t peak_of(std::uint32_t nodes, std::uint64_t* hand_overs, Program&& program) {
  const Canary measured{"is measured", P::kTraits.name, Measured<P>::make};
  SimClusterOptions options;
  options.nodes = nodes;
  options.pages = 512;
  options.mode = ShmMode::direct;
  options.max_events = 2'000'000'000;
  put_in(measured, options);
  SimCluster cluster(options);
  const Place at = cluster.allocate(4 * kPageSize, {});
  const Place locks = cluster.allocate(kPageSize, {});
  Measured<P>::peak = 0;
  const Ending ending = cluster.run([&](Worker& me) { program(me, at, locks); });
  CHECK_MESSAGE(ending.well, ending.text);
  std::uint64_t moves = 0;
  for (std::uint32_t node = 0; node < nodes; ++node) moves += cluster.node(node).stats.get(Stat::lock_remote);
  *hand_overs = moves;
  return Measured<P>::peak;
}

// Four pages: a word of each node's own in all of them, which everybody reads now and then.
void many_barriers(Worker& me, Place at, std::uint64_t rounds) {
  for (std::uint64_t round = 1; round <= rounds; ++round) {
    const Place page = at + round % 4 * kPageSize;
    me.store(page + 8 * me.node(), round);
    me.barrier();
    if (round % 7 != 0) continue;
    for (std::uint32_t node = 0; node < me.nodes(); ++node) CHECK(me.load<std::uint64_t>(page + 8 * node) == round);
    me.barrier();
  }
}

// Counters on two pages that migrate from node to node.
void many_locks(Worker& me, Place at, Place locks, std::uint64_t rounds) {
  for (std::uint64_t which = 0; which < 4; ++which) me.bind(locks + 8 * which, at + which / 2 * kPageSize + which % 2 * 64, 8);
  me.barrier();
  for (std::uint64_t round = 1; round <= rounds; ++round) {
    const std::uint64_t which = (round + me.node()) % 4;
    const Place counter = at + which / 2 * kPageSize + which % 2 * 64;
    me.lock(locks + 8 * which);
    me.store(counter, me.load<std::uint64_t>(counter) + 1);
    me.unlock(locks + 8 * which);
    if (round % 4 == 0) me.pause(2000);  // the others' turn, where nothing else makes a thread wait
  }
}

constexpr std::uint64_t kBarriers = NETVM_TSAN || NETVM_ASAN ? 3'000 : 20'000;
constexpr std::uint64_t kLocks = 4'000;

template <class P>
void stays_bounded() {
  std::uint64_t moves = 0;
  const std::uint64_t short_run = peak_of<P>(2, &moves, [](Worker& me, Place at, Place) { many_barriers(me, at, 1000); });
  const std::uint64_t long_run = peak_of<P>(2, &moves, [](Worker& me, Place at, Place) { many_barriers(me, at, kBarriers); });
  CHECK(long_run <= short_run + 4096);
  const std::uint64_t few_locks = peak_of<P>(3, &moves, [](Worker& me, Place at, Place locks) { many_locks(me, at, locks, 2000); });
  const std::uint64_t more_locks = peak_of<P>(3, &moves, [](Worker& me, Place at, Place locks) { many_locks(me, at, locks, kLocks); });
  CHECK(more_locks <= few_locks + 4096);
  CHECK(moves > kLocks);
  MESSAGE(std::string(P::kTraits.name), ": at most ", long_run, " bytes a node in ", kBarriers, " barriers, ", more_locks, " in ", moves,
          " moves of locks");
}

TEST_CASE("memory stays bounded: hlrc") { stays_bounded<dsm::Hlrc>(); }
TEST_CASE("memory stays bounded: lrc") { stays_bounded<dsm::Lrc>(); }
TEST_CASE("memory stays bounded: erc") { stays_bounded<dsm::Erc>(); }
TEST_CASE("memory stays bounded: update") { stays_bounded<dsm::Update>(); }
TEST_CASE("memory stays bounded: entry") { stays_bounded<dsm::Entry>(); }
TEST_CASE("memory stays bounded: scope") { stays_bounded<dsm::Scope>(); }
TEST_CASE("memory stays bounded: lease") { stays_bounded<dsm::Lease>(); }

}  // namespace
}  // namespace netvm::test
