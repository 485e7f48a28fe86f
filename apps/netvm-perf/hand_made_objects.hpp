// A semaphore and a wait queue that a program can build from put and atomics on symmetric memory, first come, first served; and what one host offers
// to processes that share memory. To compare netvm/sync.hpp with: none of them carries coherence, gives up waiting, or queues the threads of a node.
#pragma once

#include <pthread.h>
#include <semaphore.h>

#include <cerrno>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "apps/netvm-perf/hand_made_locks.hpp"

namespace netvm::perf {

/// What is measured: an operation that waits, and the one that ends the wait.
struct ObjectArm {
  std::string name;
  std::function<void()> acquire;
  std::function<void()> release;
};

/// A FIFO between nodes: who comes takes the next number and its place; who lets go on serves the next number. Whoever is second at a place finds the
/// other there. One thread a node.
class PlacesByHand {
 public:
  explicit PlacesByHand(Job& job)
      : me_(static_cast<std::uint64_t>(job.node()) + 1), words_(job.symmetric_all<std::uint64_t>(kPlaces + (kSlots + 1) * kStride)) {}

  /// Takes a place. False: it had been served before.
  bool come() {
    __atomic_store_n(told(), 0, __ATOMIC_RELAXED);  // published by the swap
    std::uint64_t* const place = place_of(fetch_add(0, words_, 1));
    if (swap(0, place, me_) == 0) return true;
    swap(0, place, 0);
    return false;
  }
  void wait() {
    spin_until([this] { return look(told()) != 0; });
  }
  void serve() {
    std::uint64_t* const place = place_of(fetch_add(0, words_ + kStride, 1));
    const std::uint64_t who = swap(0, place, kServed);
    if (who == 0) return;
    swap(0, place, 0);
    constexpr std::uint64_t kTold = 1;
    put(static_cast<int>(who - 1), told(), &kTold);
  }
  /// Whether somebody came who was not served.
  bool anybody() {
    std::uint64_t came = 0;
    std::uint64_t served = 0;
    get(0, words_, &came);
    get(0, words_ + kStride, &served);
    return came != served;
  }

 private:
  static constexpr std::uint64_t kStride = 8;  // a cache line
  static constexpr std::uint64_t kSlots = 64;  // more than can wait
  static constexpr std::uint64_t kPlaces = 2 * kStride;
  static constexpr std::uint64_t kServed = UINT64_MAX;
  std::uint64_t* place_of(std::uint64_t number) { return words_ + kPlaces + number % kSlots * kStride; }
  std::uint64_t* told() { return words_ + kPlaces + kSlots * kStride; }
  std::uint64_t me_;
  std::uint64_t* words_;
};

/// One permit.
inline ObjectArm netvm_semaphore(Job& job) {
  auto* semaphore = job.allocate_all<binary_semaphore>();
  if (job.node() == 0) semaphore->init(1);
  job.barrier();
  return {"netvm::binary_semaphore", [semaphore] { semaphore->acquire(); }, [semaphore] { semaphore->release(); }};
}

inline ObjectArm semaphore_by_hand(Job& job) {
  auto places = std::make_shared<PlacesByHand>(job);
  if (job.node() == 0) places->serve();
  job.barrier();
  const auto acquire = [places] {
    if (places->come()) places->wait();
  };
  return {"semaphore by hand on the NIC", acquire, [places] { places->serve(); }};
}

/// In memory that both nodes' processes map.
template <class T>
T* shared_by_processes(Job& job) {
  auto* place = job.symmetric_all<T>(1);
  detail::Runtime& runtime = detail::Runtime::current("netvm-perf");
  std::uint64_t offset = 0;
  (void)runtime.offset_of(place, &offset);
  if (job.node() == 0) *reinterpret_cast<volatile char*>(place) = 0;  // the page has its frame
  job.barrier();
  return reinterpret_cast<T*>(runtime.devices[0]->frames() + offset);
}

inline ObjectArm process_shared_semaphore(Job& job) {
  auto* const shared = shared_by_processes<sem_t>(job);
  if (job.node() == 0) sem_init(shared, 1, 1);
  job.barrier();
  const auto acquire = [shared] {
    while (sem_wait(shared) != 0 && errno == EINTR) {
    }
  };
  return {"sem_t shared by processes", acquire, [shared] { sem_post(shared); }};
}

/// Wait and wake one: `acquire` waits, `release` wakes whoever is first, once there is somebody.
inline ObjectArm netvm_wait_queue(Job& job) {
  auto* queue = job.allocate_all<wait_queue>();
  return {"netvm::wait_queue", [queue] { queue->wait(queue->enqueue()); }, [queue] { spin_until([queue] { return queue->wake_one(); }); }};
}

inline ObjectArm wait_queue_by_hand(Job& job) {
  auto places = std::make_shared<PlacesByHand>(job);
  const auto wait = [places] {
    if (places->come()) places->wait();
  };
  const auto wake = [places] {
    spin_until([places] { return places->anybody(); });
    places->serve();
  };
  return {"wait queue by hand on the NIC", wait, wake};
}

}  // namespace netvm::perf
