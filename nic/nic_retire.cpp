// Nic: what an arriving request does. A write lands at once and retires in its turn; everything else takes effect when it retires. What
// meets a page that is not there: nic_redirect.cpp.
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
  held.status = header.opcode == Opcode::write ? land(packet, &held.redirected) : land_vector(packet, &held.redirected);
  if (held.redirected == nullptr) {
    held.answered = end_at_once(header, held.status);
  } else {
    held.redirected->status = held.status;
    start_faults();
  }
  return held;
}

bool Nic::Impl::end_at_once(const PacketHeader& header, Status written) {
  if (!notifies_at_once(header)) return false;
  Status status = written;
  if (header.notify == NotifyFlag::own) {
    EventCounters& counters = device.counters();
    if (ok(status)) {
      status = counters.increment(header.counter, header.increment, env);
    } else {
      (void)counters.increment_error(header.counter, env);
    }
  }
  answer(header, status);
  return true;
}

bool Nic::Impl::retire(NodeId from, Inbound& channel, HeldPacket& held, std::span<const std::byte> payload) {
  const PacketHeader& header = held.header;
  switch (header.opcode) {
    case Opcode::write:
    case Opcode::write_vector:
      if (!retire_write(channel, held)) return false;
      break;
    case Opcode::read:
      if (!execute_read(from, channel, header)) return false;
      break;
    case Opcode::atomic:
      if (!execute_atomic(from, channel, header)) return false;
      break;
    case Opcode::notify:
      answer(header, count_ordered(channel, header, Status::ok));
      break;
    case Opcode::message:
      on_fragment(from, channel, header, payload);
      break;
    case Opcode::done:
    case Opcode::data:
    case Opcode::give_back:
    case Opcode::ack:
      break;  // have no place in a sequence: on_packet() sends them elsewhere
  }
  ++channel.retired;
  return true;
}

bool Nic::Impl::retire_write(Inbound& channel, HeldPacket& held) {
  const PacketHeader& header = held.header;
  if (held.redirected != nullptr) {
    if (held.redirected->pieces_left != 0) return false;
    held.status = held.redirected->status;
    held.answered = held.redirected->answered;
    held.redirected = nullptr;
  }
  const std::uint64_t turn = channel.retired + 1;
  if (!ok(held.status)) {
    channel.last_failure = turn;
    channel.failed = true;
    channel.failed_era = header.error_era;
  }
  if (held.answered) return true;
  if (header.notify != NotifyFlag::own) {
    answer(header, count_ordered(channel, header, held.status));
    return true;
  }
  // OWN, of several packets: they retired just before this one.
  const bool earlier_failed = channel.last_failure != 0 && channel.last_failure + header.pieces_before >= turn;
  if (ok(held.status) && !earlier_failed) {
    answer(header, device.counters().increment(header.counter, header.increment, env));
  } else {
    (void)device.counters().increment_error(header.counter, env);
    answer(header, held.status);
  }
  return true;
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

Status Nic::Impl::land(const Packet& packet, std::shared_ptr<RedirectedWrite>* redirected) {
  const PacketHeader& header = packet.header;
  const WorkRequest request{.kind = WorkKind::write,
                            .region = header.region,
                            .key = header.key,
                            .offset = header.offset,
                            .bytes = packet.payload.size(),
                            .source = packet.payload.data()};
  return land_or_redirect(packet, request, redirected);
}

Status Nic::Impl::land_vector(const Packet& packet, std::shared_ptr<RedirectedWrite>* redirected) {
  const PacketHeader& header = packet.header;
  Status first = Status::ok;
  VectorReader reader(packet.payload);
  VectorPiece piece{};
  const std::byte* bytes = nullptr;
  while (reader.next(&piece, &bytes)) {
    const WorkRequest request{
        .kind = WorkKind::write, .region = header.region, .key = header.key, .offset = piece.offset, .bytes = piece.bytes, .source = bytes};
    const Status status = land_or_redirect(packet, request, redirected);
    if (ok(first)) first = status;
  }
  return first;
}

bool Nic::Impl::execute_read(NodeId from, Inbound& channel, const PacketHeader& header) {
  alignas(std::uint64_t) std::array<std::byte, kPageSize> data;
  const WorkRequest request{.kind = WorkKind::read,
                            .region = header.region,
                            .key = header.key,
                            .offset = header.offset,
                            .bytes = header.bytes,
                            .landing = data.data()};
  const Outcome outcome = execute_in_turn(from, channel, request, header.pages_ahead);
  if (!outcome.resident) return false;
  if (ok(outcome.status)) {
    answer_data(header, {data.data(), header.bytes});
  } else {
    answer(header, outcome.status);
  }
  return true;
}

bool Nic::Impl::execute_atomic(NodeId from, Inbound& channel, const PacketHeader& header) {
  const WorkRequest request{.kind = WorkKind::atomic,
                            .region = header.region,
                            .key = header.key,
                            .offset = header.offset,
                            .bytes = sizeof(std::uint64_t),
                            .atomic = header.atomic};
  const Outcome outcome = execute_in_turn(from, channel, request, 0);
  if (!outcome.resident) return false;
  answer(header, outcome.status, outcome.old_value);
  return true;
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
