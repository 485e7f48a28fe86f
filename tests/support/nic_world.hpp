// NicWorld: some nodes with nothing but a host VM and a NIC, in one process. The same test body runs on each kind of world:
//   direct      threads, the shm fabric, initiators execute the targets' firmware
//   packet      threads, the shm fabric, everything through the rings and the targets' engines
//   simulated   fibers, a network that reorders, everything as packets
//   lossy       the same over a network that also loses, doubles, damages and delays packets
#pragma once

#include <doctest/doctest.h>

#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "nic/device.hpp"
#include "nic/nic.hpp"
#include "nic/shm_fabric.hpp"
#include "nic/sim_fabric.hpp"
#include "runtime/backing_store.hpp"
#include "runtime/host_vm.hpp"
#include "runtime/real_env.hpp"
#include "runtime/simulator.hpp"
#include "tests/support/frame_check.hpp"
#include "tests/support/networks.hpp"

namespace netvm::test {

enum class WorldKind : std::uint8_t { direct, packet, simulated, lossy };
inline std::string name_of(WorldKind kind) {
  switch (kind) {
    case WorldKind::direct:
      return "direct";
    case WorldKind::packet:
      return "packet";
    case WorldKind::simulated:
      return "simulated";
    case WorldKind::lossy:
      return "lossy";
  }
  return "";
}

struct NicWorldOptions {
  std::uint32_t nodes = 2;
  std::uint64_t pages = 64;
  std::uint64_t seed = 1;
  std::uint32_t first_sequence = 0;
  std::uint64_t ring_bytes = nic::shm_ring::kDefaultAreaBytes;
  Nanos spin = 0;
  bool engines = true;  ///< threads: one engine a node
  nic::SimNetworkOptions network = {};
  std::uint32_t system_buffers = 4096;
  nic::Reliability reliability = {};
  bool connected = false;          ///< simulated: initiators reach the targets' devices, as on one host
  std::uint64_t budget_pages = 0;  ///< 0: all memory stays
  std::function<std::shared_ptr<BackingStore>(std::uint32_t node)> store = nullptr;
};

/// A node's part. Its members are destroyed from the NIC down.
struct NicNode {
  Stats stats;
  std::unique_ptr<HostVm> vm;
  std::unique_ptr<nic::Device> device;
  std::unique_ptr<nic::Nic> nic;

  NicNode(NodeId node, const NicWorldOptions& options, Env& env) {
    std::string why;
    HostVmConfig memory;
    memory.pages = options.pages;
    memory.budget_pages = options.budget_pages;
    if (options.store) memory.store = options.store(node.value);
    memory.stats = &stats;
    memory.check_frames = options.budget_pages != 0 && frames_are_checked();  // else the tests look at frames whenever they like
    vm = HostVm::create(memory, env, &why).value();
    nic::DeviceConfig shape;
    shape.node = node;
    shape.nodes = options.nodes;
    shape.pages = options.pages;
    shape.ring_bytes = options.ring_bytes;
    device = nic::Device::create(shape, -1, vm->frame_base(), &why).value();
  }
  void attach(NodeId node, const NicWorldOptions& options, ShmMode mode, Env& env, nic::Fabric& fabric) {
    nic::NicConfig config;
    config.node = node;
    config.nodes = options.nodes;
    config.mode = mode;
    config.first_sequence = options.first_sequence;
    config.system_buffers = options.system_buffers;
    config.reliability = options.reliability;
    nic = std::make_unique<nic::Nic>(config, env, *vm, fabric, *device, stats);
  }
};

class NicWorld {
 public:
  using Body = std::function<void()>;
  virtual ~NicWorld() = default;

  [[nodiscard]] nic::Nic& nic(std::uint32_t node) { return *nodes_[node]->nic; }
  [[nodiscard]] HostVm& vm(std::uint32_t node) { return *nodes_[node]->vm; }
  [[nodiscard]] nic::Device& device(std::uint32_t node) { return *nodes_[node]->device; }
  [[nodiscard]] Stats& stats(std::uint32_t node) { return nodes_[node]->stats; }
  [[nodiscard]] std::byte* frame(std::uint32_t node, std::uint64_t page = 0) { return vm(node).frame(PageId{page}); }
  [[nodiscard]] WorldKind kind() const { return kind_; }

  /// A thread (or fiber) of a node in run().
  struct Part {
    std::uint32_t node;
    Body body;
  };
  /// Runs all parts, at the same time, to their ends. A CHECK fails if they do not end.
  virtual void run(std::vector<Part> parts) = 0;
  /// One body, on node 0.
  void run(Body body) { run({{0, std::move(body)}}); }

  /// All of a node's memory, with every right.
  nic::RemoteRegion whole(std::uint32_t node) { return nic(node).region_create({PageId{0}, vm(node).pages()}, nic::Rights::all).value(); }
  /// Whether no NIC has dropped a packet, but for those that the network has damaged or that came twice.
  bool nothing_dropped() {
    for (const auto& node : nodes_) {
      const nic::Drops d = node->nic->drops();
      if (kind_ != WorldKind::lossy && d.malformed + d.duplicate != 0) return false;
      if (d.stale + d.outside + d.unmatched + d.fragments + d.unhandled + d.from_dead + d.no_credit != 0) return false;
    }
    return true;
  }

