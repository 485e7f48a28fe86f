// The layers of one node that lives in a test's own process, wired as a node of a job is, with the checked trap. What differs between the
// simulator and threads (the Env and the fabric) comes from outside.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "dsm/dsm.hpp"
#include "dsm/protocol.hpp"
#include "nic/device.hpp"
#include "nic/nic.hpp"
#include "runtime/host_vm.hpp"
#include "runtime/stats.hpp"
#include "sync/sync.hpp"
#include "tests/support/machine.hpp"
#include "tests/support/memory_backing_store.hpp"

namespace netvm::test {

/// Stands between sync and dsm: a canary that loses what it should have passed on.
using WrapHook = std::function<std::unique_ptr<sync::CoherenceHook>(NodeId, sync::CoherenceHook&)>;

struct ClusterOptions {
  std::uint32_t nodes = 2;
  std::uint32_t threads = 1;
  std::uint64_t seed = 1;
  std::string protocol = "hlrc";
  std::uint64_t pages = 2048;
  ShmMode mode = ShmMode::packet;
  std::uint64_t budget_pages = 0;  ///< of each node; the others go to a MemoryBackingStore
  Nanos store_time = 0;            ///< in the simulator: how long a transfer to or from it takes at most
  bool read_ahead = true;
  bool home_moves = true;
  std::function<bool(NodeId)> all_threads_wait = {};  ///< see DsmConfig
  std::uint32_t read_ahead_from = 2;                  ///< see DsmConfig
  Nanos evict_every = 0;                              ///< with a budget: takes a few pages of each node away after 0 .. this, all the time
  Nanos watchdog = 0;                                 ///< see SyncConfig
  std::function<void(NodeId, const std::vector<std::string>&)> report = {};  ///< takes the watchdog's lines
  WrapHook wrap_hook = {};
  std::vector<std::unique_ptr<dsm::Protocol> (*)(dsm::ProtocolEnv&)> factories = {};  ///< canaries: see DsmConfig
};

struct ClusterNode {
  // In the order of the layers: destroyed from the top down.
  Stats stats;
  std::shared_ptr<MemoryBackingStore> store;  // with a budget
  std::unique_ptr<HostVm> vm;
  std::unique_ptr<nic::Device> device;
  std::unique_ptr<nic::Nic> nic;
  nic::RemoteRegion system;
  nic::RemoteRegion shared;
  std::unique_ptr<dsm::Dsm> dsm;
  std::unique_ptr<sync::CoherenceHook> wrapped;
  std::unique_ptr<sync::Sync> sync;

  /// Memory and device; before the fabric, which may need everybody's devices.
  void open(const ClusterOptions& options, NodeId node, Env& env);
  /// NIC and its regions.
  void attach(const ClusterOptions& options, NodeId node, Env& env, nic::Fabric& fabric);
};

/// The upper layers of all nodes, once all are attached. `envs` by node.
void connect(const ClusterOptions& options, std::vector<std::unique_ptr<ClusterNode>>& nodes, const std::function<Env&(NodeId)>& env_of);

/// An application thread on a ClusterNode.
class ClusterWorker : public Worker {
 public:
  ClusterWorker(ClusterNode& on, const ClusterOptions& options, NodeId node, std::uint32_t local)
      : Worker(node.value, options.nodes, local, options.threads), on_(on) {}
  void load_bytes(Place from, void* to, std::size_t bytes) override;
  void store_bytes(Place to, const void* from, std::size_t bytes) override;
  void lock(Place mutex) override;
  void unlock(Place mutex) override;
  void barrier() override;
  void arrive() override;
  void wait() override;
  void bind(Place mutex, Place data, std::uint64_t bytes) override;
  void bind_rwlock(Place lock, Place data, std::uint64_t bytes) override;
  [[nodiscard]] Place allocate(std::uint64_t bytes, const dsm::AllocOptions& options) override;
  void free(Place memory) override;
  sync::Sync& sync() override { return *on_.sync; }
  [[nodiscard]] std::uint64_t sync_offset(Place place) const override { return place; }
  [[nodiscard]] std::uint64_t who() const override { return local() + 1; }

 private:
  ClusterNode& on_;
  sync::SplitBarrier arrived_;
};

}  // namespace netvm::test
