// EagerUpdate: eager release consistency by updates (Carter, Bennett, Zwaenepoel: SOSP 1991, Munin's write-shared protocol). A release is over when every
// copy of every page that was written has the changes. What erc and update share; they differ in how changes reach a copy.
//
// A page's home knows who has a copy (its members), and orders the changes. Writers make twins; at a release they send what they changed to the homes, which patch
// their own copies and pass the changes on; when all members have them, the home says so, and the release goes on. Nothing travels with locks and barriers.
//
// Invariants
//  1. The home's copy (its twin, while its application writes) has all changes that were ever released; every member's copy has those of releases that are over.
//  2. A node is a member from the moment its join is handled until the home handles its leave. It leaves only by itself, with an acknowledgement, and only while it has no
//     twin. Messages between two nodes keep their order; so the home knows exactly whether a node that asks has a copy. A member whose clean copy was evicted (dropped)
//     says so when it joins again, or leaves when changes come.
//  3. Whoever patches a copy patches its twin too (under one latch), or its next diff would echo foreign bytes. Bytes of this node's own that are on their way to the home are
//     left alone by what the home sent before it took them: that is older.
//  4. A page of the home's that has no members is exclusive: written without twin and without record. The first join takes the right to write away, and makes a twin.
//  5. A twin belongs to a dirty page (kDirty). Write access goes before the diff.
//  6. A copy that is not used leaves: after so many updates (`limit`, doubled whenever it turns out to be used) the home asks the member to watch it: the right is taken away, the
//     copy stays current. If as many updates again find it untouched, it leaves. So a stable reader takes a local fault now and then, ever more rarely.
//  7. Releases of a node come one after the other (releases_), and wait under it until they are over. Order: long lock, releases_ (on_detach), latches (several ascending),
//     leaf locks. Handlers take latches only, and never bring a page in: what needs that is done by a task.
#pragma once

#include <array>
#include <atomic>
#include <deque>
#include <map>
#include <memory>
#include <span>
#include <vector>

#include "dsm/dirty_pages.hpp"
#include "dsm/masked_diff.hpp"
#include "dsm/protocol.hpp"
#include "dsm/protocol_env.hpp"
#include "dsm/record_pool.hpp"

namespace netvm::dsm {

/// Changes of one page.
struct EagerChange {
  PageId page{};
  std::uint64_t pages = 1;  ///< how many it spans: the receiver may not have met its extent
  bool may_leave = false;
  std::uint64_t flushes = 0;  ///< update: the newest of the receiver's flushes of the page that the home has taken before
  std::span<const std::byte> diff;
};

/// What a flush or an update carries, pages in ascending order. False if malformed; the diffs are checked when they are applied.
[[nodiscard]] bool decode_eager_changes(std::span<const std::byte> wire, PageRange shared, std::vector<EagerChange>& out);

class EagerUpdate : public Protocol {
 public:
  explicit EagerUpdate(ProtocolEnv& env) : env_(env), releases_(env.env()), dirty_(env) {}

  void on_read_fault(PageId page) override { fault(page, false); }
  void on_write_fault(PageId page) override { fault(page, true); }
  void on_read_ahead(std::span<const PageId> units) override;
  [[nodiscard]] bool reads_ahead() const override { return true; }
  Departure on_evict(PageId page) override;
  void on_message(NodeId from, std::span<const std::byte> body) override;
  void on_release(SyncId object) override;
  void on_barrier_arrive(Bytes& out) override;
  void on_detach(PageRange pages) override;
  [[nodiscard]] std::uint64_t memory_bytes() override;

 protected:
  /// Whether the home writes changes into the frames of members that do not write the page. Then a member says so before it first writes.
  [[nodiscard]] virtual bool pushes_to_readers() const = 0;

  // What the tests replace to prove that they notice.
  /// Whether the receiver of changes patches its twin.
  [[nodiscard]] virtual bool patches_twin() const { return true; }
  /// Whether the release waits until a member has the changes.
  [[nodiscard]] virtual bool waits_for_members() const { return true; }
  /// Whether a page that others join while it is written gets a twin.
  [[nodiscard]] virtual bool ends_exclusive() const { return true; }
  /// The application's right to a page while it is compared with its twin.
  [[nodiscard]] virtual Access right_after_diff() const { return Access::read; }
  /// The bytes that differ between frame and twin. Whether there are any.
  virtual bool find_changes(PageId page, std::vector<std::uint64_t>& masks) { return env_.diff(page, &masks); }
  [[nodiscard]] ProtocolEnv& env() { return env_; }

