// A hash table over all nodes that counts keys, worked on by one-sided operations alone: no node's processor serves another's.
//
// 1. A key belongs to a bucket of four slots (64 bytes) of one node; a full bucket overflows into the next of the same node.
// 2. A slot's key is 0 (free) until a compare-and-swap sets it, and never changes after. The slots of a bucket are taken in their order, and so are buckets: who
//    meets a free slot on the way knows that the key was not there at that moment.
// 3. A count changes by fetch-and-add alone.
// 4. A Table is made collectively, and no longer than the job. A Client is a thread's access to it.
#pragma once

#include <netvm/netvm.hpp>

#include <array>
#include <cstdint>
#include <span>
#include <vector>

namespace gas::hashtable {

inline constexpr std::size_t kSlots = 4;

struct Slot {
  std::uint64_t key;  ///< 0: free
  std::uint64_t count;
};
using Bucket = std::array<Slot, kSlots>;
static_assert(sizeof(Bucket) == 64);

/// Where a key's search begins.
struct Home {
  int node;
  std::size_t bucket;
};
Home home_of(std::uint64_t key, int nodes, std::size_t buckets);

class Table {
 public:
  /// `buckets` of each node. Collective.
  Table(netvm::Job& job, std::size_t buckets);

  [[nodiscard]] int nodes() const { return nodes_; }
  [[nodiscard]] std::size_t buckets() const { return buckets_; }
  [[nodiscard]] Bucket* bucket(std::size_t index) const { return memory_ + index; }
  /// All of a node's taken slots: a get of its whole table. After a barrier.
  [[nodiscard]] std::vector<Slot> contents(int node) const;

 private:
  int nodes_;
  std::size_t buckets_;
  Bucket* memory_;  ///< symmetric, on whole lines
};

class Client {
 public:
  Client(netvm::Job& job, const Table& table);
  ~Client();

  /// Adds to the count of each of the keys, which begin at 0; what all of them need is under way together. No key is 0. Throws std::runtime_error if
  /// a node's table is full.
  void add(std::span<const std::uint64_t> keys, std::uint64_t by);
  void add(std::uint64_t key, std::uint64_t by) { add({&key, 1}, by); }
  /// The counts of many keys, 0 for those that are not there; their gets are under way together.
  void find(std::span<const std::uint64_t> keys, std::span<std::uint64_t> counts);

  /// Buckets that were fetched, and slots that somebody else took first.
  [[nodiscard]] std::uint64_t fetched() const { return fetched_; }
  [[nodiscard]] std::uint64_t lost() const { return lost_; }

 private:
  struct Insertion;
  /// Where a key's search goes on: looks at what was seen of its bucket, asks for what it needs next. False: the key has its count.
  bool go_on(Insertion& insertion, std::uint64_t by);

  const Table& table_;
  netvm::Transfers transfers_;
  std::vector<Insertion> insertions_;
  std::uint64_t fetched_ = 0;
  std::uint64_t lost_ = 0;
};

}  // namespace gas::hashtable
