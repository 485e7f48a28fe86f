// Goodput in virtual time: payload that has arrived over the time it took, for the bare simulated fabric and for a NIC on top of it. Used
// by a test and by whoever wants to print the figures.
#pragma once

#include <cstring>
#include <memory>
#include <vector>

#include "tests/support/nic_world.hpp"

namespace netvm::test {

struct GoodputOptions {
  std::uint64_t seed = 1;
  std::uint64_t bytes = std::uint64_t{32} << 20;
  std::size_t piece = std::size_t{1} << 20;  ///< of one message or one write
  nic::SimNetworkOptions network = {};
};

/// 10 Gbit/s, 5 to 6 us one way, packets of 16 KiB.
inline nic::SimNetworkOptions goodput_network() {
  nic::SimNetworkOptions network;
  network.min_delay = 5'000;
  network.max_delay = 6'000;
  network.bits_per_second = 10'000'000'000;
  network.lossy = true;
  return network;
}
/// The same with 1 % of the packets lost and 25 % overtaken by others.
inline nic::SimNetworkOptions rough_goodput_network() {
  nic::SimNetworkOptions network = goodput_network();
  network.loss_ppm = 10'000;
  network.late_ppm = 250'000;
  network.late_delay = 30'000;
  return network;
}

/// Bits per nanosecond (Gbit/s).
inline double goodput_of(std::uint64_t bytes, Nanos time) { return static_cast<double>(bytes) * 8 / static_cast<double>(time); }

/// Packets of the fabric's largest size, nothing but payload, without loss: what there is to be had.
inline double bare_goodput(const GoodputOptions& options) {
  struct Sink final : nic::PacketSink {
    std::uint64_t bytes = 0;
    Nanos last = 0;
    Env* env = nullptr;
    void on_packet(NodeId, std::span<const std::byte> packet) noexcept override {
      bytes += packet.size();
      last = env->now();
    }
  };
  SimOptions made;
  made.seed = options.seed;
  Simulator simulator(made);
  nic::SimNetworkOptions clean = options.network;
  clean.loss_ppm = clean.corrupt_ppm = clean.duplicate_ppm = clean.late_ppm = 0;
  nic::SimNetwork network(simulator, 2, clean);
  Sink sink;
  sink.env = &simulator.env(NodeId{1});
  network.fabric(NodeId{1}).attach(&sink);
  Nanos started = 0;
  simulator.start(NodeId{0}, "sender", [&] {
    started = simulator.now();
    const std::vector<std::byte> packet(clean.max_packet);
    for (std::uint64_t sent = 0; sent < options.bytes; sent += packet.size()) network.fabric(NodeId{0}).send(NodeId{1}, {}, packet);
    while (network.in_flight() != 0) simulator.env(NodeId{0}).relax();
  });
  (void)simulator.run();
  return goodput_of(sink.bytes, sink.last - started);
}

inline NicWorldOptions goodput_world(const GoodputOptions& options) {
  NicWorldOptions made;
  made.seed = options.seed;
  made.network = options.network;
  made.pages = 4096;
  return made;
}

/// A stream of messages, until the last one has been handled.
inline double message_goodput(const GoodputOptions& options) {
  struct Sink final : nic::MessageHandler {
    std::uint64_t bytes = 0;
    WaitWord word;
    Env* env = nullptr;
    void on_message(NodeId, std::span<const std::byte> body) noexcept override {
      bytes += body.size();
      word.announce(*env);
    }
  };
  SimNicWorld world(goodput_world(options), WorldKind::lossy);
  Sink sink;
  sink.env = &world.nic(1).env();
  world.nic(1).set_message_handler(nic::MessageKind::test, &sink);
  Nanos started = 0, ended = 0;
  world.run({{0,
              [&] {
                started = sink.env->now();
                const std::vector<std::byte> body(options.piece);
                for (std::uint64_t sent = 0; sent < options.bytes; sent += body.size()) {
                  world.nic(0).send(NodeId{1}, nic::MessageKind::test, body);
                }
              }},
             {1, [&] {
                CHECK(ok(world.nic(1).wait_until(sink.word, [&] { return sink.bytes >= options.bytes; })));
                ended = sink.env->now();
              }}});
  return goodput_of(sink.bytes, ended - started);
}

/// A stream of writes, until all of them are placed and that is known.
inline double write_goodput(const GoodputOptions& options) {
  SimNicWorld world(goodput_world(options), WorldKind::lossy);
  const nic::RemoteRegion region = world.whole(1);
  Nanos started = 0, ended = 0;
  world.run([&] {
    Env& env = world.nic(0).env();
    started = env.now();
    const std::vector<std::byte> data(options.piece);
    std::vector<std::unique_ptr<nic::Completion>> posted;
    for (std::uint64_t sent = 0; sent < options.bytes; sent += data.size()) {
      nic::Completion& one = *posted.emplace_back(std::make_unique<nic::Completion>());
      world.nic(0).post_write(region, sent % (std::uint64_t{8} << 20), data.data(), data.size(), &one);
    }
    for (auto& one : posted) CHECK(ok(world.nic(0).wait(*one)));
    ended = env.now();
  });
  return goodput_of(options.bytes, ended - started);
}

}  // namespace netvm::test
