// hlrc: home-based lazy release consistency (Zhou, Iftode, Li: OSDI 1996).
//
// The home's frame is a page's master copy. Others fetch the whole page on a miss, write into a copy with a twin, and at a release write what they
// changed into the home's frame. What was written is told lazily, with locks and barriers, as write notices: the acquirer invalidates.
//
// Invariants
//  1. A release returns only after every change made before it is placed at the homes; only then does its interval exist. So whoever knows of an
//     interval finds its changes at the home, and pages need no versions.
//  2. A page that this node may write and others may read is dirty: in dirty_ with kDirty set. Who clears kDirty owes the page's notice
//     to this node's next interval (flushed early: owed_).
//  3. This node's clock covers another's interval only after every page of it was invalidated here: else a second thread of this node could be
//     granted past notices that are still being acted upon. So: invalidate, then log_.add().
//  4. Releases and acquires of a node's threads happen one after the other (intervals_); so a release waits for the flush of another thread that
//     took its pages. Page locks come after intervals_, and faults never take intervals_. log_lock_ is for handlers and never held while blocking.
//  5. Home pages need no twin, and are not invalidated; they are write-protected at a release, so that the first write of an interval is noticed.
//  6. A home page that nobody else has ever read is exclusive: this node may write it, and no record is kept (kExclusive). Who reads it first announces
//     that (sharing_map.hpp). The next release here finds the announcement: the page was perhaps written in this interval, so it is dirty. From then on it
//     is a home page like others. So no store before a release is missed: either the reader saw it, or the release sees the reader.
//  7. Nothing here looks at pages that were not written (release) or not named by a notice (acquire).
#pragma once

#include <memory>
#include <vector>

#include "dsm/interval_log.hpp"
#include "dsm/protocol.hpp"
#include "dsm/protocol_env.hpp"

namespace netvm::dsm {

class Hlrc : public Protocol {
 public:
  explicit Hlrc(ProtocolEnv& env) : env_(env), intervals_(env.env()), log_(env.node(), env.nodes()) {}

  static constexpr Traits kTraits{
      .name = "hlrc",
      .consistency = Consistency::release,
      .summary = "home-based lazy release consistency (the default): what was written before an unlock or barrier is seen after",
      .one_sided = true};
  [[nodiscard]] Traits traits() const override { return kTraits; }
  static std::unique_ptr<Protocol> make(ProtocolEnv& env) { return std::make_unique<Hlrc>(env); }

  void on_read_fault(PageId page) override;
  void on_write_fault(PageId page) override;

  void on_release(SyncId object) override;
  void append_acquire_request(SyncId object, Bytes& out) override;
  void append_grant(SyncId object, NodeId acquirer, std::span<const std::byte> request, Bytes& out) override;
  void on_acquire(SyncId object, NodeId granter, std::span<const std::byte> payload) override;
  void on_barrier_arrive(Bytes& out) override;
  void on_barrier_merge(Bytes& sum, std::span<const std::byte> other) override;
  void on_barrier_leave(std::span<const std::byte> sum) override;

  void on_detach(PageRange pages) override;

 protected:
  // What the tests replace to prove that they notice.
  /// Whether a page named by a notice must be given up. `page`'s lock is held.
  [[nodiscard]] virtual bool is_stale(PageId page);
  /// Whether a page that was flushed before the release is named in the interval's notices.
  [[nodiscard]] virtual bool owes_early_flush() const { return true; }
  /// Whether a first read tells the home.
  [[nodiscard]] virtual bool announces_reads() const { return true; }
  [[nodiscard]] ProtocolEnv& env() { return env_; }

 private:
  [[nodiscard]] bool at_home(PageId page) { return env_.home_of(page) == env_.node(); }
  void fetch(PageId page, PageEntry& entry);
  void mark_dirty(PageId page, PageEntry& entry);
  // All below: intervals_ held.
  void close_interval();
  void end_exclusive(std::vector<PageId>& dirty);
  void flush_chunk(std::span<const PageId> pages);
  void act_upon(std::span<const IntervalView> intervals);
  void invalidate_chunk(std::span<const PageId> pages);
  void decode(std::span<const std::byte> wire, const char* from, std::vector<IntervalView>& out);

  ProtocolEnv& env_;
  EnvMutex intervals_;
  std::vector<PageId> owed_;  // flushed early since the last interval; guarded by intervals_

  SpinLock dirty_lock_;
  std::vector<PageId> dirty_;  // may name a page twice, or one that is dirty no more

  SpinLock log_lock_;
  IntervalLog log_;
};

}  // namespace netvm::dsm
