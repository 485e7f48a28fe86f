// Nic: what arrives. A packet is decoded and validated once; then it is an answer (matched by its request id), or it has a place in its
// channel's sequence. What it does then: nic_retire.cpp.
// Threads: the driver of this node's NIC (in the simulator: its loop).
#include <utility>

#include "nic/nic_impl.hpp"

namespace netvm::nic {

void Nic::Impl::on_packet(NodeId from, std::span<const std::byte> bytes) noexcept {
  const Result<Packet> packet = decode(from, bytes, {config.node, config.nodes, config.session});
  if (!packet) return count(packet.status() == Status::stale_epoch ? dropped.stale : dropped.malformed);
  if (channels[from.value].dead.load()) return count(dropped.from_dead);
  if (is_sequenced(packet.value().header.opcode)) {
    on_sequenced(from, packet.value());
  } else {
    on_answer(from, packet.value());
  }
}

// ---- answers ------------------------------------------------------------------------------------------------------------------------------

void Nic::Impl::on_answer(NodeId from, const Packet& packet) {
  const PacketHeader& header = packet.header;
  RequestTable::Request request;
  if (!requests.take(header, from, &request)) return count(dropped.unmatched);
  const auto status = static_cast<Status>(header.code);
  if (header.opcode == Opcode::data && !packet.payload.empty()) racy_copy(request.landing, packet.payload.data(), packet.payload.size());
  if (!ok(status) && is_write(request.opcode)) note_write_failure(channels[from.value], request.error_era);
  requests.end_request(request.operation, status, header.old_value, env);
}

void Nic::Impl::answer(const PacketHeader& request, Status status, std::uint64_t old_value) {
  PacketHeader header = header_for(request.source, Opcode::done);
  header.code = static_cast<std::uint8_t>(status);
  header.request = request.request;
  header.old_value = old_value;
  std::array<std::byte, kMaxHeader> bytes;
  fabric.send(request.source, {bytes.data(), encode(header, bytes)}, {});
}

void Nic::Impl::answer_data(const PacketHeader& request, std::span<const std::byte> data) {
  PacketHeader header = header_for(request.source, Opcode::data);
  header.request = request.request;
  header.bytes = static_cast<std::uint32_t>(data.size());
  std::array<std::byte, kMaxHeader> bytes;
  fabric.send(request.source, {bytes.data(), encode(header, bytes)}, data);
}

// ---- the sequence -------------------------------------------------------------------------------------------------------------------------

void Nic::Impl::on_sequenced(NodeId from, const Packet& packet) {
  Inbound& channel = inbound[from.value];
  switch (channel.window.place(packet.header.sequence)) {
    case SequenceWindow::Place::duplicate:
      return count(dropped.duplicate);
    case SequenceWindow::Place::outside:
      return count(dropped.outside);
    case SequenceWindow::Place::early: {
      HeldPacket held = arrive(packet);
      if (!held.landed) held.payload.assign(packet.payload.begin(), packet.payload.end());
      channel.window.hold(std::move(held));
      return;
    }
    case SequenceWindow::Place::next:
      break;
  }
  HeldPacket arrived = arrive(packet);
  channel.window.advance();
  retire(from, channel, arrived, packet.payload);
  while (std::optional<HeldPacket> held = channel.window.take_next()) {
    channel.window.advance();
    retire(from, channel, *held, held->payload);
  }
}

}  // namespace netvm::nic
