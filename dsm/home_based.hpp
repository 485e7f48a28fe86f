// HomeBased: what home-based protocols with several writers a page share (hlrc, scope): faults, twins, the list of dirty pages, flushing changes
// to the homes, and giving up stale copies. When that happens, and who is told, is the protocol's business.
//
// The home's frame is a page's master copy. Others fetch the whole page on a miss, write into a copy with a twin, and at a release write what they
// changed into the home's frame (Zhou, Iftode, Li: OSDI 1996).
//
// Invariants
//  1. flush() returns only after every change made before it is placed at the homes. So whoever is told of it later finds the changes there, and pages
//     need no versions.
//  2. A page that this node may write and others may read is dirty: in dirty_ with kDirty set. Who clears kDirty owes the page's notice to the
//     next flush() (flushed early: owed_).
//  3. flush() and invalidate() of a node happen one after the other (the protocol's mutex: intervals_); so a flush waits for another thread's that
//     took its pages. Page locks come after intervals_, and faults never take intervals_.
//  4. Home pages need no twin (unless twins_home_pages()), and are not invalidated; they are write-protected by flush(), so that the first write afterwards is noticed.
//  5. A home page that nobody else has ever read is exclusive: this node may write it, and no record is kept (kExclusive). Who reads it first announces
//     that (sharing_map.hpp). The next flush() here finds the announcement: the page was perhaps written since the one before, so it is dirty. From then on
//     it is a home page like others. So no store before a flush is missed: either the reader saw it, or the flush sees the reader.
//  6. Nothing here looks at pages that were not written (flush) or not named (invalidate).
#pragma once

#include <span>
#include <vector>

#include "dsm/dirty_pages.hpp"
#include "dsm/home_moves.hpp"
#include "dsm/protocol.hpp"
#include "dsm/protocol_env.hpp"

namespace netvm::dsm {

class HomeBased : public Protocol, public HomeKeeper {
 public:
  explicit HomeBased(ProtocolEnv& env) : env_(env), intervals_(env.env()), dirty_(env) {}

  void on_read_fault(PageId page) override;
  void on_write_fault(PageId page) override;
  void on_read_ahead(std::span<const PageId> units) override;
  [[nodiscard]] bool reads_ahead() const override { return true; }
  Departure on_evict(PageId page) override;
  void on_detach(PageRange pages) override;

  bool hold(PageId page) override;
  void let_go(PageId page, bool at_home) override;

 protected:
  // What the tests replace to prove that they notice.
  /// Whether a page named by a notice must be given up. `page`'s lock is held.
  [[nodiscard]] virtual bool is_stale(PageId page);
  /// Whether a page that was flushed before the release is named in the next flush's notices.
  [[nodiscard]] virtual bool owes_early_flush() const { return true; }
  /// Whether a page is given up under its lock: a fetch that has begun is waited for.
  [[nodiscard]] virtual bool waits_for_fetches() const { return true; }
  /// Whether a first read tells the home, and the home looks who did.
  [[nodiscard]] virtual bool announces_reads() const { return true; }

  /// For protocols that must know between two flushes what this node has changed, of home pages, too: these get twins then, and are never exclusive.
  [[nodiscard]] virtual bool twins_home_pages() const { return false; }

  // What a protocol may do in its own way.
  /// Brings a page that is not at home here, and to which there is no right, up to date in this node's frame. The page's lock is held; may block. No page
  /// gets a right to its bytes in another way: protocols register here, or take leases.
  virtual void fetch(PageId page, PageEntry& entry);
  /// The same for neighbours of one home, read ahead: they are pinned, and at most so many as one announcement takes.
  virtual void fetch_run(std::span<const PageId> run, NodeId home);
  /// These dirty pages are about to be flushed: nobody can write them any more, and their twins are still there. interval_lock() and their locks are held.
  virtual void before_flushed(std::span<const PageId> /*dirty*/) {}

  /// PageEntry::state: the flags below are this class's, the others the protocol's. Under the page's long lock.
  static constexpr std::uint64_t kFirstOwnFlag = 1 << 8;

  [[nodiscard]] ProtocolEnv& env() { return env_; }
  [[nodiscard]] const ProtocolEnv& env() const { return env_; }
  /// Held around flush() and invalidate(), and whatever must happen together with them.
  [[nodiscard]] EnvMutex& interval_lock() { return intervals_; }

  /// Makes everything that this node wrote visible at the homes. Returns the pages written since the last call, in order, each once. Blocks.
  std::vector<PageId> flush();
  /// Gives up this node's copies of the pages (any order, perhaps more than once); changes that they hold are flushed before. Blocks.
  void invalidate(std::span<const PageRange> ranges);

  [[nodiscard]] bool at_home(PageId page) { return env_.home_of(page) == env_.node(); }
  /// The page has a twin, and is going to be written.
  void mark_dirty(PageId page, PageEntry& entry) { dirty_.add(page, entry); }

 private:
  // intervals_ held:
  void end_exclusive(std::vector<PageId>& dirty);
  void flush_chunk(std::span<const PageId> pages);
  void invalidate_chunk(std::span<const PageId> pages);

  ProtocolEnv& env_;
  EnvMutex intervals_;
  std::vector<PageId> owed_;  // flushed early since the last flush(); guarded by intervals_

  DirtyPages dirty_;
};

}  // namespace netvm::dsm
