// Floors: what the bare machine does, without NetVM. Measured in the same run, in turns with what they are compared to.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <cstddef>
#include <cstdint>

namespace netvm::perf {

/// A second process on this machine that shares a few cache lines with this one: the partner of bare hand-overs. Forked before the
/// job starts (one thread then) and asleep except during a measurement.
class FloorPartner {
 public:
  FloorPartner();
  ~FloorPartner();
  FloorPartner(const FloorPartner&) = delete;
  FloorPartner& operator=(const FloorPartner&) = delete;

  /// Nanoseconds of one hand-over of a cache line between two spinning processes (half a round trip).
  double flag_hand_over_ns(int rounds);
  /// Nanoseconds to store 8 bytes and raise a flag that the partner sees, one way, both spinning. The bare form of a put that is noticed.
  double store_ns(int stores);

 private:
  struct Shared;
  void serve();
  Shared* shared_;
  pid_t partner_ = -1;
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

}  // namespace netvm::perf
