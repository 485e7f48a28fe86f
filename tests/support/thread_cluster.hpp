// ThreadCluster: a Machine whose nodes live in this process: real application threads and one engine thread a node, the shm fabric, the
// checked trap. For ThreadSanitizer, and for real concurrency without processes.
#pragma once

#include <atomic>
#include <memory>
#include <thread>
#include <vector>

#include "nic/shm_fabric.hpp"
#include "runtime/real_env.hpp"
#include "tests/support/cluster_node.hpp"

namespace netvm::test {

class ThreadCluster final : public Machine {
 public:
  explicit ThreadCluster(const ClusterOptions& options);
  ~ThreadCluster() override;

  [[nodiscard]] std::uint32_t nodes() const override { return options_.nodes; }
  [[nodiscard]] std::uint32_t threads() const override { return options_.threads; }
  Place allocate(std::uint64_t bytes, const dsm::AllocOptions& options) override;
  void free(Place memory) override;
  std::unique_ptr<Ledger> make_ledger(std::size_t bytes) override { return std::make_unique<PrivateLedger>(bytes); }
  Ending run(const std::function<void(Worker&)>& program) override;

  [[nodiscard]] ClusterNode& node(std::uint32_t index) { return *nodes_[index]; }

 private:
  ClusterOptions options_;
  std::vector<std::unique_ptr<RealEnv>> envs_;
  std::vector<std::unique_ptr<nic::ShmFabric>> fabrics_;
  std::vector<std::unique_ptr<ClusterNode>> nodes_;
  std::atomic<bool> stop_{false};
  std::vector<std::thread> engines_;
};

}  // namespace netvm::test
