// Nic: the initiator's side of the packet way. A work request becomes packets that end at pages of the target, consecutive in the channel's
// sequence.
#include <algorithm>
#include <array>
#include <cstring>
#include <mutex>
#include <vector>

#include "nic/nic_impl.hpp"

namespace netvm::nic {

namespace {

constexpr std::uint32_t kMostFragmentsAtOnce = 16;  // of a message, under the channel's lock

/// Segments as payloads of write_vector, each of at most `limit` bytes. A segment that does not fit the rest of one goes on in the next.
std::vector<std::vector<std::byte>> pack(std::span<const Segment> segments, std::size_t limit) {
  std::vector<std::vector<std::byte>> payloads;
  std::vector<VectorPiece> table;
  std::vector<std::byte> data;
  const auto flush = [&] {
    if (table.empty()) return;
    const std::array<std::uint32_t, 2> head{static_cast<std::uint32_t>(table.size()), 0};
    static_assert(sizeof head == kVectorHead);
    const std::size_t rows = table.size() * sizeof(VectorPiece);
    std::vector<std::byte>& payload = payloads.emplace_back(kVectorHead + rows + data.size());
    std::memcpy(payload.data(), head.data(), kVectorHead);
    std::memcpy(payload.data() + kVectorHead, table.data(), rows);
    if (!data.empty()) std::memcpy(payload.data() + kVectorHead + rows, data.data(), data.size());
    table.clear();
    data.clear();
  };
  for (const Segment& segment : segments) {
    std::uint32_t done = 0;
    do {  // an empty segment travels, too: the target judges it
      if (kVectorHead + (table.size() + 1) * sizeof(VectorPiece) + data.size() >= limit) flush();
      const std::size_t room = limit - kVectorHead - (table.size() + 1) * sizeof(VectorPiece) - data.size();
      const auto bytes = static_cast<std::uint32_t>(std::min<std::size_t>(segment.bytes - done, room));
      table.push_back({segment.offset + done, bytes, 0});
      if (bytes > 0) data.insert(data.end(), segment.data + done, segment.data + done + bytes);
      done += bytes;
    } while (done < segment.bytes);
  }
  flush();
  return payloads;
}

}  // namespace

PacketHeader Nic::Impl::header_for(NodeId target, Opcode opcode) {
  PacketHeader header;
  header.opcode = opcode;
  header.session = config.session;
  header.source = config.node;
  header.target = target;
  header.error_era = channels[target.value].error_era.load();
  return header;
}

bool Nic::Impl::send_request(Channel& channel, PacketHeader& header, std::span<const std::byte> payload,
                             const RequestTable::Request& request, Status* refused) {
  header.request = requests.issue(request, refused);
  if (header.request == 0) return false;
  send_packet(channel, header, payload);
  return true;
}

bool Nic::Impl::admits(const Channel& channel, Opcode opcode, std::uint32_t packets, WhenFull when_full, Status* refused) {
  if (when_full == WhenFull::queue || channel.transmitter.may_send(opcode, packets)) return true;
  *refused = Status::no_credit;
  return false;
}

void Nic::Impl::end_refused(RequestTable::Operation* operation, std::uint32_t count, Status status) {
  for (; count > 0; --count) requests.end_request(operation, status, 0, env);
}

void Nic::Impl::post_move(Opcode opcode, const Posting& posting, Completion* completion, WhenFull when_full) {
  const NodeId target = posting.region.node;
  const std::uint64_t first_page = posting.offset / kPageSize;
  const auto [pages, pages_each, packets] = cut(opcode, posting.offset, posting.bytes);
  if (posting.offset > posting.region.length || posting.bytes > posting.region.length - posting.offset || pages > UINT32_MAX) {
    if (opcode == Opcode::write) note_write_failure(channels[target.value], channels[target.value].error_era.load());
    if (posting.notify != NotifyFlag::none)
      post_notify({target, posting.counter}, posting.increment, nullptr);  // as an error, by the line above
    if (completion != nullptr) completion->finish(env, Status::range);
    return;
  }
  stats.add(Stat::one_sided_ops);
  stats.add(Stat::one_sided_bytes, posting.bytes);
  const auto pieces = static_cast<std::uint32_t>(packets);
  RequestTable::Operation* operation = requests.open(completion, pieces);
  Channel& channel = channels[target.value];
  PacketHeader header = header_for(target, opcode);
  header.region = posting.region.id;
  header.key = posting.region.key;
  Status refused = Status::ok;
  std::uint32_t sent = 0;
  // The answers to the first packets come while later ones leave: an engine woken for each would only wait for the channel's lock.
  const bool many = pieces > 1;
  if (many) fabric.announce_poll();
  {
    const std::lock_guard guard(channel.lock);
    std::uint64_t done = 0;
    for (const bool may = admits(channel, opcode, pieces, when_full, &refused); may && sent < pieces; ++sent) {
      const bool last = sent + 1 == pieces;
      const std::uint64_t pages_done = (sent + 1) * pages_each;
      const std::uint64_t end = last ? posting.offset + posting.bytes : (first_page + pages_done) * kPageSize;
      header.offset = posting.offset + done;
      header.bytes = static_cast<std::uint32_t>(end - header.offset);
      header.pieces_before = sent;
      header.pages_ahead = last ? 0 : static_cast<std::uint32_t>(pages - pages_done);
      if (last && posting.notify != NotifyFlag::none) {
        header.notify = posting.notify == NotifyFlag::ordered && channel.failed.load() ? NotifyFlag::ordered_failed : posting.notify;
        header.counter = posting.counter;
        header.increment = posting.increment;
      }
      RequestTable::Request request{operation, target, opcode, header.error_era, header.bytes, nullptr};
      std::span<const std::byte> payload;
      if (opcode == Opcode::read) {
        request.landing = posting.landing + done;
      } else {
        payload = {posting.source + done, header.bytes};
      }
      if (!send_request(channel, header, payload, request, &refused)) break;
      done += header.bytes;
    }
  }
  if (many) {
    fabric.withdraw_poll();
    if (fabric.pending()) fabric.pass_on();
  }
  end_refused(operation, pieces - sent, refused);
}

void Nic::Impl::post_vector(const RemoteRegion& to, std::span<const Segment> segments, Completion* completion, WhenFull when_full) {
  const std::vector<std::vector<std::byte>> payloads = pack(segments, max_payload());
  const auto count = static_cast<std::uint32_t>(payloads.size());
  if (count == 0) {
    if (completion != nullptr) completion->finish(env, Status::ok);
    return;
  }
  stats.add(Stat::one_sided_ops);
  Channel& channel = channels[to.node.value];
  PacketHeader header = header_for(to.node, Opcode::write_vector);
  header.region = to.id;
  header.key = to.key;
  RequestTable::Operation* operation = requests.open(completion, count);
  Status refused = Status::ok;
  std::uint32_t sent = 0;
  {
    const std::lock_guard guard(channel.lock);
    for (const bool may = admits(channel, Opcode::write_vector, count, when_full, &refused); may && sent < count; ++sent) {
      header.bytes = static_cast<std::uint32_t>(payloads[sent].size());
      header.pieces_before = sent;
      const RequestTable::Request request{operation, to.node, Opcode::write_vector, header.error_era, 0, nullptr};
      if (!send_request(channel, header, payloads[sent], request, &refused)) break;
      stats.add(Stat::one_sided_bytes, header.bytes);
    }
  }
  end_refused(operation, count - sent, refused);
}

void Nic::Impl::post_atomic(const RemoteRegion& on, std::uint64_t offset, const AtomicArgs& args, Completion* completion,
                            WhenFull when_full) {
  stats.add(Stat::one_sided_ops);
  stats.add(Stat::one_sided_bytes, sizeof(std::uint64_t));
  Channel& channel = channels[on.node.value];
  PacketHeader header = header_for(on.node, Opcode::atomic);
  header.region = on.id;
  header.key = on.key;
  header.offset = offset;
  header.code = static_cast<std::uint8_t>(args.op);
  header.atomic = args;
  RequestTable::Operation* operation = requests.open(completion, 1);
  Status refused = Status::ok;
  bool sent = false;
  {
    const std::lock_guard guard(channel.lock);
    sent = admits(channel, Opcode::atomic, 1, when_full, &refused) &&
           send_request(channel, header, {}, {operation, on.node, Opcode::atomic, header.error_era, 0, nullptr}, &refused);
  }
  if (!sent) end_refused(operation, 1, refused);
}

void Nic::Impl::post_notify(const RemoteCounter& counter, std::uint64_t increment, Completion* completion, WhenFull when_full) {
  Channel& channel = channels[counter.node.value];
  PacketHeader header = header_for(counter.node, Opcode::notify);
  header.counter = counter.id;
  header.increment = increment;
  RequestTable::Operation* operation = requests.open(completion, 1);
  Status refused = Status::ok;
  bool sent = false;
  {
    const std::lock_guard guard(channel.lock);
    header.notify = channel.failed.load() ? NotifyFlag::ordered_failed : NotifyFlag::ordered;
    sent = admits(channel, Opcode::notify, 1, when_full, &refused) &&
           send_request(channel, header, {}, {operation, counter.node, Opcode::notify, header.error_era, 0, nullptr}, &refused);
  }
  if (!sent) end_refused(operation, 1, refused);
}

void Nic::Impl::post_message(NodeId to, MessageKind kind, std::span<const std::byte> body) {
  Channel& channel = channels[to.value];
  if (channel.dead.load() || stopping.load()) return;
  PacketHeader header = header_for(to, Opcode::message);
  header.code = static_cast<std::uint8_t>(kind);
  header.total = body.size();
  const std::uint32_t packets = packets_of(body.size());
  stats.add(Stat::messages_sent, packets);
  stats.add(Stat::message_bytes, body.size());
  const bool of_sync = kind == MessageKind::sync_lock || kind == MessageKind::sync_wake || kind == MessageKind::sync_collective;
  stats.add(of_sync ? Stat::sync_bytes : Stat::protocol_bytes, body.size());
  if (packets <= kMostFragmentsAtOnce && send_fragments(channel, header, body, packets)) return;
  // It has to wait for credits, or it is long: a copy is cut while it leaves, and what others post to this target meanwhile queues behind.
  std::vector<std::byte> copy(body.begin(), body.end());
  {
    const std::lock_guard guard(channel.lock);
    if (channel.dead.load()) return;
    channel.transmitter.queue(header, std::move(copy), loses ? env.now() : 0);
  }
  pump(to);
}

bool Nic::Impl::send_fragments(Channel& channel, PacketHeader& header, std::span<const std::byte> body, std::uint32_t packets) {
  // All fragments under the lock: no other fragments come between them, so the receiver assembles one message a channel at a time.
  const std::lock_guard guard(channel.lock);
  if (!channel.transmitter.may_send(Opcode::message, packets)) return false;
  for (; packets > 0; --packets) {
    const std::span<const std::byte> fragment =
        body.subspan(header.offset, std::min<std::size_t>(max_payload(), body.size() - header.offset));
    header.bytes = static_cast<std::uint32_t>(fragment.size());
    send_packet(channel, header, fragment);
    header.offset += fragment.size();
  }
  return true;
}

void Nic::Impl::post_local(MessageKind kind, std::span<const std::byte> body) {
  {
    const std::lock_guard guard(local_lock);
    local_messages.push_back({kind, {body.begin(), body.end()}});
    local_count.store(local_messages.size());
  }
  // Whoever waits next delivers it. For the case that nobody does: the engine, or, in a world without one, an event of its own.
  if (has_engine.load()) {
    engine_word.announce(env);
  } else {
    env.at(env.now(), [this] { drive(); });
  }
}

}  // namespace netvm::nic
