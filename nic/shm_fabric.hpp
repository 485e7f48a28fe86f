// Shared-memory fabric: packets between the nodes of one host (or of one process) through a ring per ordered pair of nodes. The ring
// from A to B lies in B's device memory; B's doorbell says which rings have something.
//
// Invariants
//  1. Packets of one caller to one target arrive in the order of sending, exactly once: what does not fit the ring waits in this
//     node's queue, and while anything waits there, later packets queue behind it.
//  2. While packets wait for room, the target knows (RingProducer::wait_for_room) and rings back when it has made some; the poll()
//     that finds that bell pushes them.
//  3. poll() delivers a bounded number of packets, round robin over the sources; if it leaves any it wakes a sleeper to go on.
//  4. Of up to kMostWatched sources the bell's bit stays set: poll() and pending() look at their rings, and at what is queued for them, themselves.
//     (A source joins by ringing; one that has long been silent makes room for another.)
//  5. A channel whose shared memory holds anything impossible is closed (one direction of one pair); everything else goes on.
// Threads: send() and pending() any; poll() one at a time.
#pragma once

#include <array>
#include <atomic>
#include <deque>
#include <memory>
#include <vector>

#include "nic/doorbell.hpp"
#include "nic/fabric.hpp"
#include "nic/shm_ring.hpp"

namespace netvm::nic {

class ShmFabric final : public Fabric {
 public:
  /// `devices` are this node's own and its peers', by node, mapped for as long as this object lives. All rings have the same size.
  ShmFabric(NodeId node, std::uint32_t nodes, Env& env, std::vector<Device*> devices);
  ~ShmFabric() override;

  void attach(PacketSink* sink) override { sink_ = sink; }
  [[nodiscard]] std::size_t max_packet() const override { return max_packet_; }
  [[nodiscard]] bool in_order() const override { return true; }
  [[nodiscard]] bool reliable() const override { return true; }
  void send(NodeId to, std::span<const std::byte> header, std::span<const std::byte> payload) override {
    hand_over(to, header, payload, false);
  }
  void send_soon(NodeId to, std::span<const std::byte> header, std::span<const std::byte> payload) override {
    hand_over(to, header, payload, true);
  }
  bool poll() override;
  [[nodiscard]] bool pending() const override;
  [[nodiscard]] Device* device_of(NodeId node) override { return devices_[node.value]; }
  ParkOn announce_sleep(Sleeper who) override;
  void withdraw_sleep(Sleeper who) override;
  void announce_poll() override { bell_.pollers.fetch_add(1, std::memory_order_seq_cst); }
  void withdraw_poll() override { bell_.pollers.fetch_sub(1, std::memory_order_seq_cst); }  // partner: wake_one()'s look
  void pass_on() override { bell_.wake_one(env_); }

  /// Channels closed because of invariant 5, and packets dropped for it.
  [[nodiscard]] std::uint64_t broken_channels() const { return broken_channels_.load(std::memory_order_relaxed); }  // relaxed: a statistic
  [[nodiscard]] std::uint64_t dropped_packets() const { return dropped_packets_.load(std::memory_order_relaxed); }  // relaxed: a statistic
  /// Packets that wait on this side for room in some ring.
  [[nodiscard]] std::size_t queued_packets() const { return queued_packets_.load(std::memory_order_relaxed); }  // relaxed: a statistic

 private:
  struct Outbound;

  static constexpr std::uint32_t kMostWatched = 4;
  static constexpr std::uint32_t kNobody = UINT32_MAX;
  /// A source whose bit stays set.
  struct Watched {
    std::atomic<std::uint32_t> source{kNobody};
    std::uint32_t silent = 0;  // looks without anything; the driver's
  };

  void hand_over(NodeId to, std::span<const std::byte> header, std::span<const std::byte> payload, bool soon);
  [[nodiscard]] SleepWord& sleep_word(Sleeper who);
  // The bits that are set and not watched; each is cleared, or its source is watched from now on.
  std::uint64_t take_bits(std::uint32_t word);
  // False: all places are taken by sources that are not silent.
  bool watch(std::uint32_t source);
  [[nodiscard]] bool has_news(std::uint32_t source) const;
  // Returns what is left of `budget`; sets *left if it stopped before the ring was empty.
  std::uint32_t drain(std::uint32_t source, std::uint32_t budget, bool* left);
  void close_inbound(std::uint32_t source);
  void push_queued(std::uint32_t target);
  std::size_t push_some(Outbound& out, std::size_t patient);
  static RingProducer::Push push_or_wait(Outbound& out, std::span<const std::byte> header, std::span<const std::byte> payload);
  static RingProducer::Push try_push(Outbound& out, std::span<const std::byte> header, std::span<const std::byte> payload);
  void count_dropped(std::uint64_t packets);

  NodeId node_;
  std::uint32_t nodes_;
  Env& env_;
  std::vector<Device*> devices_;
  Doorbell& bell_;  // of this node
  std::size_t max_packet_ = 0;
  PacketSink* sink_ = nullptr;
  std::unique_ptr<Outbound[]> outbound_;                                  // by target
  std::vector<RingConsumer> inbound_;                                     // by source
  std::array<std::atomic<std::uint64_t>, Doorbell::kWords> left_over_{};  // bits taken from the bell whose rings are not empty yet
  std::unique_ptr<std::atomic<std::uint64_t>[]> taken_;                   // by source: how far its ring has been looked at; kClosed
  std::array<Watched, kMostWatched> watched_;
  std::array<std::atomic<std::uint64_t>, Doorbell::kWords> watched_bits_{};
  std::uint32_t next_source_ = 0;  // where the next poll() begins
  std::atomic<std::uint64_t> broken_channels_{0};
  std::atomic<std::uint64_t> dropped_packets_{0};
  std::atomic<std::size_t> queued_packets_{0};
};

}  // namespace netvm::nic
