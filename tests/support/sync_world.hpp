// Nodes with a NIC and sync/, and instead of a DSM a hook that checks what synchronisation must carry: ClockHook. In the simulator
// (SimSyncWorld) or as threads of this process over the shared-memory fabric (ThreadSyncWorld).
#pragma once

#include <algorithm>
#include <atomic>
#include <cstring>
#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "nic/device.hpp"
#include "nic/nic.hpp"
#include "nic/shm_fabric.hpp"
#include "nic/sim_fabric.hpp"
#include "runtime/host_vm.hpp"
#include "runtime/real_env.hpp"
#include "runtime/simulator.hpp"
#include "sync/sync.hpp"

namespace netvm::test {

/// For each node, how many of its writes are known.
using Clock = std::vector<std::uint64_t>;

/// A coherence layer that has no data, only knowledge: which writes of which node have been made known here. Flushing and applying take
/// a while, to let others come in between.
class ClockHook final : public sync::CoherenceHook {
 public:
  ClockHook(NodeId node, std::uint32_t nodes, Env& env, bool dawdles = true)
      : node_(node), env_(env), dawdles_(dawdles), known_(nodes, 0) {}

  /// A write by a thread of this node. Returns what it knows then, the write included.
  Clock write() {
    const std::lock_guard guard(guard_);
    ++written_;
    return view();
  }
  [[nodiscard]] Clock knows() {
    const std::lock_guard guard(guard_);
    return view();
  }
  /// Whether everything in `clock` is known here. (A silent one cannot know.)
  [[nodiscard]] bool covers(const Clock& clock) {
    if (silent_) return true;
    const Clock mine = knows();
    for (std::size_t i = 0; i < mine.size(); ++i) {
      if (mine[i] < clock[i]) return false;
    }
    return true;
  }
  [[nodiscard]] bool broken() const { return broken_.load(); }

  /// A thread that learns of a death may be kept from going on until others have dealt with it (two rounds of recovery for one death, the second with the
  /// gate open, made two tokens of one).
  void on_death(NodeId /*node*/) override {
    if (!dawdles_ || !env_.can_park()) return;
    for (std::uint64_t n = env_.random() % 4 == 0 ? env_.random() % 4000 : 0; n > 0; --n) env_.relax();
  }

  /// How often something was placed for others.
  [[nodiscard]] std::uint64_t releases() const { return releases_.load(); }

  void on_release(sync::SyncId = {}) override {
    ++releases_;
    std::uint64_t flushed = 0;
    {
      const std::lock_guard guard(guard_);
      flushed = written_;
    }
    dawdle();
    const std::lock_guard guard(guard_);
    known_[node_.value] = std::max(known_[node_.value], flushed);
  }
  [[nodiscard]] bool tells_ahead() override { return true; }
  [[nodiscard]] bool splits_barriers() override { return splits_; }
  void split_barriers(bool does) { splits_ = does; }
  /// From now on it tells nobody anything, and others know nothing of its writes: what is sent carries no payload.
  void fall_silent() { silent_ = true; }
  void append_acquire_request(sync::SyncId, sync::Bytes& out) override { append(out); }
  void append_grant(sync::SyncId, NodeId, std::span<const std::byte> request, sync::Bytes& out) override {
    if (!silent_ && request.size() != known_.size() * sizeof(std::uint64_t)) broken_ = true;
    append(out);
  }
  void on_acquire(sync::SyncId, NodeId, std::span<const std::byte> payload) override {
    dawdle();
    merge(payload);
  }
  void on_barrier_arrive(sync::Bytes& out) override {
    on_release();
    append(out);
  }
  void on_barrier_merge(sync::Bytes& sum, std::span<const std::byte> other) override {
    if (other.empty()) return;  // of a silent one
    if (sum.empty()) sum.assign(other.begin(), other.end());
    if (sum.size() != other.size()) {
      broken_ = true;
      return;
    }
    for (std::size_t at = 0; at < sum.size(); at += sizeof(std::uint64_t)) {
      std::uint64_t a = 0;
      std::uint64_t b = 0;
      std::memcpy(&a, &sum[at], sizeof a);
      std::memcpy(&b, &other[at], sizeof b);
      a = std::max(a, b);
      std::memcpy(&sum[at], &a, sizeof a);
    }
  }
  void on_barrier_leave(std::span<const std::byte> sum) override {
    dawdle();
    merge(sum);
  }

