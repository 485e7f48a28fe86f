// entry: entry consistency (Bershad, Zekauskas: Midway, CMU-CS-91-170, 1991; Bershad, Zekauskas, Sawdon: COMPCON 1993), over home-based pages
// (dsm/home_based.hpp).
//
// Data are bound to locks. Who gets a lock gets with it the bound bytes that changed since he had it last, and nothing else: no page is given up, none
// faults. A barrier is for everything that is not bound: changes go to the homes, and what others wrote is given up.
//
// Invariants
//  1. At a release the bound bytes that changed here are copied into the lock's image (dsm/bindings.hpp) under a new version, and placed in the homes' frames,
//     before the lock can leave. So a page that is fetched from its home carries the newest bytes of every lock that was released before.
//  2. Bound bytes that were told are in the twin, too: no later diff sends them again, when somebody else has perhaps changed them since.
//  3. The node that has a lock's token knows all that changed under it since the last barrier: it travels with the token, each block with the version in
//     which it changed last.
//  4. An acquirer patches its copies of the pages, frame and twin, before any of its threads holds the lock. The frames of pages at home, and pages of which
//     there is no copy, need nothing: the home's frame has the bytes (1).
//  5. Epochs number the barriers, and versions begin anew at each. Threads outside of the parallel section, and tokens whose waiters gave up, use locks while
//     their node is in a barrier. What is written after the node's arrival that barrier does not tell: it is early, of the next epoch, and stays known (BoundData). What
//     comes with a lock, of the present epoch or early, is patched and passed on, in a barrier too: nodes that have not come to it need it. What is of an epoch
//     that is over here is older than what the barrier brought, and is dropped. Who is in a barrier and gets a lock from one who has left it leaves it first:
//     of the epoch that is over there the lock tells no more. A node that hears of something early before it comes tells it, and the lock's version up to which it
//     has: nobody keeps such an image. What that node wrote over it no lock tells after the barrier, so who had the lock before would hand on what is old.
//  6. A node may keep a lock's token and not release it before somebody asks (unreleased_). A barrier that comes in between releases the lock first: it sends
//     changes to the homes, and settles twins, but a node that has not come to the barrier may still get the lock, and with it what is bound to it.
//  7. Bytes are bound to one lock at a node: to the one that they were bound to last.
//  8. What a node has seen of a lock it does not patch again: a reader-writer lock may be given while the node's request for its token is under way, and what
//     comes with the token then is older than what the thread that has the lock writes. Not so what a home tells that saw bytes come from a node in a barrier:
//     so bytes that were changed here and not released are not patched, either.
//  9. A page that is fetched may carry bytes that the home's threads write under a lock and have not released. If they are changed back, nothing is told. So who
//     gets a lock reads what is bound to it once more, of pages that it has fetched since it had the lock last. A barrier ends such doubts, as a page that was
//     written before it is given up; unless threads ran on in it, somewhere (which it tells): then the next one does.
// 10. A flush takes twins away. A thread outside of the barrier may have changed bound bytes and not released them, and it is not known under which locks: what differs
//     from a twin then is kept until the barrier has been left (Lock::unversioned; of early changes, the next one), and the next release adds it.
// 11. What comes with a lock names the allocation that it is for: before it is acted upon the memory may have been freed, and be another one's.
// 12. A block that comes with a lock may be one that nobody has changed since the barrier: at home what others place in a frame differs from its twin, too, and if a
//     thread outside of the barrier made that twin, so does what they placed before they arrived. So of what comes only bytes that differ from the twin are
//     patched: a thread of this node may be using the others without the lock.
// 13. Releases and acquires of a node's threads happen one after the other (interval_lock()). log_lock_ is for handlers and never held while blocking. The
//     image of a lock is changed by the thread that releases or acquires it only, when no handler can be granting it.
#pragma once

#include <array>
#include <atomic>
#include <map>
#include <memory>
#include <set>
#include <vector>

#include "dsm/barrier_notices.hpp"
#include "dsm/bindings.hpp"
#include "dsm/home_based.hpp"
#include "dsm/protocols/lock_payloads.hpp"

namespace netvm::dsm {

class Entry : public HomeBased {
 public:
  explicit Entry(ProtocolEnv& env) : HomeBased(env), barriers_(env) {}

  static constexpr Traits kTraits{
      .name = "entry",
      .consistency = Consistency::entry,
      .summary = "entry consistency: a lock brings the data that are bound to it (mutex::bind); a barrier makes everything seen"};
  [[nodiscard]] Traits traits() const override { return kTraits; }
  static std::unique_ptr<Protocol> make(ProtocolEnv& env) { return std::make_unique<Entry>(env); }

