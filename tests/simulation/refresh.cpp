// The protocol of docs/protocols/writing-one.md is right: random race-free programs, in the place of hlrc; and a bug in it is noticed.
#include <doctest/doctest.h>

#include "runtime/random.hpp"
#include "tests/support/canaries.hpp"
#include "tests/support/drf_program.hpp"
#include "tests/support/refresh_protocol.hpp"
#include "tests/support/seeds.hpp"
#include "tests/support/sim_cluster.hpp"

namespace netvm::test {
namespace {

DrfResult run(std::uint64_t seed, const Canary& instead) {
  SplitMix64 random(mix64(seed ^ 0x5ef));
  SimClusterOptions options;
  options.seed = seed;
  options.nodes = static_cast<std::uint32_t>(2 + random.below(3));
  options.threads = static_cast<std::uint32_t>(1 + random.below(2));
  options.pages = 512;
  options.mode = random.below(2) == 0 ? ShmMode::packet : ShmMode::direct;
  options.network.in_order = random.below(2) == 0;
  options.budget_pages = random.below(3) == 0 ? 64 : 0;
  put_in(instead, options);
  SimCluster cluster(options);
  DrfOptions program{.protocol = instead.protocol, .seed = seed, .any_granularity = options.budget_pages == 0};
  program.rich = random.below(2) == 0;
  program.objects = random.below(3) == 0;
  DrfResult result = run_drf_program(cluster, program);
  program.seed = mix64(seed);
  if (result.well) result = run_drf_program(cluster, program);
  return result;
}

class KeepsCopies final : public Refresh {
 public:
  using Refresh::Refresh;
  static std::unique_ptr<dsm::Protocol> make(dsm::ProtocolEnv& env) { return std::make_unique<KeepsCopies>(env); }

 private:
  [[nodiscard]] bool is_stale(PageId) override { return env().env().random() % 8 != 0; }
};

TEST_CASE("the protocol that the manual writes is right") {
  for_each_seed(60, [](std::uint64_t seed) {
    const DrfResult result = run(seed, {"is the manual's", "hlrc", Refresh::make});
    CHECK_MESSAGE(result.well, result.text);
  });
}

TEST_CASE("the protocol that the manual writes, with a copy kept now and then, is noticed") {
  std::uint64_t seed = 1;
  while (seed <= 50 && run(seed, {"keeps a copy now and then", "hlrc", KeepsCopies::make}).well) ++seed;
  CHECK(seed <= 50);
  MESSAGE("noticed with seed ", seed);
}

}  // namespace
}  // namespace netvm::test
