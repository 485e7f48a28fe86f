#include "nic/shm_fabric.hpp"

#include <algorithm>
#include <bit>
#include <mutex>
#include <utility>

#include "nic/device.hpp"
#include "nic/racy_copy.hpp"
#include "runtime/check.hpp"
#include "runtime/cpu.hpp"

namespace netvm::nic {

namespace {
constexpr std::uint32_t kPollBudget = 256;  // packets a poll() delivers at most
constexpr std::uint32_t kBurst = 32;        // of one source before the next one's turn
constexpr int kPatience = 256;  // pauses without any progress of the consumer, until a packet is queued: about a microsecond or a few
constexpr int kHelp = 8;        // queued packets for whose room a send() waits before its own
constexpr std::uint32_t kSilent = 1024;            // looks at a watched ring without anything, until its place may be another's
constexpr std::uint64_t kClosed = UINT64_MAX;      // of taken_: nothing more is delivered
constexpr std::uint64_t kNotBlocked = UINT64_MAX;  // of Outbound::blocked_at

std::uint64_t bit_of(std::uint32_t node) { return std::uint64_t{1} << (node % 64); }
}  // namespace

// The sending side of one ring. The lock serialises this process's threads; nothing blocks under it.
struct ShmFabric::Outbound {
  SpinLock lock;
  RingProducer ring;
  std::deque<std::vector<std::byte>> queue;            // packets that found no room, oldest first
  std::uint64_t stuck_at = UINT64_MAX;                 // how far the consumer had come when somebody lost patience with it
  bool keeps_back = false;                             // records are not committed
  std::atomic<std::uint64_t> blocked_at{kNotBlocked};  // how far the consumer had come when a packet found no room; while any is queued