 private:
  // What threads of this node know: all of its own writes, and of the others' what has been told.
  [[nodiscard]] Clock view() const {
    Clock clock = known_;
    clock[node_.value] = written_;
    return clock;
  }
  void append(sync::Bytes& out) {
    if (silent_) return;
    const std::lock_guard guard(guard_);
    const auto bytes = std::as_bytes(std::span(known_));
    out.insert(out.end(), bytes.begin(), bytes.end());
  }
  void merge(std::span<const std::byte> payload) {
    if (payload.empty()) return;  // of silent ones
    const std::lock_guard guard(guard_);
    if (payload.size() != known_.size() * sizeof(std::uint64_t)) {
      broken_ = true;
      return;
    }
    for (std::size_t i = 0; i < known_.size(); ++i) {
      std::uint64_t told = 0;
      std::memcpy(&told, &payload[i * sizeof told], sizeof told);
      if (i == node_.value && told > written_) broken_ = true;
      known_[i] = std::max(known_[i], told);
    }
  }
  void dawdle() {
    if (!dawdles_) return;
    for (std::uint64_t n = env_.random() % 4; n > 0; --n) env_.relax();
  }

  NodeId node_;
  Env& env_;
  const bool dawdles_;
  SpinLock guard_;
  Clock known_;  // what may be passed on: of this node, the writes that have been flushed
  std::uint64_t written_ = 0;
  std::atomic<std::uint64_t> releases_{0};
  std::atomic<bool> broken_{false};
  bool splits_ = true;
  bool silent_ = false;
};

struct SyncWorldOptions {
  std::uint32_t nodes = 2;
  std::uint32_t threads = 1;
  ShmMode mode = ShmMode::packet;
  std::uint64_t table_slots = 1024;
  std::uint32_t arity = 8;
  std::uint32_t cohort = 16;
  bool engines = true;  ///< between real threads: what comes is seen though no thread of the node looks for it
  bool dawdle = true;   ///< hooks take a while, drawn from the seed
  bool silent = false;  ///< hooks tell nothing: payloads are empty
  Nanos watchdog = 0;
  std::function<void(const std::vector<std::string>&)> report = {};  ///< takes the watchdogs' lines
};

struct SyncNode {
  static constexpr std::uint64_t kPages = 64;

  SyncNode(const SyncWorldOptions& options, NodeId node, Env& env) {
    std::string why;
    HostVmConfig memory;
    memory.pages = kPages;
    vm = HostVm::create(memory, env, &why).value();
    nic::DeviceConfig shape;
    shape.node = node;
    shape.nodes = options.nodes;
    shape.pages = kPages;
    shape.ring_bytes = nic::shm_ring::kDefaultAreaBytes;
    device = nic::Device::create(shape, -1, vm->frame_base(), &why).value();
  }
  void attach(const SyncWorldOptions& options, NodeId node, Env& env, nic::Fabric& fabric) {
    nic::NicConfig config;
    config.node = node;
    config.nodes = options.nodes;
    config.mode = options.mode;
    nic = std::make_unique<nic::Nic>(config, env, *vm, fabric, *device, stats);
    table = nic->region_create({PageId{0}, kPages}, nic::Rights::all).value();
    hook = std::make_unique<ClockHook>(node, options.nodes, env, options.dawdle);
    if (options.silent) hook->fall_silent();
  }
  void connect(const SyncWorldOptions& options, const std::vector<nic::RemoteRegion>& tables) {
    sync::SyncConfig config;
    config.tables = tables;
    config.table_slots = options.table_slots;
    config.arity = options.arity;
    config.cohort = options.cohort;
    config.watchdog = options.watchdog;
    config.report = options.report;
    sync = std::make_unique<sync::Sync>(config, *nic, *hook, stats);
    sync->set_local_threads(options.threads);
  }

  Stats stats;
  std::unique_ptr<HostVm> vm;
  std::unique_ptr<nic::Device> device;
  std::unique_ptr<nic::Nic> nic;
  nic::RemoteRegion table;
  std::unique_ptr<ClockHook> hook;
  std::unique_ptr<sync::Sync> sync;
};

/// Attaches all nodes to their fabrics and makes each know the others' tables.
inline void connect_all(const SyncWorldOptions& options, std::vector<std::unique_ptr<SyncNode>>& nodes,
                        const std::function<Env&(NodeId)>& env, const std::function<nic::Fabric&(NodeId)>& fabric) {
  std::vector<nic::RemoteRegion> tables;
  for (std::uint32_t i = 0; i < options.nodes; ++i) {
    nodes[i]->attach(options, NodeId{i}, env(NodeId{i}), fabric(NodeId{i}));
    tables.push_back(nodes[i]->table);
  }
  for (const auto& node : nodes) node->connect(options, tables);
}

class SimSyncWorld {
 public:
  SimSyncWorld(std::uint64_t seed, const SyncWorldOptions& options, const nic::SimNetworkOptions& network_options = {})
      : options_(options), simulator_(sim_options(seed)), network_(simulator_, options.nodes, network_options) {
    for (std::uint32_t i = 0; i < options.nodes; ++i) nodes_.push_back(std::make_unique<SyncNode>(options, NodeId{i}, env(i)));
    if (options.mode == ShmMode::direct) {
      for (std::uint32_t i = 0; i < options.nodes; ++i) {
        for (std::uint32_t to = 0; to < options.nodes; ++to) network_.connect_device(NodeId{i}, NodeId{to}, nodes_[to]->device.get());
      }
    }
    connect_all(
        options, nodes_, [this](NodeId n) -> Env& { return simulator_.env(n); },
        [this](NodeId n) -> nic::Fabric& { return network_.fabric(n); });
  }
  ~SimSyncWorld() {
    if (!ended_well_) return;
    // In a fiber, as a Sync waits for what it still applies.
    simulator_.start(NodeId{0}, "end", [this] {
      for (auto& node : nodes_) node->sync.reset();
    });
    (void)simulator_.run();
  }

