// ThreadCluster: a Machine whose nodes live in this process: real application threads and one engine thread a node, the shm fabric, the
// checked trap. For ThreadSanitizer, and for real concurrency without processes.
//
// A run that hangs (no thread has come any further for kHang) stops the program, with what each thread does and what the nodes' watchdogs say of who waits
// for what. The check fails on the test's own thread, so doctest prints how to run it again.
#pragma once

#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "nic/shm_fabric.hpp"
#include "runtime/real_env.hpp"
#include "tests/support/cluster_node.hpp"

namespace netvm::test {

class ThreadCluster final : public Machine {
 public:
  static constexpr Nanos kHang = 60'000'000'000;

  explicit ThreadCluster(const ClusterOptions& options);
  ~ThreadCluster() override;

  [[nodiscard]] std::uint32_t nodes() const override { return options_.nodes; }
  [[nodiscard]] std::uint32_t threads() const override { return options_.threads; }
  Place allocate(std::uint64_t bytes, const dsm::AllocOptions& options) override;
  void free(Place memory) override;
  std::unique_ptr<Ledger> make_ledger(std::size_t bytes) override { return std::make_unique<PrivateLedger>(bytes); }
  Ending run_with(const Program& program, const Program& beside) override;

  [[nodiscard]] ClusterNode& node(std::uint32_t index) { return *nodes_[index]; }

 private:
  class ThreadWorker;
  struct Post;  // what a thread does now

  void evict_while_running();
  // Until all threads have ended.
  void watch(std::vector<Post>& posts);
  [[nodiscard]] std::string describe_hang(const std::vector<Post>& posts, Nanos since);

  ClusterOptions options_;
  std::vector<std::unique_ptr<RealEnv>> envs_;
  std::vector<std::unique_ptr<nic::ShmFabric>> fabrics_;
  std::vector<std::unique_ptr<ClusterNode>> nodes_;
  std::atomic<bool> stop_{false};
  std::atomic<bool> has_beside_{false};  // threads beside the section
  std::vector<std::thread> engines_;

  std::mutex mutex_;  // of all below
  std::condition_variable ended_;
  std::uint32_t running_ = 0;
  struct Report {
    Nanos when = 0;
    std::vector<std::string> lines;
  };
  std::vector<Report> reports_;  // by node: what its watchdog said last
};

}  // namespace netvm::test