  /// The queue is empty, and nobody asks for room.
  void unblock() {
    // relaxed: changed under the lock only
    if (blocked_at.load(std::memory_order_relaxed) != kNotBlocked) blocked_at.store(kNotBlocked);
  }
};

ShmFabric::ShmFabric(NodeId node, std::uint32_t nodes, Env& env, std::vector<Device*> devices)
    : node_(node),
      nodes_(nodes),
      env_(env),
      devices_(std::move(devices)),
      bell_(devices_.at(node.value)->header().doorbell),
      outbound_(new Outbound[nodes]) {
  NETVM_CHECK(nodes >= 1 && nodes <= Doorbell::kMaxNodes && devices_.size() == nodes,
              "%u nodes with %zu devices; the shared-memory fabric takes 1 to %u", nodes, devices_.size(), Doorbell::kMaxNodes);
  max_packet_ = SIZE_MAX;
  inbound_.reserve(nodes);
  taken_.reset(new std::atomic<std::uint64_t>[nodes]);
  for (std::uint32_t i = 0; i < nodes; ++i) {
    const std::span<std::byte> to_peer = devices_[i]->inbound(node);
    const std::span<std::byte> from_peer = devices_[node.value]->inbound(NodeId{i});
    outbound_[i].ring = RingProducer(to_peer.data(), to_peer.size());
    inbound_.emplace_back(from_peer.data(), from_peer.size());
    taken_[i].store(inbound_.back().position());
    max_packet_ = std::min(max_packet_, shm_ring::max_record(shm_ring::capacity_of(to_peer.size())));
  }
  NETVM_CHECK(max_packet_ >= 1024 + kPageSize, "rings so small that a packet is at most %zu bytes; it must hold a page and 1 KiB",
              max_packet_);
}

ShmFabric::~ShmFabric() = default;

void ShmFabric::count_dropped(std::uint64_t packets) {
  dropped_packets_.fetch_add(packets, std::memory_order_relaxed);  // relaxed: a statistic
}

RingProducer::Push ShmFabric::try_push(Outbound& out, std::span<const std::byte> header, std::span<const std::byte> payload) {
  for (;;) {
    const RingProducer::Push result = out.ring.push(header, payload);
    if (result != RingProducer::Push::full) return result;
    out.blocked_at.store(out.ring.consumed());  // before room is asked for: who is rung for it looks at this first
    if (out.ring.wait_for_room()) return result;
  }
}

// A consumer that is at work makes room in less time than it takes to copy the packet to the queue, and from there to the ring later.
RingProducer::Push ShmFabric::push_or_wait(Outbound& out, std::span<const std::byte> header, std::span<const std::byte> payload) {
  std::uint64_t seen = out.ring.consumed();
  for (int pauses = 0; pauses < kPatience; ++pauses) {
    const RingProducer::Push result = out.ring.push(header, payload);
    if (result != RingProducer::Push::full) return result;
    const std::uint64_t consumed = out.ring.consumed();
    if (consumed == out.stuck_at) return try_push(out, header, payload);  // it still does not move
    if (consumed != seen) pauses = 0;
    seen = consumed;
    cpu_pause();
  }
  out.stuck_at = seen;
  return try_push(out, header, payload);
}

// The queued packets, oldest first, as far as there is room: what stays has asked for more. For each of the first `patient` ones it waits a moment. Returns how many
// are queued no more.
std::size_t ShmFabric::push_some(Outbound& out, std::size_t patient) {
  std::size_t pushed = 0;
  for (; !out.queue.empty(); ++pushed) {
    const auto result = pushed < patient ? push_or_wait(out, out.queue.front(), {}) : try_push(out, out.queue.front(), {});
    if (result == RingProducer::Push::full) break;
    if (result == RingProducer::Push::broken) {
      pushed += out.queue.size();
      count_dropped(out.queue.size());
      out.queue.clear();
      break;
    }
    out.queue.pop_front();
  }
  if (out.queue.empty()) out.unblock();
  queued_packets_.fetch_sub(pushed, std::memory_order_relaxed);  // relaxed: a statistic
  return pushed;
}

void ShmFabric::hand_over(NodeId to, std::span<const std::byte> header, std::span<const std::byte> payload, bool soon) {
  NETVM_CHECK(to.value < nodes_, "a packet to node %u of %u", to.value, nodes_);
  NETVM_CHECK(header.size() + payload.size() <= max_packet_, "a packet of %zu bytes; this fabric takes %zu", header.size() + payload.size(),
              max_packet_);
  Doorbell& bell = devices_[to.value]->header().doorbell;
  __builtin_prefetch(&bell);  // comes while the packet is written
  Outbound& out = outbound_[to.value];
  bool visible = false;  // something that was not
  {
    const std::lock_guard guard(out.lock);
    if (soon && out.queue.empty() && out.ring.push(header, payload, RingProducer::Commit::later) == RingProducer::Push::done) {
      out.keeps_back = true;
      return;
    }
    visible = std::exchange(out.keeps_back, false);  // the next push() commits it, also where it finds no room
    // A queue must not feed on itself: as long as the consumer takes anything, who sends more first makes it shorter.
    if (!out.queue.empty()) [[unlikely]]
      visible = push_some(out, kHelp) != 0 || visible;
    const auto result = out.queue.empty() ? push_or_wait(out, header, payload) : RingProducer::Push::full;
    if (result == RingProducer::Push::broken) {
      count_dropped(1);
      return;
    }
    if (result != RingProducer::Push::full) {
      out.unblock();
    } else {
      std::vector<std::byte>& packet = out.queue.emplace_back();
      packet.resize(header.size() + payload.size());
      std::copy(header.begin(), header.end(), packet.begin());
      if (!payload.empty()) racy_copy(packet.data() + header.size(), payload.data(), payload.size());  // as RingProducer::push()
      queued_packets_.fetch_add(1, std::memory_order_relaxed);                                         // relaxed: a statistic
      if (!visible) return;
    }
  }
  bell.ring(node_, env_);
}

void ShmFabric::push_queued(std::uint32_t target) {
  Outbound& out = outbound_[target];
  if (out.blocked_at.load() == kNotBlocked) return;  // partner: try_push(), which says so before it asks for room
  std::size_t pushed = 0;
  {
    const std::lock_guard guard(out.lock);
    pushed = push_some(out, 0);
  }
  if (pushed == 0) return;
  devices_[target]->header().doorbell.ring(node_, env_);
}

void ShmFabric::close_inbound(std::uint32_t source) {
  broken_channels_.fetch_add(1, std::memory_order_relaxed);  // relaxed: a statistic
  devices_[source]->header().doorbell.ring(node_, env_);     // its queued packets must not wait for room for ever
}

std::uint32_t ShmFabric::drain(std::uint32_t source, std::uint32_t budget, bool* left) {
  RingConsumer& ring = inbound_[source];
  if (ring.broken()) return budget;
  *left = false;
  for (std::uint32_t turn = std::min(kBurst, budget);; --turn, --budget) {
    const std::span<const std::byte> packet = ring.front();
    if (packet.empty()) break;
    if (turn == 0) {
      *left = true;
      break;
    }
    taken_[source].store(ring.position(), std::memory_order_relaxed);  // relaxed: who misses it looks once too often
    sink_->on_packet(NodeId{source}, packet);
    ring.pop();
    if (ring.due() && ring.publish()) devices_[source]->header().doorbell.ring(node_, env_);
  }
  if (ring.broken()) {
    taken_[source].store(kClosed);
    close_inbound(source);
  }
  return budget;
}

// ---- the bell -------------------------------------------------------------------------------------------------------------------------------

bool ShmFabric::has_news(std::uint32_t source) const {
  const std::uint64_t taken = taken_[source].load(std::memory_order_relaxed);  // relaxed: an older one makes one look more
  if (taken != kClosed && inbound_[source].has_beyond(taken)) return true;
  const Outbound& out = outbound_[source];
  const std::uint64_t blocked = out.blocked_at.load();
  return blocked != kNotBlocked && out.ring.moved_since(blocked);
}

bool ShmFabric::watch(std::uint32_t source) {
  for (Watched& place : watched_) {
    const std::uint32_t silent = place.source.load(std::memory_order_relaxed);  // relaxed: the driver's own
    if (silent != kNobody && place.silent < kSilent) continue;
    if (silent != kNobody) {
      // As with any bit that is taken: cleared first, looked at afterwards.
      watched_bits_[silent / 64].fetch_and(~bit_of(silent));
      bell_.clear(silent / 64, bit_of(silent));
      left_over_[silent / 64].fetch_or(bit_of(silent));
    }
    place.silent = 0;
    place.source.store(source);
    watched_bits_[source / 64].fetch_or(bit_of(source));
    return true;
  }
  return false;
}

std::uint64_t ShmFabric::take_bits(std::uint32_t word) {
  const std::uint64_t watched = watched_bits_[word].load(std::memory_order_relaxed);  // relaxed: the driver's own
  const std::uint64_t bits = bell_.look(word) & ~watched;
  if (bits == 0) return 0;
  std::uint64_t clear = bits;
  for (std::uint64_t turn = bits; turn != 0; turn &= turn - 1) {
    const std::uint32_t source = word * 64 + static_cast<std::uint32_t>(std::countr_zero(turn));
    if (source >= nodes_ || !watch(source)) continue;
    clear &= ~bit_of(source);
  }
  if (clear != 0) bell_.clear(word, clear);
  return bits;
}

bool ShmFabric::poll() {
  if (sink_ == nullptr) return false;
  std::array<std::uint64_t, Doorbell::kWords> bits{};
  const std::uint32_t words = (nodes_ + 63) / 64;
  bool found = false;
  for (std::uint32_t w = 0; w < words; ++w) {
    bits[w] = take_bits(w);
    // relaxed: only poll() writes it, and a sleeper that misses it is woken by the wake_one() below
    if (left_over_[w].load(std::memory_order_relaxed) != 0) bits[w] |= left_over_[w].exchange(0, std::memory_order_relaxed);
    found |= bits[w] != 0;
  }
  for (Watched& place : watched_) {
    const std::uint32_t source = place.source.load(std::memory_order_relaxed);  // relaxed: the driver's own
    if (source == kNobody) continue;
    if (!has_news(source)) {
      ++place.silent;
      continue;
    }
    place.silent = 0;
    bits[source / 64] |= bit_of(source);
    found = true;
  }
  if (!found) return false;
  // Senders have just read the bell. A wait that ends with what has come changes it (withdraw_poll()): fetched while that is decoded and handled.
  prefetch_for_write(&bell_);

  std::uint32_t budget = kPollBudget;
  bool more = true;
  for (bool first_round = true; more && budget != 0; first_round = false) {
    more = false;
    for (std::uint32_t w = 0; w <= words; ++w) {  // begins and ends in the word of next_source_: its high bits first, its low bits last
      const std::uint32_t index = (next_source_ / 64 + w) % words;
      const std::uint64_t high = ~std::uint64_t{0} << (next_source_ % 64);
      std::uint64_t turn = bits[index] & (w == 0 ? high : w == words ? ~high : ~std::uint64_t{0});
      for (; turn != 0; turn &= turn - 1) {
        const auto bit = static_cast<std::uint32_t>(std::countr_zero(turn));
        const std::uint32_t source = index * 64 + bit;
        if (source >= nodes_) continue;  // a peer's stray bit
        if (first_round) push_queued(source);
        bool left = budget == 0;
        if (budget != 0) budget = drain(source, budget, &left);
        if (!left) bits[index] &= ~(std::uint64_t{1} << bit);
        more |= left;
      }
    }
  }
  next_source_ = (next_source_ + 1) % nodes_;
  if (more) {
    for (std::uint32_t w = 0; w < words; ++w) left_over_[w].fetch_or(bits[w]);
    bell_.wake_one(env_);
  }
  return true;
}

bool ShmFabric::pending() const {
  // seq_cst, all: second half of a sleeper's announce-then-look
  for (const Watched& place : watched_) {
    const std::uint32_t source = place.source.load();
    if (source != kNobody && has_news(source)) return true;
  }
  std::uint64_t bits = 0;
  for (std::uint32_t w = 0; w <= (nodes_ - 1) / 64; ++w) {
    bits |= (bell_.sources[w].load() & ~watched_bits_[w].load()) | left_over_[w].load();
  }
  return bits != 0;
}

SleepWord& ShmFabric::sleep_word(Sleeper who) { return who == Sleeper::application ? bell_.application : bell_.engine; }

ParkOn ShmFabric::announce_sleep(Sleeper who) {
  SleepWord& word = sleep_word(who);
  word.sleepers.fetch_add(1, std::memory_order_seq_cst);  // before the caller's look at pending(); partner: Doorbell::ring()
  return {&word.sequence, word.sequence.load(std::memory_order_seq_cst)};
}

void ShmFabric::withdraw_sleep(Sleeper who) { sleep_word(who).sleepers.fetch_sub(1, std::memory_order_seq_cst); }

}  // namespace netvm::nic