 private:
  /// A node that has a copy, as the home sees it.
  struct Member {
    NodeId node{};
    bool writer = false;
    bool watches = false;
    std::uint32_t updates = 0;  ///< since it was last known to use its copy
    std::uint32_t limit = 0;
    std::uint64_t taken = 0;                    ///< its newest flush of the page that is in the home's copy
    std::shared_ptr<std::atomic<bool>> filled;  ///< the copy's bytes have landed
  };
  struct Record {
    std::vector<Member> members;  // at home
    // Elsewhere:
    bool held = false;     // this node's copy is current
    bool writer = false;   // the home knows that this node may write
    bool watched = false;  // the right was taken away to see whether the copy is used
    bool granted = false;  // the answer to a join has come
    bool dropped = false;  // the copy was evicted, and the home counts this node among the members all the same
    std::vector<std::uint64_t>
        on_their_way;         // masks of this node's newest flush of the page; empty: it is over, or known to have been taken
    std::uint64_t flush = 0;  // that flush's number
  };
  using Change = EagerChange;
  struct Header;
  struct Delivery;
  struct Outbox;
  struct Flushes;
  struct Push;
  struct Fill;

  /// Of an attached unit.
  [[nodiscard]] std::uint32_t pages_of(PageId page) const { return static_cast<std::uint32_t>(env_.unit(page).count); }

  void fault(PageId page, bool write);
  bool give(PageId page, PageEntry& entry, bool write, bool at_home);
  void ask(PageId page, PageEntry& entry, bool write);
  void await_grant(PageId page, PageEntry& entry);
  void mark_dirty(PageId page, PageEntry& entry);

  // ---- a release: releases_ held
  void flush();
  void flush_chunk(std::span<const PageId> dirty);
  void take_changes(std::span<const PageId> dirty, std::vector<Change>& own, std::deque<Bytes>& diffs, Flushes& flushes);
  void send_flush(NodeId home, Flushes& flushes);

  // ---- the home
  void handle_join(NodeId from, const Header& message);
  void join(NodeId from, const Header& message);
  void fill(NodeId to, PageId page, std::uint32_t pages, const std::byte* bytes, const std::shared_ptr<std::atomic<bool>>& filled);
  void handle_flush(NodeId from, const Header& message, std::span<const std::byte> body);
  void at_home(NodeId from, std::span<const Change> changes, const std::shared_ptr<Delivery>& delivery);
  void route(const Delivery& delivery, const Change& change, Record& record, Outbox& outbox);
  void post(Outbox& outbox, const std::shared_ptr<Delivery>& delivery);
  void delivered(const std::shared_ptr<Delivery>& delivery);
  void handle_ack(NodeId from, const Header& message, std::span<const std::byte> body);
  void handle_used(NodeId from, const Header& message);

  // ---- a member
  void handle_grant(const Header& message);
  void handle_update(NodeId from, const Header& message, std::span<const std::byte> body);
  bool leaves(const Change& change, bool resident);
  void handle_watch(NodeId from, const Header& message);
  void patch(const Change& change, PageEntry& entry, Record& record, NodeId from);

  std::vector<Change> decode(NodeId from, std::span<const std::byte> body) const;
  void send(NodeId to, const Header& header, std::span<const std::byte> body = {});
  Record& record_of(PageEntry& entry);
  static Record* find_record(const PageEntry& entry) { return reinterpret_cast<Record*>(entry.data); }
  [[nodiscard]] WaitWord& word_of(PageId page) { return words_[page.value % words_.size()]; }

  ProtocolEnv& env_;
  EnvMutex releases_;
  std::uint64_t last_flush_ = 0;
  std::vector<std::uint64_t> masks_;       // of the page that is being compared
  std::atomic<std::uint64_t> awaited_{0};  // flushes of the running release that are not over
  WaitWord over_;

  DirtyPages dirty_;  // the delayed update queue

  // At home:
  SpinLock delivery_lock_;
  std::uint64_t last_delivery_ = 0;
  std::map<std::uint64_t, std::shared_ptr<Delivery>> deliveries_;  // that members must acknowledge

  std::array<WaitWord, 64> words_;  // where faulting threads wait for their grant

  RecordPool<Record> records_;
};

}  // namespace netvm::dsm
