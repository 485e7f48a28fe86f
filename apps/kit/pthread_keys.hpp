// Keys: pthread_key_create() for all nodes. A key is one number everywhere; its values are each thread's own and stay with it.
//
// Invariants
//  1. A key's number is never used again, and is above all numbers of the C library's own keys, which NetVM's threads and libraries use.
#pragma once

#include <pthread.h>

#include <array>
#include <cstdint>

namespace netvm::kit {

/// In shared memory.
struct KeyTable {
  static constexpr std::uint32_t kMost = 4096;
  struct Key {
    void (*destructor)(void*);
    std::uint64_t deleted;
  };
  std::uint64_t guard;  // names the mutex
  std::uint64_t used;
  std::array<Key, kMost> keys;
};

class Keys {
 public:
  static void open(KeyTable* table);
  [[nodiscard]] static bool is_ours(pthread_key_t key) { return key >= kFirst; }
  // On the program's stack, all of them.
  static int create(pthread_key_t* key, void (*destructor)(void*));
  static int remove(pthread_key_t key);
  static void* get(pthread_key_t key);
  static int set(pthread_key_t key, void* value);
  /// Of the calling thread, which ends.
  static void run_destructors();

 private:
  static constexpr pthread_key_t kFirst = 0x10000;
};

}  // namespace netvm::kit