  void bind(SyncId lock, std::uint64_t offset, std::uint64_t bytes) override;
  [[nodiscard]] bool tells_by_object() const override { return true; }
  [[nodiscard]] bool splits_barriers() const override { return false; }
  [[nodiscard]] bool watches_unlocks() const override { return true; }
  void before_unlock(SyncId object) override;
  void on_release(SyncId object) override;
  void append_acquire_request(SyncId object, Bytes& out) override;
  void append_grant(SyncId object, NodeId acquirer, std::span<const std::byte> request, Bytes& out) override;
  void on_acquire(SyncId object, NodeId granter, std::span<const std::byte> payload) override;
  void on_barrier_arrive(Bytes& out) override;
  void on_barrier_merge(Bytes& sum, std::span<const std::byte> other) override;
  void on_barrier_leave(std::span<const std::byte> sum) override;
  void on_detach(PageRange pages) override;
  [[nodiscard]] std::uint64_t memory_bytes() override;

 protected:
  // What the tests replace to prove that they notice.
  /// Whether an acquirer patches its twins as well as its frames.
  [[nodiscard]] virtual bool patches_twins() const { return true; }
  /// Whether bytes that were told are entered in the twin.
  [[nodiscard]] virtual bool settles_twins() const { return true; }
  /// Whether what was changed under locks and not released is released, or kept aside, before a barrier flushes it.
  [[nodiscard]] virtual bool sees_to_locks_before_flushes() const { return true; }
  /// Whether what came with a lock goes on with it.
  [[nodiscard]] virtual bool passes_on() const { return true; }

 private:
  [[nodiscard]] bool twins_home_pages() const override { return true; }

  /// Changed bytes of one block that have no version yet (invariant 10).
  struct Unversioned {
    BoundRange where;
    bool early = false;
    std::uint64_t changed = 0;                       // a bit for each byte: the others are only what they are in
    std::array<std::byte, BoundData::kBlock> bytes;  // not of a page at home: there the frame has them
  };
  struct Lock {
    BoundData data;
    std::uint64_t epoch = 0;
    std::uint64_t version = 0;                         // the newest
    std::uint64_t early_version = 0;                   // the newest of what is early; 0: nothing is
    bool ahead = false;                                // early: in the numbers of the next epoch (await_epoch())
    std::map<std::uint64_t, Unversioned> unversioned;  // by offset; guarded by log_lock_
    std::vector<BoundRange> gone;                      // freed meanwhile; guarded by log_lock_
    std::map<PageId, std::uint64_t> doubtful;  // invariant 9: units fetched since the lock came, and in which epoch; guarded by log_lock_
    std::uint64_t counted = 0;                 // of its memory, in memory_

    /// Forgets what belongs to an earlier epoch.
    void begin(std::uint64_t next, std::uint64_t doubts_since);
  };
  class Changes;

  void fetch(PageId page, PageEntry& entry) override;
  void fetch_run(std::span<const PageId> run, NodeId home) override;
  void before_flushed(std::span<const PageId> dirty) override;
  void note_fetched(PageRange unit);
  void read_again(const BoundData& data, PageId page);
  [[nodiscard]] bool others_run();
  void await_epoch(std::uint64_t epoch);

  /// The lock, if anything is bound to it, with what was freed taken out and in the present epoch. log_lock_ held.
  Lock* find(SyncId object);
  void index(SyncId object, const BoundRange& range);          // log_lock_ held
  void unbind_others(SyncId object, const BoundRange& range);  // log_lock_ held
  void count_memory(Lock& lock);                               // log_lock_ held
  void drop_empty();                                           // log_lock_ held
  void end_early(const BoundBarrier& sum);                     // log_lock_ held
  void release(SyncId object);                                 // interval_lock() held
  /// What is early here, and was heard of before: into `pages` and `told`. interval_lock() held.
  void take_early(std::vector<PageId>& pages, BoundBarrier& told);
  void add_unversioned(Lock& lock, std::uint64_t version);
  void collect(Lock& lock, const BoundData::Piece& piece, std::uint64_t version, Changes& changes);
  /// `keeps`: a thread of this node may be writing under the lock already; what it has written stays.
  void patch(const Lock& lock, const BoundRun& run, bool keeps);

  SpinLock log_lock_;
  std::map<SyncId, Lock> locks_;
  std::map<PageId, std::set<SyncId>> locks_of_;  // by page with bound bytes
  std::uint64_t indexed_ = 0;                    // in locks_of_, all together
  std::uint64_t memory_ = 0;                     // of all locks' data
  std::set<SyncId> shrunk_;                      // locks that lost a range: perhaps nothing is bound to them any more
  std::set<SyncId> told_early_;                  // locks with which something early came; guarded by interval_lock()
  std::set<SyncId> unreleased_;                  // unlocked since they were released; guarded by log_lock_
  std::map<SyncId, std::uint64_t> ended_;        // up to which version the last barrier told what was early; changed as doubts_since_
  BarrierNotices barriers_;
  std::atomic<bool> arrived_{false};    // at a barrier that it has not left; changed under interval_lock()
  std::uint64_t doubts_since_ = 0;      // the first epoch whose doubts no barrier has ended; changed under interval_lock() and log_lock_
  std::atomic<std::uint64_t> left_{0};  // barriers_.epoch(), for who waits for it
  WaitWord leaves_;
};

}  // namespace netvm::dsm
