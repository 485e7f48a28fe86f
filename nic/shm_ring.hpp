// Shared-memory ring: variable-size records from one process to another, through plain memory that both map.
//
// Area: one line written by the producer (tail), one by the consumer (head, state), one that both write rarely (producer waits), then a
// power of two of bytes. Positions count bytes since the start and never wrap (64 bit). A record is an 8-byte header and its bytes,
// padded to 8 and contiguous: one that does not fit before the end of the area is preceded by a skip record.
//
// Invariants
//  1. head <= tail <= head + capacity. Each side keeps its own position privately and never reads it back from shared memory.
//  2. A record is whole before tail passes it (which may be some records later: Commit::later); its space is free before head passes it. One word commits: a process killed at any
//     instruction leaves a valid ring.
//  3. What comes from the other side (its position, lengths) is read once into a local and validated. Anything impossible marks the ring
//     broken, for good: the consumer delivers nothing more of it, the producer drops what it is given. Nothing crashes.
//  4. The area is all zeros at the start.
//  5. A producer that waits says which head it has seen, and only a later one ends its wait: a consumer that publishes a head, and then finds that a producer
//     waits which has just seen this very head, would else tell it nothing new and never tell it again.
//  6. head may lag behind what the consumer has taken, by less than a quarter of the ring: one line and one fence less for each look (RingConsumer::due()).
// Threads: one thread at a time uses a producer, one a consumer (ShmFabric serialises them).
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>

#include "runtime/ids.hpp"

namespace netvm::nic {

inline constexpr std::size_t kDefaultRingCapacity = std::size_t{128} << 10;

/// What lies at the start of a ring's area.
struct ShmRingHeader {
  alignas(kCacheLine) std::atomic<std::uint64_t> tail;  ///< written by the producer
  alignas(kCacheLine) std::atomic<std::uint64_t> head;  ///< written by the consumer
  std::atomic<std::uint32_t> broken;                    ///< written by the consumer: it delivers nothing more
  /// Set by the producer that found no room: the head that it knows, plus 1. Cleared, to 0, by the consumer that has come further.
  alignas(kCacheLine) std::atomic<std::uint64_t> producer_waits;
};
static_assert(sizeof(ShmRingHeader) == 3 * kCacheLine);

namespace shm_ring {
/// Bytes of memory for a ring of `capacity` (a power of two, at least 4 KiB).
[[nodiscard]] constexpr std::size_t area_bytes(std::size_t capacity) { return sizeof(ShmRingHeader) + capacity; }
/// Default for DeviceConfig::ring_bytes.
inline constexpr std::size_t kDefaultAreaBytes = area_bytes(kDefaultRingCapacity);
/// Largest power of two that fits an area.
[[nodiscard]] std::size_t capacity_of(std::size_t area_bytes);
/// Largest record. A quarter of the ring: several fit, and one always fits an empty ring wherever it begins.
[[nodiscard]] constexpr std::size_t max_record(std::size_t capacity) { return capacity / 4 - sizeof(std::uint64_t); }
}  // namespace shm_ring

class RingProducer {
 public:
  enum class Push : std::uint8_t { done, full, broken };
  enum class Commit : std::uint8_t { now, later };

  RingProducer() = default;
  /// `area` is 64-byte aligned, `area_bytes` long, and zero or just left by an earlier producer of this process.
  RingProducer(std::byte* area, std::size_t area_bytes);

  /// Copies a record in, gathered from two pieces of at most max_record() together, not empty. The second one, a packet's payload, may be
  /// memory that others write meanwhile: then it arrives as any mixture. `later`: the consumer sees it with the next push() that is not, with
  /// commit(), or when a push() finds no room.
  Push push(std::span<const std::byte> first, std::span<const std::byte> second, Commit commit = Commit::now);
  void commit();
  /// How far the consumer has come, as the last push() saw it: whether it is at work.
  [[nodiscard]] std::uint64_t consumed() const { return cached_head_; }
  /// Whether it has come further since then, or has given up. Any thread.
  [[nodiscard]] bool moved_since(std::uint64_t consumed) const {
    // seq_cst: a sleeper's look after it has announced itself; partner: the fence in Doorbell::ring()
    return shared_->head.load(std::memory_order_seq_cst) != consumed || shared_->broken.load(std::memory_order_seq_cst) != 0;
  }
  /// After `full`: asks the consumer to say when there is room, and looks once more. False: there is room already, push again.
  bool wait_for_room();

 private:
  [[nodiscard]] bool room_for(std::uint64_t bytes);

  ShmRingHeader* shared_ = nullptr;
  std::byte* data_ = nullptr;
  std::uint64_t capacity_ = 0;
  std::uint64_t tail_ = 0;
  std::uint64_t committed_ = 0;
  std::uint64_t cached_head_ = 0;
  bool broken_ = false;
};

class RingConsumer {
 public:
  RingConsumer() = default;
  /// Begins at what has been published: an area has one consumer in its life, or one that publishes when it goes.
  RingConsumer(std::byte* area, std::size_t area_bytes);

  /// The oldest record, in place (valid until pop()), or an empty span if there is none.
  [[nodiscard]] std::span<const std::byte> front();
  /// Drops the record that front() returned. Its space goes back to the producer with the next publish().
  void pop();
  /// Whether so much has been dropped that it must be published now. Less may wait for ever: a producer that finds no room has more than that before the
  /// consumer yet (a record and a skip take half of the ring at most, and what is not published less than a quarter), so it is told later.
  [[nodiscard]] bool due() const { return head_ - published_head_ >= capacity_ / 4; }
  /// Gives the space of popped records back. Returns whether the producer waits for it (it must then be rung).
  [[nodiscard]] bool publish();
  [[nodiscard]] bool broken() const { return broken_; }
  /// Up to the end of the record that front() has returned.
  [[nodiscard]] std::uint64_t position() const { return head_ + front_bytes_; }
  /// Whether anything lies behind that position. Any thread.
  [[nodiscard]] bool has_beyond(std::uint64_t position) const {
    // seq_cst: a sleeper's look after it has announced itself; partner: the fence in Doorbell::ring()
    return shared_->tail.load(std::memory_order_seq_cst) != position;
  }

 private:
  std::span<const std::byte> fail();

  ShmRingHeader* shared_ = nullptr;
  const std::byte* data_ = nullptr;
  std::uint64_t capacity_ = 0;
  std::uint64_t head_ = 0;
  std::uint64_t published_head_ = 0;
  std::uint64_t cached_tail_ = 0;
  std::uint64_t front_bytes_ = 0;  // of the record that front() returned, header and padding included
  bool broken_ = false;
};

}  // namespace netvm::nic
