// Nic: what arrives. A packet is decoded and validated once; then it has a place in its channel's sequence. Answers take effect on arrival,
// whatever is missing before them; requests and messages when their turn comes: nic_retire.cpp.
// Threads: the driver of this node's NIC (in the simulator: its loop).
#include <utility>

#include "nic/nic_impl.hpp"

namespace netvm::nic {

namespace {
constexpr std::size_t kMostAnswers = 32;  // that wait for each other
}  // namespace

void Nic::Impl::on_packet(NodeId from, std::span<const std::byte> bytes) noexcept {
  const Result<Packet> decoded = decode(from, bytes, {config.node, config.nodes, config.session, loses});
  if (!decoded) return count(decoded.status() == Status::stale_epoch ? dropped.stale : dropped.malformed);
  const Packet& packet = decoded.value();
  if (channels[from.value].dead.load()) return count(dropped.from_dead);
  hear(from, packet);
  if (packet.header.opcode == Opcode::ack) return on_ack(from, packet.header);
  on_sequenced(from, packet);
  if (loses) acknowledge(from);
}

// ---- the sequence -------------------------------------------------------------------------------------------------------------------------

void Nic::Impl::on_sequenced(NodeId from, const Packet& packet) {
  Inbound& channel = inbound[from.value];
  const std::uint32_t sequence = packet.header.sequence;
  const SequenceWindow::Place place = channel.window.place(sequence);
  if (place == SequenceWindow::Place::outside || (loses && !channels[from.value].acknowledger.within(sequence))) {
    return count(dropped.outside);
  }
  const bool fresh = place != SequenceWindow::Place::duplicate;
  if (fresh && takes_credit(packet.header.opcode) && !accept_credit(from)) return count(dropped.no_credit);
  if (loses) note_arrival(from, sequence);
  if (!fresh) {
    stats.add(Stat::duplicate_packets);
    return count(dropped.duplicate);
  }
  if (!takes_credit(packet.header.opcode)) {
    on_arrival(from, packet);
    channel.window.skip(sequence);
    if (place == SequenceWindow::Place::next) retire_held(from, channel);
    return;
  }
  HeldPacket arrived = arrive(packet);
  if (place == SequenceWindow::Place::early || !retire(from, channel, arrived, packet.payload)) {
    return keep(channel, std::move(arrived), packet);
  }
  advance(from, channel);
  retire_held(from, channel);
}

void Nic::Impl::keep(Inbound& channel, HeldPacket held, const Packet& packet) {
  if (!is_write(held.header.opcode)) held.payload.assign(packet.payload.begin(), packet.payload.end());
  channel.window.hold(std::move(held));
}

void Nic::Impl::retire_held(NodeId from, Inbound& channel) {
  while (HeldPacket* head = channel.window.head()) {
    if (!retire(from, channel, *head, head->payload)) return;
    advance(from, channel);
  }
}

void Nic::Impl::advance(NodeId from, Inbound& channel) {
  channel.window.advance();
  credit_returned(from);
}

void Nic::Impl::on_arrival(NodeId from, const Packet& packet) {
  if (is_answer(packet.header.opcode)) return on_answer(from, packet);
  if (!bank.take_back(from, packet.header.slots)) return count(dropped.no_credit);
  publish_limit(from);
  if (bank.has_news()) tell_news();
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
  if (driver.collects && !loses && request.bytes <= kPageSize) [[likely]] {  // behind long ones, others would wait for copies
    driver.answers.push_back(header);
    if (driver.answers.size() == kMostAnswers) send_answers();
    return;
  }
  Channel& channel = channels[request.source.value];
  const std::lock_guard guard(channel.lock);
  send_packet(channel, header, {});
}

void Nic::Impl::send_answers() {
  const std::size_t count = driver.answers.size();
  for (std::size_t i = 0; i < count; ++i) {
    PacketHeader& header = driver.answers[i];
    const bool last = i + 1 == count || driver.answers[i + 1].target != header.target;
    Channel& channel = channels[header.target.value];
    const std::lock_guard guard(channel.lock);
    send_packet(channel, header, {}, last ? Leaves::now : Leaves::soon);
  }
  driver.answers.clear();
}

void Nic::Impl::answer_data(const PacketHeader& request, std::span<const std::byte> data) {
  PacketHeader header = header_for(request.source, Opcode::data);
  header.request = request.request;
  header.bytes = static_cast<std::uint32_t>(data.size());
  Channel& channel = channels[request.source.value];
  const std::lock_guard guard(channel.lock);
  send_packet(channel, header, data);
}

}  // namespace netvm::nic