 protected:
  explicit NicWorld(WorldKind kind) : kind_(kind) {}

  WorldKind kind_;
  std::vector<std::unique_ptr<NicNode>> nodes_;
};

class ThreadNicWorld final : public NicWorld {
 public:
  ThreadNicWorld(WorldKind kind, const NicWorldOptions& options) : NicWorld(kind), env_({options.spin, true, options.seed}) {
    std::vector<nic::Device*> devices;
    for (std::uint32_t i = 0; i < options.nodes; ++i) {
      nodes_.push_back(std::make_unique<NicNode>(NodeId{i}, options, env_));
      devices.push_back(nodes_.back()->device.get());
    }
    const ShmMode mode = kind == WorldKind::direct ? ShmMode::direct : ShmMode::packet;
    for (std::uint32_t i = 0; i < options.nodes; ++i) {
      fabrics_.push_back(std::make_unique<nic::ShmFabric>(NodeId{i}, options.nodes, env_, devices));
      nodes_[i]->attach(NodeId{i}, options, mode, env_, *fabrics_[i]);
    }
    if (!options.engines) return;
    for (auto& node : nodes_) {
      engines_.emplace_back([this, &node] {
        while (!stop_.load()) node->nic->engine_turn(0, kForever);
      });
    }
  }
  ~ThreadNicWorld() override {
    stop_.store(true);
    for (auto& node : nodes_) node->nic->shut_down();
    for (auto& node : nodes_) node->nic->nudge_engine();
    for (std::thread& engine : engines_) engine.join();
    for (auto& node : nodes_) node->nic.reset();  // before the fabrics, which all of them may still ring
  }

  using NicWorld::run;
  void run(std::vector<Part> parts) override {
    std::vector<std::thread> threads;
    threads.reserve(parts.size());
    for (Part& part : parts) threads.emplace_back(std::move(part.body));
    for (std::thread& thread : threads) thread.join();
  }

 private:
  RealEnv env_;
  std::vector<std::unique_ptr<nic::ShmFabric>> fabrics_;
  std::atomic<bool> stop_{false};
  std::vector<std::thread> engines_;
};

class SimNicWorld final : public NicWorld {
 public:
  explicit SimNicWorld(const NicWorldOptions& options, WorldKind kind = WorldKind::simulated)
      : NicWorld(kind), simulator_(sim_options(options)), network_(simulator_, options.nodes, options.network) {
    for (std::uint32_t i = 0; i < options.nodes; ++i) {
      Env& env = simulator_.env(NodeId{i});
      nodes_.push_back(std::make_unique<NicNode>(NodeId{i}, options, env));
      nodes_[i]->attach(NodeId{i}, options, options.connected ? ShmMode::direct : ShmMode::packet, env, network_.fabric(NodeId{i}));
    }
    for (std::uint32_t i = 0; options.connected && i < options.nodes; ++i) {
      for (std::uint32_t to = 0; to < options.nodes; ++to) network_.connect_device(NodeId{i}, NodeId{to}, nodes_[to]->device.get());
    }
  }
  ~SimNicWorld() override {
    for (auto& node : nodes_) node->nic.reset();
  }

  using NicWorld::run;
  void run(std::vector<Part> parts) override {
    int index = 0;
    for (Part& part : parts) simulator_.start(NodeId{part.node}, "part " + std::to_string(index++), std::move(part.body));
    const Simulator::Report report = simulator_.run();
    CHECK_MESSAGE(report.end == Simulator::End::all_done, report.text);
    trace_hash_ = report.trace_hash;
  }
  [[nodiscard]] std::uint64_t trace_hash() const { return trace_hash_; }
  [[nodiscard]] Simulator& simulator() { return simulator_; }
  [[nodiscard]] nic::SimNetwork& network() { return network_; }

 private:
  static SimOptions sim_options(const NicWorldOptions& options) {
    SimOptions made;
    made.seed = options.seed;
    return made;
  }

  Simulator simulator_;
  nic::SimNetwork network_;
  std::uint64_t trace_hash_ = 0;
};

inline std::unique_ptr<NicWorld> make_world(WorldKind kind, const NicWorldOptions& options = {}) {
  if (kind == WorldKind::simulated) return std::make_unique<SimNicWorld>(options);
  if (kind == WorldKind::lossy) {
    NicWorldOptions made = options;
    made.network = lossy(made.network);
    return std::make_unique<SimNicWorld>(made, kind);
  }
  return std::make_unique<ThreadNicWorld>(kind, options);
}

/// Runs the test on every kind of world; each as a doctest subcase would, but also where bodies run on other threads.
inline void on_every_world(const NicWorldOptions& options, const std::function<void(NicWorld&)>& test) {
  for (const WorldKind kind : {WorldKind::direct, WorldKind::packet, WorldKind::simulated, WorldKind::lossy}) {
    INFO("world: ", name_of(kind));
    const std::unique_ptr<NicWorld> world = make_world(kind, options);
    test(*world);
  }
}
inline void on_every_world(const std::function<void(NicWorld&)>& test) { on_every_world({}, test); }

}  // namespace netvm::test
