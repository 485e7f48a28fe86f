// SimCluster: a Machine whose nodes live in the deterministic simulator. Everything that happens follows from the seed.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "nic/sim_fabric.hpp"
#include "runtime/simulator.hpp"
#include "tests/support/cluster_node.hpp"

namespace netvm::test {

struct SimClusterOptions : ClusterOptions {
  nic::SimNetworkOptions network = {};
  Nanos schedule_jitter = 1000;
  std::uint64_t max_events = 20'000'000;
};

class SimCluster final : public Machine {
 public:
  explicit SimCluster(const SimClusterOptions& options);
  ~SimCluster() override;

  [[nodiscard]] std::uint32_t nodes() const override { return options_.nodes; }
  [[nodiscard]] std::uint32_t threads() const override { return options_.threads; }
  Place allocate(std::uint64_t bytes, const dsm::AllocOptions& options) override;
  void free(Place memory) override;
  std::unique_ptr<Ledger> make_ledger(std::size_t bytes) override { return std::make_unique<PrivateLedger>(bytes); }
  Ending run_with(const Program& program, const Program& beside) override;
  /// run() without the barriers before and after.
  Ending run_at_once(const Program& program);

  [[nodiscard]] Simulator& simulator() { return simulator_; }
  [[nodiscard]] nic::SimNetwork& network() { return network_; }
  [[nodiscard]] ClusterNode& node(std::uint32_t index) { return *nodes_[index]; }

 private:
  void evict_while_running(NodeId node);
  void run_at_node_0(const char* what, std::function<void(dsm::Dsm&)> body);
  Ending finish();

  SimClusterOptions options_;
  Simulator simulator_;
  nic::SimNetwork network_;
  std::vector<std::unique_ptr<ClusterNode>> nodes_;
  std::uint32_t running_ = 0;  // workers
  bool has_beside_ = false;    // threads beside the section
  bool ended_well_ = true;     // the last run
};

}  // namespace netvm::test
