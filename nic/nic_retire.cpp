// Nic: what an arriving request does. A write lands at once and retires in its turn; everything else takes effect when it retires.
// Threads: the driver of this node's NIC (in the simulator: its loop).
#include <utility>

#include "nic/nic_impl.hpp"

namespace netvm::nic {

namespace {

/// An OWN notification of a write of one packet needs nothing but its own bytes.
bool notifies_at_once(const PacketHeader& h) {
  return h.notify == NotifyFlag::none || (h.notify == NotifyFlag::own && h.pieces_before == 0);
}

}  // namespace

HeldPacket Nic::Impl::arrive(const Packet& packet) {
  const PacketHeader& header = packet.header;
  HeldPacket held{.header = header};
  if (!is_write(header.opcode)) return held;
  held.landed = true;
  held.status = header.opcode == Opcode::write ? land(header, packet.payload) : land_vector(header, packet.payload);
  if (!notifies_at_once(header)) return held;
  held.answered = true;
  Status status = held.status;
  if (header.notify == NotifyFlag::own) {
    EventCounters& counters = device.counters();
    if (ok(status)) {
      status = counters.increment(header.counter, header.increment, env);
    } else {
      (void)counters.increment_error(header.counter, env);
    }
  }
  answer(header, status);
  return held;
}

void Nic::Impl::retire(NodeId from, Inbound& channel, HeldPacket& held, std::span<const std::byte> payload) {
  ++channel.retired;
  switch (held.header.opcode) {
    case Opcode::write:
    case Opcode::write_vector:
      return retire_write(channel, held);
    case Opcode::read:
      return execute_read(held.header);
    case Opcode::atomic:
      return execute_atomic(held.header);
    case Opcode::notify:
      return answer(held.header, count_ordered(channel, held.header, Status::ok));
    case Opcode::message:
      return on_fragment(from, channel, held.header, payload);
    case Opcode::done:
    case Opcode::data:
    case Opcode::give_back:
    case Opcode::ack:
      break;  // have no place in a sequence: on_packet() sends them elsewhere
  }
}

void Nic::Impl::retire_write(Inbound& channel, HeldPacket& held) {
  const PacketHeader& header = held.header;
  if (!ok(held.status)) {
    channel.last_failure = channel.retired;
    channel.failed = true;
    channel.failed_era = header.error_era;
  }
  if (held.answered) return;
  if (header.notify != NotifyFlag::own) return answer(header, count_ordered(channel, header, held.status));
  // OWN, of several packets: they retired just before this one.
  const bool earlier_failed = channel.last_failure != 0 && channel.last_failure + header.pieces_before >= channel.retired;
  if (ok(held.status) && !earlier_failed) return answer(header, device.counters().increment(header.counter, header.increment, env));
  (void)device.counters().increment_error(header.counter, env);
  answer(header, held.status);
}

Status Nic::Impl::count_ordered(Inbound& channel, const PacketHeader& header, Status written) {
  if (channel.failed && channel.failed_era != header.error_era) channel.failed = false;  // the source has cleared its errors since
  if (ok(written) && !channel.failed && header.notify != NotifyFlag::ordered_failed) {
    return device.counters().increment(header.counter, header.increment, env);
  }
  const Status counted = device.counters().increment_error(header.counter, env);
  if (!ok(written)) return written;
  return ok(counted) ? Status::cancelled : counted;
}

// ---- taking effect ------------------------------------------------------------------------------------------------------------------------

Status Nic::Impl::land(const PacketHeader& header, std::span<const std::byte> payload) {
  const WorkRequest request{.kind = WorkKind::write,
                            .region = header.region,
                            .key = header.key,
                            .offset = header.offset,
                            .bytes = payload.size(),
                            .source = payload.data()};
  return Firmware::execute_resident(device, vm, request, payload.size() + std::uint64_t{header.pages_ahead} * kPageSize).status;
}

Status Nic::Impl::land_vector(const PacketHeader& header, std::span<const std::byte> payload) {
  Status first = Status::ok;
  VectorReader reader(payload);
  VectorPiece piece{};
  const std::byte* bytes = nullptr;
  while (reader.next(&piece, &bytes)) {
    const WorkRequest request{
        .kind = WorkKind::write, .region = header.region, .key = header.key, .offset = piece.offset, .bytes = piece.bytes, .source = bytes};
    const Status status = Firmware::execute_resident(device, vm, request, piece.bytes).status;
    if (ok(first)) first = status;
  }
  return first;
}

void Nic::Impl::execute_read(const PacketHeader& header) {
  alignas(std::uint64_t) std::array<std::byte, kPageSize> data;
  const WorkRequest request{.kind = WorkKind::read,
                            .region = header.region,
                            .key = header.key,
                            .offset = header.offset,
                            .bytes = header.bytes,
                            .landing = data.data()};
  const std::uint64_t span = header.bytes + std::uint64_t{header.pages_ahead} * kPageSize;
  const Status status = Firmware::execute_resident(device, vm, request, span).status;
  if (!ok(status)) return answer(header, status);
  answer_data(header, {data.data(), header.bytes});
}

void Nic::Impl::execute_atomic(const PacketHeader& header) {
  const WorkRequest request{.kind = WorkKind::atomic,
                            .region = header.region,
                            .key = header.key,
                            .offset = header.offset,
                            .bytes = sizeof(std::uint64_t),
                            .atomic = header.atomic};
  const Outcome outcome = Firmware::execute_resident(device, vm, request, sizeof(std::uint64_t));
  answer(header, outcome.status, outcome.old_value);
}

// ---- messages -----------------------------------------------------------------------------------------------------------------------------

void Nic::Impl::on_fragment(NodeId from, Inbound& channel, const PacketHeader& header, std::span<const std::byte> payload) {
  std::span<const std::byte> body;
  switch (channel.messages.add(header, payload, &body)) {
    case MessageAssembler::Step::whole:
      return deliver(from, header.code, body);
    case MessageAssembler::Step::partial:
      return;
    case MessageAssembler::Step::refused:
      return count(dropped.fragments);
  }
}

void Nic::Impl::deliver(NodeId from, std::uint8_t kind, std::span<const std::byte> body) {
  MessageHandler* handler = handlers[kind].load(std::memory_order_acquire);  // acquire: partner is set_message_handler()'s release
  if (handler == nullptr) return count(dropped.unhandled);
  handler->on_message(from, body);
}

}  // namespace netvm::nic
