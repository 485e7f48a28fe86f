// A fabric carries packets between NICs, and on one host lets an initiator reach the target's device memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "runtime/env.hpp"
#include "runtime/ids.hpp"

namespace netvm::nic {

/// A node's NIC seen as memory: region table, shadow page table, event counters, frames. Mapped by peers on the same host, so that
/// an initiator can execute the target's firmware step. Defined in device.hpp.
class Device;

/// Receives what a fabric delivers.
class PacketSink {
 public:
  virtual ~PacketSink() = default;
  /// One packet, whole, as sent. Not trusted: the sink validates it. Never called twice at once for one sink.
  virtual void on_packet(NodeId from, std::span<const std::byte> packet) noexcept = 0;
};

class Fabric {
 public:
  virtual ~Fabric() = default;

  virtual void attach(PacketSink* sink) = 0;

  /// Largest packet, header included, in bytes. At least 1 KiB + one page.
  [[nodiscard]] virtual std::size_t max_packet() const = 0;
  /// Whether packets of one pair of nodes arrive in the order of sending. Where not, the sequence window orders them.
  [[nodiscard]] virtual bool in_order() const = 0;
  /// Whether every packet arrives, undamaged. Where not, the NICs acknowledge, and send again what was lost. Packets may arrive twice
  /// in any case.
  [[nodiscard]] virtual bool reliable() const = 0;

  /// Hands a packet over, gathered from two pieces. Never blocks and never fails: a full ring queues it on this side. Thread-safe.
  /// Packets of one caller to one target keep their order (if in_order()).
  virtual void send(NodeId to, std::span<const std::byte> header, std::span<const std::byte> payload) = 0;

  /// The same, where the caller sends another packet to that target at once: it may be kept back until then.
  virtual void send_soon(NodeId to, std::span<const std::byte> header, std::span<const std::byte> payload) { send(to, header, payload); }

  /// Delivers what has arrived to the sink and pushes out what is queued. Returns whether there was anything. One caller at a time
  /// (the NIC's driver lock). In the simulator packets come by themselves and this does nothing.
  virtual bool poll() = 0;
  /// Whether poll() would find something. Any thread.
  [[nodiscard]] virtual bool pending() const = 0;

  /// The target's device if this host can reach it directly, else null: then only packets do.
  [[nodiscard]] virtual Device* device_of(NodeId node) = 0;

  /// Parking for a packet. Two classes of sleepers: threads of the application that wait for something (woken first, as it is
  /// probably theirs) and the engine. announce/withdraw bracket the sleep; pending() must be checked in between.
  enum class Sleeper : std::uint8_t { application, engine };
  virtual ParkOn announce_sleep(Sleeper who) = 0;
  virtual void withdraw_sleep(Sleeper who) = 0;
  /// Brackets a time in which the calling thread polls again and again: until the last such thread has withdrawn, what arrives wakes nobody.
  /// After withdraw_poll() the caller looks at pending() and passes on what it leaves.
  virtual void announce_poll() = 0;
  virtual void withdraw_poll() = 0;
  /// Wakes one sleeper of this node, if there is one: for a thread that was woken (or counted on) and does something else instead.
  virtual void pass_on() = 0;
};

}  // namespace netvm::nic
