// Nic: packets on their way out: credits, acknowledgements, timers. What they decide is in Transmitter, Acknowledger and CreditBank; here
// is what it does to the world.
//
// A fabric that loses nothing needs no acknowledgement and no timer: there a packet costs the look at its credit, and a limit that has
// grown, told with whatever goes back, costs its reader the channel's lock once in a while.
// Threads: any; the bank is the driver's.
#include <algorithm>
#include <mutex>
#include <utility>

#include "nic/nic_impl.hpp"

namespace netvm::nic {

namespace {
constexpr int kBurst = 32;  // packets that leave under the lock of a channel before somebody else may have it
}

// ---- sending ------------------------------------------------------------------------------------------------------------------------------

void Nic::Impl::put_on_wire(Channel& channel, PacketHeader& header, std::span<const std::byte> payload, Leaves leaves) {
  header.credits = channel.own_limit.load(std::memory_order_relaxed);       // relaxed: any value that was published is a right one
  channel.own_limit_told.store(header.credits, std::memory_order_relaxed);  // relaxed: a hint; an older one makes one ack more
  std::array<std::byte, kMaxHeader> bytes;
  if (!loses) [[likely]] {
    const std::span<const std::byte> encoded(bytes.data(), encode(header, bytes));
    return leaves == Leaves::now ? fabric.send(header.target, encoded, payload) : fabric.send_soon(header.target, encoded, payload);
  }
  header.acknowledged = channel.acknowledger.acknowledged();
  const std::size_t length = encode(header, bytes, payload);
  channel.acknowledger.reported(header.opcode == Opcode::ack);
  fabric.send(header.target, {bytes.data(), length}, payload);
}

void Nic::Impl::send_packet(Channel& channel, PacketHeader& header, std::span<const std::byte> payload, Leaves leaves) {
  if (channel.dead.load(std::memory_order_relaxed)) return;  // relaxed: set before the lock was taken to clear what is kept
  const Nanos now = loses ? env.now() : 0;
  if (channel.transmitter.may_send(header.opcode)) [[likely]] {
    channel.transmitter.number(header, payload, now);
    put_on_wire(channel, header, payload, leaves);
  } else {
    channel.transmitter.queue(header, {payload.begin(), payload.end()}, now);
    watch_credits(channel);
  }
  if (loses) arm(channel, header.target);
}

void Nic::Impl::send_ack(Channel& channel, NodeId to, AckCode code, std::uint32_t wanted_back) {
  PacketHeader header = header_for(to, Opcode::ack);
  header.code = static_cast<std::uint8_t>(code);
  header.slots = wanted_back;
  std::array<std::byte, kMaxAckBitmap> bitmap;
  header.bytes = loses ? static_cast<std::uint32_t>(channel.acknowledger.bitmap(bitmap)) : 0;
  put_on_wire(channel, header, {bitmap.data(), header.bytes});
}

int Nic::Impl::send_burst(Channel& channel) {
  const Nanos now = loses ? env.now() : 0;
  const std::uint64_t again = channel.transmitter.retransmitted();
  Transmitter::View packet;
  int sent = 0;
  while (sent < kBurst && channel.transmitter.next(now, &packet)) {
    put_on_wire(channel, *packet.header, packet.payload);
    ++sent;
  }
  if (const std::uint64_t more = channel.transmitter.retransmitted() - again; more != 0) stats.add(Stat::retransmissions, more);
  watch_credits(channel);
  return sent;
}

void Nic::Impl::watch_credits(Channel& channel) {
  const bool stalled = channel.transmitter.starved();
  if (stalled == (channel.stalled_since >= 0)) [[likely]]
    return;
  const Nanos now = env.now();
  if (stalled) {
    stats.add(Stat::credit_stalls);
  } else {
    stats.add(Stat::credit_stall_ns, static_cast<std::uint64_t>(now - channel.stalled_since));
  }
  channel.stalled_since = stalled ? now : -1;
}

void Nic::Impl::pump(NodeId to) {
  Channel& channel = channels[to.value];
  for (int sent = kBurst; sent == kBurst;) {
    const std::lock_guard guard(channel.lock);
    sent = send_burst(channel);
    if (loses) arm(channel, to);
  }
}

// ---- hearing ------------------------------------------------------------------------------------------------------------------------------

void Nic::Impl::hear(NodeId from, const Packet& packet) {
  Channel& channel = channels[from.value];
  const PacketHeader& header = packet.header;
  Inbound& source = inbound[from.value];
  if (!loses) {
    if (header.credits == source.credits_heard) [[likely]]
      return;
    source.credits_heard = header.credits;
    {
      const std::lock_guard guard(channel.lock);
      channel.transmitter.on_credits(header.credits);
      if (channel.transmitter.waiting() == 0) return;
    }
    return pump(from);
  }
  const Nanos now = env.now();
  int sent = 0;
  {
    const std::lock_guard guard(channel.lock);
    channel.transmitter.on_heard(now);
    channel.transmitter.on_credits(header.credits);
    const bool ack = header.opcode == Opcode::ack;
    channel.transmitter.on_acknowledged(header.acknowledged, ack ? packet.payload : std::span<const std::byte>{}, now);
    sent = send_burst(channel);
    arm(channel, from);
  }
  if (sent == kBurst) pump(from);
  if (lingering.load()) flushed.announce(env);
}

void Nic::Impl::on_ack(NodeId from, const PacketHeader& header) {
  Channel& channel = channels[from.value];
  const std::lock_guard guard(channel.lock);
  if (header.code == static_cast<std::uint8_t>(AckCode::answer_me)) send_ack(channel, from, AckCode::none, 0);
  if (header.slots == 0) return;
  const std::uint32_t given = channel.transmitter.give_back(header.slots);
  if (given == 0) return;
  PacketHeader answer = header_for(from, Opcode::give_back);
  answer.slots = given;
  send_packet(channel, answer, {});
}

void Nic::Impl::note_arrival(NodeId from, std::uint32_t sequence) {
  Channel& channel = channels[from.value];
  const std::lock_guard guard(channel.lock);
  channel.acknowledger.note(sequence, env.now());
}

void Nic::Impl::acknowledge(NodeId from) {
  Channel& channel = channels[from.value];
  const std::lock_guard guard(channel.lock);
  if (channel.acknowledger.deadline() <= env.now()) send_ack(channel, from, AckCode::none, 0);
  arm(channel, from);
}

// ---- credits of the peers -------------------------------------------------------------------------------------------------------------------

bool Nic::Impl::accept_credit(NodeId from) {
  if (!bank.accept(from)) return false;
  publish_limit(from);
  return true;
}

void Nic::Impl::credit_returned(NodeId from) {
  bank.release(from);
  publish_limit(from);
  if (bank.has_news()) [[unlikely]]
    tell_news();
}

void Nic::Impl::publish_limit(NodeId peer) {
  Channel& channel = channels[peer.value];
  const std::uint32_t limit = bank.limit(peer);
  // relaxed, both: the limit orders nothing, and who has told an older one causes one ack more
  if (channel.own_limit.load(std::memory_order_relaxed) != limit) channel.own_limit.store(limit, std::memory_order_relaxed);
  const std::uint32_t told = channel.own_limit_told.load(std::memory_order_relaxed);  // relaxed: see above
  if (told == limit || bank.unspent(peer, told) > bank.holds(peer) / 2) [[likely]]
    return;
  // It may be about to stop, and nothing else may go back.
  const std::lock_guard guard(channel.lock);
  send_ack(channel, peer, AckCode::none, 0);
}

void Nic::Impl::tell_news() {
  NodeId peer;
  while (bank.next_news(&peer)) {
    Channel& channel = channels[peer.value];
    channel.own_limit.store(bank.limit(peer), std::memory_order_relaxed);  // relaxed: the limit orders nothing
    const std::lock_guard guard(channel.lock);
    send_ack(channel, peer, AckCode::none, bank.wanted_back(peer));
  }
}

// ---- time ---------------------------------------------------------------------------------------------------------------------------------

void Nic::Impl::arm(Channel& channel, NodeId peer) {
  const Nanos when = std::min(channel.transmitter.deadline(), channel.acknowledger.deadline());
  if (when >= channel.timer) return;
  channel.timer = when;
  env.at(when, [line = lifeline, peer] {
    if (line->nic != nullptr) line->nic->on_timer(peer);
  });
}

void Nic::Impl::on_timer(NodeId peer) {
  Channel& channel = channels[peer.value];
  if (stopping.load()) return;
  const Nanos now = env.now();
  Transmitter::Alarm alarm = Transmitter::Alarm::none;
  int sent = 0;
  {
    const std::lock_guard guard(channel.lock);
    if (channel.timer > now || channel.dead.load()) return;  // a later timer than the one that is due is left alone
    channel.timer = kForever;
    alarm = channel.transmitter.on_time(now, env.random());
    if (alarm != Transmitter::Alarm::dead) {
      sent = send_burst(channel);
      if (alarm == Transmitter::Alarm::probe) {
        send_ack(channel, peer, AckCode::answer_me, 0);
      } else if (channel.acknowledger.deadline() <= now) {
        send_ack(channel, peer, AckCode::none, 0);
      }
      arm(channel, peer);
    }
  }
  if (sent == kBurst) pump(peer);
  if (alarm == Transmitter::Alarm::dead) end_channel(peer, Status::timeout);
}

void Nic::Impl::end_channel(NodeId peer, Status why) {
  Channel& channel = channels[peer.value];
  Status open = Status::ok;
  if (!channel.ended_with.compare_exchange_strong(open, why)) return;
  channel.dead.store(true);
  close_direct_way(peer);
  {
    const std::lock_guard guard(channel.lock);
    channel.transmitter.clear();
    watch_credits(channel);
  }
  flushed.announce(env);
  peer_died.store(true);
  deaths.store(true);
  requests.end_all(peer, why, env);
  device.counters().increment_all_errors(env);
  if (why != Status::peer_dead && peer_lost) peer_lost(peer);
}

// ---- the end ------------------------------------------------------------------------------------------------------------------------------

bool Nic::Impl::all_flushed() {
  for (std::uint32_t node = 0; node < config.nodes; ++node) {
    Channel& channel = channels[node];
    if (channel.dead.load()) continue;
    const std::lock_guard guard(channel.lock);
    if (!channel.transmitter.idle()) return false;
  }
  return true;
}

void Nic::Impl::linger() {
  if (!loses || stopping.load() || !env.can_park()) return;
  lingering.store(true);  // before the first look: hear() announces from now on
  const Nanos deadline = env.now() + config.reliability.peer_timeout;
  while (!stopping.load() && env.now() < deadline) {
    const std::uint32_t ticket = flushed.prepare();
    const bool over = all_flushed();
    if (!over && !drive()) park(flushed.on(ticket), deadline);
    flushed.finish();
    if (over) break;
  }
  lingering.store(false);
  // What has come is acknowledged now: the timer that would do it stops with this NIC.
  for (std::uint32_t node = 0; node < config.nodes; ++node) {
    Channel& channel = channels[node];
    const std::lock_guard guard(channel.lock);
    if (!channel.dead.load() && channel.acknowledger.deadline() != kForever) send_ack(channel, NodeId{node}, AckCode::none, 0);
  }
}

void Nic::Impl::close_accounts() {
  if (!deaths.load(std::memory_order_relaxed) || !deaths.exchange(false)) return;  // relaxed: a missed one is seen by the next drive()
  for (std::uint32_t node = 0; node < config.nodes; ++node) {
    if (channels[node].dead.load()) bank.close(NodeId{node});
  }
  tell_news();
}

}  // namespace netvm::nic
