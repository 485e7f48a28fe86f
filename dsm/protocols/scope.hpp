// scope: scope consistency, home-based (Iftode, Singh, Li: SPAA 1996; as in JIAJIA, Hu, Shi, Tang: HPCN 1999). How pages travel is in dsm/home_based.hpp.
//
// A lock opens a scope. What a node writes while it has the lock is told to those who get the lock after it, and to nobody else; a barrier is the global
// scope and tells everything. So an acquirer gives up fewer pages than under release consistency, and no notices of third nodes travel along.
//
// Invariants
//  1. A release returns only after every change made before it is placed at the homes; only then can its notices be told.
//  2. The node that has a lock's token knows all notices of its scope since the last barrier: they travel with the token. Each page is in there once (once
//     more if it is early, 4), with the scope's version in which it was written last; an acquirer says which version it has seen.
//  3. Of its own writes a node tells with a lock those that were flushed since the token came to it (Notices::since): at least what was written in the scope,
//     at most what was not yet placed when the token came. Objects other than mutexes have no scope that begins: with them it tells what it wrote since it
//     told with the same object before.
//  4. Versions begin anew at each barrier, and so do the sets of notices: what was written before it everybody has been told of. Epochs number the barriers.
//     Threads outside of the parallel section, and tokens whose waiters gave up, use locks while their node is in a barrier. What is written after the node's
//     arrival that barrier does not tell: it is early, of the next epoch, and stays known (Notices::early). What of it comes to a node that has yet to
//     arrive happened before that node's arrival, so that node tells it. A node that has left takes of a grant from before only what is early. Who is in a barrier
//     and gets a lock from one who has left it leaves it first: of the epoch that is over there the lock tells no more. If that cannot be waited for
//     (await_epoch()), it counts as having left (ahead_).
//  5. Releases and acquires of a node's threads happen one after the other (interval_lock()). log_lock_ is for handlers and never held while blocking.
//  6. Nothing here looks at pages that were not written since the last barrier (release) or not named by a notice (acquire).
#pragma once

#include <atomic>
#include <map>
#include <memory>
#include <vector>

#include "dsm/barrier_notices.hpp"
#include "dsm/home_based.hpp"
#include "dsm/page_versions.hpp"

namespace netvm::dsm {

class Scope : public HomeBased {
 public:
  explicit Scope(ProtocolEnv& env) : HomeBased(env), barriers_(env) {}

  static constexpr Traits kTraits{
      .name = "scope",
      .consistency = Consistency::scope,
      .summary =
          "scope consistency: what was written under a lock is seen by the next holders of that lock; a barrier makes everything seen",
      .one_sided = true,
      .outlives_nodes = true};
  [[nodiscard]] Traits traits() const override { return kTraits; }
  static std::unique_ptr<Protocol> make(ProtocolEnv& env) { return std::make_unique<Scope>(env); }

  [[nodiscard]] bool tells_by_object() const override { return true; }
  [[nodiscard]] bool splits_barriers() const override { return false; }
  void on_release(SyncId object) override;
  void append_acquire_request(SyncId object, Bytes& out) override;
  void append_grant(SyncId object, NodeId acquirer, std::span<const std::byte> request, Bytes& out) override;
  void on_acquire(SyncId object, NodeId granter, std::span<const std::byte> payload) override;
  void on_barrier_arrive(Bytes& out) override;
  void on_barrier_merge(Bytes& sum, std::span<const std::byte> other) override;
  void on_barrier_leave(std::span<const std::byte> sum) override;
  void on_death(NodeId node) override;
  [[nodiscard]] std::uint64_t memory_bytes() override;

 protected:
  // What the tests replace to prove that they notice.
  /// Whether notices of third nodes go on with the lock.
  [[nodiscard]] virtual bool passes_on() const { return true; }
  /// Whether a page that was flushed by the release of another lock is told with this one, too.
  [[nodiscard]] virtual bool tells_flushed_elsewhere() const { return true; }

 private:
  /// Of one lock, in one epoch.
  struct Notices {
    std::uint64_t version = 0;        // the newest
    std::uint64_t early_version = 0;  // the newest that was early: the next epoch's versions go on from there
    std::uint64_t since = 0;          // own flushes up to that are not of this scope, or are in `pages` or `early`
    PageVersions pages = {};          // what this epoch's barrier tells
    PageVersions early = {};          // what it does not

    void pass();
  };

  [[nodiscard]] std::uint64_t epoch() const { return barriers_.epoch() + (ahead_ ? 1 : 0); }
  void note_own(const std::vector<PageId>& written);  // interval_lock() held
  void begin_epoch();                                 // interval_lock() and log_lock_ held
  // log_lock_ held.
  Notices& notices_of(SyncId lock);
  void note(Notices& notices, const std::vector<PageId>& pages, std::uint64_t version, bool early);
  void take_early(std::vector<PageId>& pages);
  void await_epoch(std::uint64_t epoch);

  // Changed under interval_lock():
  std::uint64_t flushes_ = 0;  // that had something to flush
  PageVersions own_;           // pages that this node wrote in this epoch, by flush
  std::uint64_t told_ = 0;     // flushes_ when this node came to the last barrier

  // Changed under interval_lock() and log_lock_, looked at by handlers under log_lock_:
  SpinLock log_lock_;
  BarrierNotices barriers_;
  std::uint64_t at_epoch_ = 0;  // flushes_ when this epoch began
  bool ahead_ = false;          // invariant 4
  std::map<SyncId, Notices> notices_;
  std::uint64_t noted_pages_ = 0;  // in all their `pages`
  std::uint64_t early_pages_ = 0;  // in all their `early`

  std::atomic<bool> arrived_{false};    // at a barrier that it has not left; changed under interval_lock()
  std::atomic<std::uint64_t> left_{0};  // barriers_.epoch(), for who waits for it
  std::atomic<bool> deaths_{false};
  WaitWord leaves_;
};

}  // namespace netvm::dsm
