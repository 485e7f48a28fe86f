// Sync: mutexes, other objects and collectives between the threads of all nodes (after Mellor-Crummey and Scott 1991; the token that stays where it
// was used last after TreadMarks, Keleher et al. 1994).
//
// A mutex is known by its global offset (an address in shared memory), needs no creation, and costs nothing until used.
//  - Its queue's tail is one word in the memory of its home node (home = hash of the offset), in the lock table: open addressing
//    over (key, tail) pairs, claimed and swapped with NIC atomics alone.
//  - A node without the token swaps itself into the tail and learns its predecessor; it sends it a request with the coherence
//    payload; the predecessor grants when its own threads are done. Exactly one request and one grant per hand-over between nodes.
//  - The node that held it last keeps the token: its threads lock again without a message.
//  - Threads of a node queue locally (FIFO); at most `cohort` hand-overs inside a node while another node waits.
//
// All other objects are built on mutexes: objects.hpp.
//
// Invariants: see mutex.hpp, mutex_table.hpp, objects.hpp and collective.hpp.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "nic/nic.hpp"
#include "sync/coherence_hook.hpp"
#include "sync/home_rules.hpp"

namespace netvm::sync {

class Objects;
class Waits;

/// So long at most who tries, or whose time is over, waits for what a node answers by itself, without waiting for anybody: a node that is stopped, or very
/// slow, answers later than that.
inline constexpr Nanos kPatience = 500'000'000;

struct SyncConfig {
  /// For each node, the region in its memory that holds the lock table, and where in it (bytes from the region's start). Zeroed.
  std::vector<nic::RemoteRegion> tables;
  std::uint64_t table_offset = 0;
  std::uint64_t table_slots = 0;  ///< power of two; 16 bytes each
  std::uint32_t cohort = 16;      ///< hand-overs of a mutex inside a node at most, while another node waits
  std::uint32_t arity = 8;        ///< children of a node in the tree of the collectives
  Nanos watchdog = 0;             ///< waits that last longer are reported (watchdog.hpp); 0: none
  /// How reports name an object; empty: by its offset.
  std::function<std::string(SyncId)> name_of = {};
  /// Takes the lines of a report; empty: they go to the log.
  std::function<void(const std::vector<std::string>&)> report = {};
};

/// What keeps memory from being freed.
struct MemoryUse {
  SyncId object;
  NodeId node{};
};

/// What arrive() returns and wait() takes.
struct SplitBarrier {
  std::uint64_t number = 0;
  bool has_arrived = false;  ///< false: the coherence layer does not split barriers, and wait() is where this thread arrives
};

class Sync final {
 public:
  Sync(const SyncConfig& config, nic::Nic& nic, CoherenceHook& hook, Stats& stats);
  /// Blocks while a grant that nobody waited for any more is applied. No thread may be inside a call.
  ~Sync();
  Sync(const Sync&) = delete;
  Sync& operator=(const Sync&) = delete;

  // ---- mutex ---------------------------------------------------------------------------------------------------------
  /// Blocks. `who` names the locking thread (unique inside the node, not 0, below 2^64 - 2): recursion and a foreign unlock are noticed.
  /// ok; E_TIMEOUT after the deadline (the request is then withdrawn or handed on: nobody is blocked by it); E_INVALID: this thread holds it already;
  /// E_EXHAUSTED: the lock table is full; E_OWNER_DEAD: see declare_dead(); E_PEER_DEAD: its home is dead, and nobody has said so yet; E_CANCELLED.
  /// Where `give_up` is given and becomes true (and look_again() is called then), it ends with E_TIMEOUT too, after at most kPatience if a node is stopped.
  /// What the coherence layer does before it returns ok (on_acquire) has no deadline.
  Status lock(std::uint64_t offset, std::uint64_t who, Nanos deadline = kForever, const std::atomic<bool>* give_up = nullptr);
  /// Those who wait for the mutex at this node look at their `give_up`. Does not block.
  void look_again(std::uint64_t offset);
  /// True if this thread now holds it. Never waits for another holder; may ask the home and the node that had it last, and waits for their answers for
  /// kPatience at most. Now and then false though the mutex is free (several tried at once, a node has not answered), like std::mutex::try_lock.
  Result<bool> try_lock(std::uint64_t offset, std::uint64_t who);
  /// E_PERM: this thread does not hold it.
  Status unlock(std::uint64_t offset, std::uint64_t who);
  /// Whether some thread of this node holds it now.
  [[nodiscard]] bool held_here(std::uint64_t offset) const;
  /// Fencing token: how often the mutex went from one node to another, as of the last time it came here. Rises with each.
  [[nodiscard]] std::uint64_t epoch_of(std::uint64_t offset) const;

