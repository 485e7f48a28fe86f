// Floors: what the bare machine does, without NetVM. Measured in the same run, in turns with what they are compared to.
#pragma once

#include <sched.h>
#include <sys/types.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "nic/shm_ring.hpp"

namespace netvm::perf {

/// A second process on this machine that shares some memory with this one: the partner of bare hand-overs. Forked before the
/// job starts (one thread then) and asleep except during a measurement.
class FloorPartner {
 public:
  /// `largest`: bytes of the largest hand-over or record.
  explicit FloorPartner(std::size_t largest = 64);
  ~FloorPartner();
  FloorPartner(const FloorPartner&) = delete;
  FloorPartner& operator=(const FloorPartner&) = delete;

  /// Nanoseconds of one hand-over of a cache line between two spinning processes (half a round trip).
  double flag_hand_over_ns(int rounds) { return hand_over_ns(8, rounds); }
  /// The same with `bytes` (a multiple of 8): a memcpy into shared memory, then its last word as the flag.
  double hand_over_ns(std::size_t bytes, int rounds, std::vector<double>* each = nullptr);
  /// Nanoseconds of one hand-over between two processes that sleep on a futex (half a round trip).
  double futex_hand_over_ns(int rounds);
  /// Nanoseconds to store 8 bytes and raise a flag that the partner sees, one way, both spinning. The bare form of a put that is noticed.
  double store_ns(int stores);
  /// Nanoseconds for `bytes` through a bare shm ring to the partner, which copies them out and answers alike (half a round trip).
  double ring_one_way_ns(std::size_t bytes, int rounds);
  /// Nanoseconds a message of a stream of them through the bare ring, until the partner has copied out the last.
  double ring_stream_ns(std::size_t bytes, int messages);

 private:
  enum class Task : std::uint32_t { idle, end, hand_over, futex, ring_echo, ring_drain };
  struct Shared;
  /// A scheduler may wake the partner where this thread is about to spin, and leave it there: keeps it off this thread's processor.
  void keep_apart() const;
  void serve();
  void serve_hand_over();
  void serve_futex();
  void serve_ring(bool echo);
  void start(Task task, std::uint64_t bytes, std::uint64_t rounds);
  void finish();
  void push(std::size_t bytes);
  void take(std::size_t bytes);

  std::size_t largest_;
  std::size_t mapped_;
  Shared* shared_;
  std::byte* there_;  // towards the partner
  std::byte* back_;
  std::byte* rings_;
  std::vector<std::byte> private_;  // this process's source and landing
  nic::RingProducer out_;
  nic::RingConsumer in_;
  pid_t partner_ = -1;
  cpu_set_t allowed_;  // processors of this process, when it was made
};

/// Shared memory of this process alone (a mapped memfd, touched), to store and copy to.
class SharedBuffer {
 public:
  explicit SharedBuffer(std::size_t bytes);
  ~SharedBuffer();
  SharedBuffer(const SharedBuffer&) = delete;
  SharedBuffer& operator=(const SharedBuffer&) = delete;
  [[nodiscard]] std::byte* data() const { return data_; }

 private:
  std::byte* data_;
  std::size_t bytes_;
};

/// sched_yield(), out of line.
void yield_processor();

/// Spins until ready(), with a pause each time; gives the processor away after a while, for machines with fewer processors than spinners.
template <class Ready>
void spin_until(Ready&& ready) {
  for (int i = 0; !ready(); ++i) {
    if (i < 2000) {
      __builtin_ia32_pause();
    } else {
      yield_processor();
    }
  }
}

}  // namespace netvm::perf
