// Locks that a program can build from put, get and atomics on symmetric memory, to compare netvm::mutex with. None carries coherence, queues threads of a node,
// survives misuse or keeps a word of its own where it is cheap: they are what the mutex's mechanism is measured against, not alternatives.
#pragma once

#include <pthread.h>

#include <atomic>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "apps/netvm-perf/floors.hpp"
#include "dsm/api/job_runtime.hpp"
#include "netvm/netvm.hpp"

namespace netvm::perf {

/// A lock to measure. Node 0 keeps its words.
struct LockArm {
  std::string name;
  std::function<void()> lock;
  std::function<void()> unlock;
};

/// Symmetric words that others write while this node looks: driven where requests come as packets.
inline std::uint64_t look(const std::uint64_t* word) {
  const std::uint64_t value = __atomic_load_n(word, __ATOMIC_ACQUIRE);
  if (value == 0) (void)detail::Runtime::current("netvm-perf").nic->drive();
  return value;
}

inline LockArm cas_lock(Job& job) {
  auto* word = job.symmetric_all<std::uint64_t>(8);
  return {"compare-and-swap spinning on the NIC", [word] { spin_until([word] { return compare_swap(0, word, 0, 1) == 0; }); },
          [word] { swap(0, word, 0); }};
}

inline LockArm ticket_lock(Job& job) {
  auto* words = job.symmetric_all<std::uint64_t>(16);  // next ticket; now serving, a cache line away
  const auto lock = [words] {
    const std::uint64_t mine = fetch_add(0, words, 1);
    spin_until([words, mine] {
      std::uint64_t serving = 0;
      get(0, words + 8, &serving);
      return serving == mine;
    });
  };
  return {"ticket lock on the NIC", lock, [words] { fetch_add(0, words + 8, 1); }};
}

/// Mellor-Crummey and Scott 1991, with remote queue nodes.
inline LockArm mcs_lock(Job& job) {
  auto* words = job.symmetric_all<std::uint64_t>(24);  // tail (node 0's); this node's successor; whether it is its turn
  const std::uint64_t me = static_cast<std::uint64_t>(job.node()) + 1;
  const auto lock = [words, me] {
    __atomic_store_n(words + 8, 0, __ATOMIC_RELAXED);
    __atomic_store_n(words + 16, 0, __ATOMIC_RELAXED);  // published by the swap
    const std::uint64_t before = swap(0, words, me);
    if (before == 0) return;
    put(static_cast<int>(before - 1), words + 8, &me);
    spin_until([words] { return look(words + 16) != 0; });
  };
  const auto unlock = [words, me] {
    if (look(words + 8) == 0) {
      if (compare_swap(0, words, me, 0) == me) return;
      spin_until([words] { return look(words + 8) != 0; });
    }
    constexpr std::uint64_t kTurn = 1;
    put(static_cast<int>(words[8] - 1), words + 16, &kTurn);
  };
  return {"MCS by hand on the NIC", lock, unlock};
}

/// In memory that both nodes' processes map: what one host offers without NetVM.
inline LockArm process_shared_lock(Job& job) {
  auto* place = job.symmetric_all<pthread_mutex_t>(1);
  detail::Runtime& runtime = detail::Runtime::current("netvm-perf");
  std::uint64_t offset = 0;
  (void)runtime.offset_of(place, &offset);
  auto* const shared = reinterpret_cast<pthread_mutex_t*>(runtime.devices[0]->frames() + offset);
  if (job.node() == 0) {
    place->__align = 0;  // the page has its frame
    pthread_mutexattr_t attributes;
    pthread_mutexattr_init(&attributes);
    pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
    pthread_mutex_init(shared, &attributes);
  }
  job.barrier();
  return {"pthread mutex shared by processes", [shared] { pthread_mutex_lock(shared); }, [shared] { pthread_mutex_unlock(shared); }};
}

inline LockArm netvm_lock(Job& job) {
  auto* lock = job.allocate_all<mutex>();
  return {"netvm::mutex", [lock] { lock->lock(); }, [lock] { lock->unlock(); }};
}

}  // namespace netvm::perf