  /// A mutex or object inside [offset, offset + bytes) that a thread of this node holds or waits for: memory that must not be freed.
  [[nodiscard]] std::optional<SyncId> busy_in(std::uint64_t offset, std::uint64_t bytes) const;
  /// The memory is about to be freed, and must be in no use that another thread could notice. What a thread of some node holds in there, or waits for; if
  /// nothing, all objects in there are forgotten on all nodes: they begin anew, as zeroed ones, when the memory is used again. Waits for
  /// tokens that are on their way though nobody waits for them any more. Memory of at most 2 KiB in which (64 bytes around) no node ever used a mutex or object
  /// costs an atomic or two; what is larger or was used, two rounds of messages. Blocks.
  /// `who`: as for lock().
  Result<std::optional<MemoryUse>> free_memory(std::uint64_t offset, std::uint64_t bytes, std::uint64_t who);
  /// Chooses the nodes that keep the tails of all mutexes and objects in the memory, used or not, held or not; the last call counts, until the memory is freed.
  /// What only nodes that are dead had used is new from then on. by_hash: nobody has chosen. E_INVALID: some of them is on its way between nodes (threads of several wait for it), or being placed by another thread, and
  /// nothing has changed. E_EXHAUSTED: a chosen home's table is full, likewise. Blocks, for two rounds of messages.
  Status place(const MemoryRange& memory, const HomeRule& rule);

  /// Semaphores, reader-writer locks and the other objects.
  [[nodiscard]] Objects& objects();
  /// Where who waits for something by means of these objects can say what it is.
  [[nodiscard]] Waits& waits();

  // ---- deaths ------------------------------------------------------------------------------------------------------------
  /// Says that a node has ended (its process is gone, or is known never to speak again), from whoever learns of it; the other survivors are told. Any
  /// context; does not block. Mutexes go on among the survivors if one of them has the token. Those whose token was with the dead node (held, kept since
  /// it was used there, or on its way to it) are lost, as is every mutex whose home has died and whose token no survivor has: lock() of these ends
  /// with E_OWNER_DEAD until somebody recovers them, and epoch_of() is above that of every holder before. Collectives end with E_PEER_DEAD.
  void declare_dead(NodeId node);

  /// Whether a node has died: then some of the homes that follow from offsets are dead ones, and what nobody has used that has one is lost.
  [[nodiscard]] bool has_died() const;
  /// Of a mutex that is lost: true, it lives again, and this thread holds it; of all who call, one gets this, and it is the one that puts right what the mutex
  /// guards. Its fencing token is above all before. False: it is not lost, as far as this node knows, or another thread has recovered it: lock() it. Blocks, for
  /// one round of messages. Objects are recovered by Objects::init().
  Result<bool> recover(std::uint64_t offset, std::uint64_t who);

  // ---- collectives over all nodes, for `local_threads` threads of each ---------------------------------------------------
  /// How many threads of this node take part in each collective. Call before the first, and only while none is under way.
  void set_local_threads(std::uint32_t threads);

  /// All of them: E_PEER_DEAD once a node has died; E_INVALID once threads of the job have called different things (mistake() says which, on all nodes).
  /// Blocks until all threads of all nodes have arrived; everything written before by anybody is visible after (coherence payloads are merged).
  Status barrier();
  /// The same in two halves, between which this thread does what needs no other's data: what was written before anybody's arrive() is visible after
  /// wait(). arrive() may flush, but waits for nobody. Threads may mix them with barrier(). Each waits before it calls anything collective again.
  Result<SplitBarrier> arrive();
  Status wait(const SplitBarrier& barrier);
  /// Why collectives end with E_INVALID, for people; empty if they do not.
  [[nodiscard]] std::string mistake() const;
  /// The last barrier of the job. A node that calls it while others call anything else has left early, and is told so.
  Status farewell();
  /// Behind farewell(), before other nodes may go: what threads that gave up waiting have left behind comes to its end. First settle() on all nodes, then end() on
  /// all, each while all nodes answer; then nothing of this layer asks the coherence layer, or another node's memory, for anything any more. Both block.
  void settle();
  void end();

  /// Combines `bytes` bytes of every thread with `op` (accumulates `other` into `sum`; associative; combined in a fixed order: by node,
  /// inside a node by arrival) and gives everybody the result. It is a barrier too. Same op and size everywhere. `op` returns what went
  /// wrong, as a rule nothing; else E_INVALID on all nodes, and mistake() says it.
  using Combine = std::function<std::string(std::span<std::byte> sum, std::span<const std::byte> other)>;
  Status all_reduce(std::span<std::byte> value, const Combine& op);
  /// Gives everybody the bytes that threads of node `root` passed. `gives`: on that node, whether this thread's count; all that do pass the same. A barrier too.
  Status broadcast(NodeId root, std::span<std::byte> value, bool gives = true);

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace netvm::sync
