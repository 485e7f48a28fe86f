// Goodput over a network that loses and reorders: in virtual time, on the simulated fabric, so that it needs no such network and no quiet
// machine. The same NIC as everywhere; only Env and Fabric are others.
#include <fmt/format.h>

#include <memory>
#include <string>
#include <vector>

#include "apps/netvm-perf/thesis.hpp"
#include "apps/netvm-perf/thesis_table.hpp"
#include "netvm/netvm.hpp"
#include "nic/device.hpp"
#include "nic/nic.hpp"
#include "nic/shm_ring.hpp"
#include "nic/sim_fabric.hpp"
#include "runtime/host_vm.hpp"
#include "runtime/simulator.hpp"
#include "runtime/stats.hpp"

namespace netvm::perf {
namespace {

constexpr std::uint64_t kPagesOfNode = 1024;
constexpr std::size_t kPiece = std::size_t{1} << 20;

/// 10 Gbit/s, 5 to 6 us one way.
nic::SimNetworkOptions clean_network() {
  nic::SimNetworkOptions network;
  network.min_delay = 5'000;
  network.max_delay = 6'000;
  network.bits_per_second = 10'000'000'000;
  network.lossy = true;
  return network;
}
/// The same with 1 % of the packets lost and 25 % overtaken by others.
nic::SimNetworkOptions rough_network() {
  nic::SimNetworkOptions network = clean_network();
  network.loss_ppm = 10'000;
  network.late_ppm = 250'000;
  network.late_delay = 30'000;
  return network;
}

Simulator::Report run_to_end(Simulator& simulator) {
  Simulator::Report report = simulator.run();
  if (report.end != Simulator::End::all_done) throw Error("netvm-perf: the simulated stream does not end: " + report.text);
  return report;
}

/// Nanoseconds for so many bytes in packets of the fabric's largest size, nothing but payload.
double bare_ns(std::uint64_t seed, std::uint64_t bytes) {
  struct Sink final : nic::PacketSink {
    Nanos last = 0;
    Env* env = nullptr;
    void on_packet(NodeId /*from*/, std::span<const std::byte> /*packet*/) noexcept override { last = env->now(); }
  };
  Simulator simulator({.seed = seed});
  nic::SimNetwork network(simulator, 2, clean_network());
  Sink sink;
  sink.env = &simulator.env(NodeId{1});
  network.fabric(NodeId{1}).attach(&sink);
  Nanos started = 0;
  simulator.start(NodeId{0}, "sender", [&] {
    started = simulator.now();
    const std::vector<std::byte> packet(network.fabric(NodeId{0}).max_packet());
    for (std::uint64_t sent = 0; sent < bytes; sent += packet.size()) network.fabric(NodeId{0}).send(NodeId{1}, {}, packet);
    while (network.in_flight() != 0) simulator.env(NodeId{0}).relax();
  });
  run_to_end(simulator);
  return static_cast<double>(sink.last - started);
}

/// A node with nothing but a host VM and a NIC. Destroyed from the NIC down.
struct VirtualNode {
  Stats stats;
  std::unique_ptr<HostVm> vm;
  std::unique_ptr<nic::Device> device;
  std::unique_ptr<nic::Nic> nic;

  VirtualNode(NodeId node, Env& env, nic::Fabric& fabric) {
    std::string why;
    HostVmConfig memory;
    memory.pages = kPagesOfNode;
    auto made_vm = HostVm::create(memory, env, &why);
    if (!made_vm) throw Error("netvm-perf: " + why);
    vm = std::move(made_vm).value();
    nic::DeviceConfig shape;
    shape.node = node;
    shape.nodes = 2;
    shape.pages = kPagesOfNode;
    shape.ring_bytes = nic::shm_ring::kDefaultAreaBytes;
    auto made_device = nic::Device::create(shape, -1, vm->frame_base(), &why);
    if (!made_device) throw Error("netvm-perf: " + why);
    device = std::move(made_device).value();
    nic::NicConfig config;
    config.node = node;
    config.nodes = 2;
    config.mode = ShmMode::packet;
    nic = std::make_unique<nic::Nic>(config, env, *vm, fabric, *device, stats);
  }
};

/// Nanoseconds for a stream of writes, until all are placed and that is known.
double writes_ns(std::uint64_t seed, std::uint64_t bytes, const nic::SimNetworkOptions& options) {
  Simulator simulator({.seed = seed});
  nic::SimNetwork network(simulator, 2, options);
  VirtualNode source(NodeId{0}, simulator.env(NodeId{0}), network.fabric(NodeId{0}));
  VirtualNode target(NodeId{1}, simulator.env(NodeId{1}), network.fabric(NodeId{1}));
  const auto region = target.nic->region_create({PageId{0}, kPagesOfNode}, nic::Rights::all);
  if (!region || !ok(target.vm->make_resident({PageId{0}, kPagesOfNode}))) throw Error("netvm-perf: no memory for the simulated stream");
  Nanos took = 0;
  Status status = Status::ok;
  simulator.start(NodeId{0}, "source", [&] {
    const Nanos started = simulator.now();
    const std::vector<std::byte> data(kPiece);
    std::vector<std::unique_ptr<nic::Completion>> posted;
    for (std::uint64_t sent = 0; sent < bytes; sent += data.size()) {
      posted.push_back(std::make_unique<nic::Completion>());
      source.nic->post_write(*region, sent % (kPagesOfNode * kPageSize), data.data(), data.size(), posted.back().get());
    }
    for (const auto& one : posted) {
      const Status ended = source.nic->wait(*one);
      if (!ok(ended)) status = ended;
    }
    took = simulator.now() - started;
  });
  run_to_end(simulator);
  source.nic.reset();  // before the fabrics, which both may still use
  target.nic.reset();
  if (!ok(status)) throw Error(fmt::format("netvm-perf: the simulated stream failed: {}", describe(status)));
  return static_cast<double>(took);
}

}  // namespace

void add_virtual_goodput(const Options& options, Table& table) {
  const std::uint64_t bytes = std::uint64_t{options.quick ? 4U : 32U} << 20;
  std::vector<double> bare;
  std::vector<double> clean;
  std::vector<double> rough;
  for (int seed = 1; seed <= std::min(options.batches, 31); ++seed) {
    const auto s = static_cast<std::uint64_t>(seed);
    bare.push_back(bare_ns(s, bytes));
    clean.push_back(writes_ns(s, bytes, clean_network()));
    rough.push_back(writes_ns(s, bytes, rough_network()));
  }
  add_figure(table, "goodput over the simulated fabric's", "0.972", paired_ratio(bare, clean), {0.972, 0.985, true});
  add_figure(table, "goodput at 1 % loss and 25 % reordering, simulated", "-", paired_ratio(bare, rough), {{}, 0.90, true});
}

}  // namespace netvm::perf