  [[nodiscard]] SyncNode& node(std::uint32_t index) { return *nodes_[index]; }
  [[nodiscard]] Env& env(std::uint32_t index) { return simulator_.env(NodeId{index}); }
  [[nodiscard]] Simulator& simulator() { return simulator_; }

  void start(std::uint32_t node, std::uint32_t local, std::function<void()> body) {
    simulator_.start(NodeId{node}, "thread " + std::to_string(local), std::move(body));
  }
  /// Starts body(node, local) on every thread.
  void start_all(const std::function<void(std::uint32_t, std::uint32_t)>& body) {
    for (std::uint32_t n = 0; n < options_.nodes; ++n) {
      for (std::uint32_t local = 0; local < options_.threads; ++local) {
        start(n, local, [body, n, local] { body(n, local); });
      }
    }
  }
  Simulator::Report run() {
    Simulator::Report report = simulator_.run();
    ended_well_ = report.end == Simulator::End::all_done;
    return report;
  }

  /// Sleeps in virtual time, from a thread of the node.
  void pause(std::uint32_t index, Nanos time) {
    const std::atomic<std::uint32_t> never{0};
    const ParkOn word{&never, 0};
    const Nanos until = env(index).now() + time;
    while (env(index).now() < until) env(index).park({&word, 1}, until);
  }
  [[nodiscard]] std::uint64_t total(Stat stat) const {
    std::uint64_t sum = 0;
    for (const auto& node : nodes_) sum += node->stats.get(stat);
    return sum;
  }
  [[nodiscard]] bool hooks_broken() const {
    for (const auto& node : nodes_) {
      if (node->hook->broken()) return true;
    }
    return false;
  }

 private:
  static SimOptions sim_options(std::uint64_t seed) {
    SimOptions options;
    options.seed = seed;
    return options;
  }

  SyncWorldOptions options_;
  Simulator simulator_;
  nic::SimNetwork network_;
  std::vector<std::unique_ptr<SyncNode>> nodes_;
  bool ended_well_ = false;
};

/// Each node with an engine thread, as a rule; body(node, local) runs on threads of its own.
class ThreadSyncWorld {
 public:
  explicit ThreadSyncWorld(const SyncWorldOptions& options, Nanos spin = 0) : options_(options), env_({spin, true, 0}) {
    std::vector<nic::Device*> devices;
    for (std::uint32_t i = 0; i < options.nodes; ++i) {
      nodes_.push_back(std::make_unique<SyncNode>(options, NodeId{i}, env_));
      devices.push_back(nodes_.back()->device.get());
    }
    for (std::uint32_t i = 0; i < options.nodes; ++i)
      fabrics_.push_back(std::make_unique<nic::ShmFabric>(NodeId{i}, options.nodes, env_, devices));
    connect_all(
        options, nodes_, [this](NodeId) -> Env& { return env_; }, [this](NodeId n) -> nic::Fabric& { return *fabrics_[n.value]; });
    for (auto& node : nodes_) {
      if (!options.engines) break;
      engines_.emplace_back([this, &node] {
        while (!stop_.load()) node->nic->engine_turn(0, env_.now() + 100'000'000);
      });
    }
  }
  ~ThreadSyncWorld() {
    for (auto& node : nodes_) node->sync.reset();
    stop_.store(true);
    for (auto& node : nodes_) node->nic->shut_down();
    for (std::thread& engine : engines_) engine.join();
    for (auto& node : nodes_) (void)node->nic->close();  // waits for its tasks: they reach into all nodes' rings
    nodes_.clear();                                      // before the fabrics that they use
  }

  [[nodiscard]] SyncNode& node(std::uint32_t index) { return *nodes_[index]; }
  [[nodiscard]] RealEnv& env() { return env_; }
  void run_all(const std::function<void(std::uint32_t, std::uint32_t)>& body) {
    std::vector<std::thread> threads;
    for (std::uint32_t n = 0; n < options_.nodes; ++n) {
      for (std::uint32_t local = 0; local < options_.threads; ++local) threads.emplace_back([&body, n, local] { body(n, local); });
    }
    for (std::thread& thread : threads) thread.join();
  }

 private:
  SyncWorldOptions options_;
  RealEnv env_;
  std::vector<std::unique_ptr<SyncNode>> nodes_;
  std::vector<std::unique_ptr<nic::ShmFabric>> fabrics_;
  std::atomic<bool> stop_{false};
  std::vector<std::thread> engines_;
};

}  // namespace netvm::test
