// lrc: homeless lazy release consistency as in TreadMarks (Keleher, Cox, Zwaenepoel: ISCA 1992; Keleher, Dwarkadas, Cox, Zwaenepoel: USENIX 1994).
//
// No page has a master copy. A release ends an interval and sends nothing; write notices travel with locks and barriers; a node that touches a page
// of which it knows notices asks each of the writers, in one message, for what it lacks. Only then do they compare the page with its twin.
//
// Invariants
//  1. A page's content here is exact for what its record says: the changes of each writer up to an ordinal. It is complete if every notice known here
//     is settled; only complete pages have access or a twin.
//  2. Changes are applied in an order that extends happens-before: order_now() at the twin's birth. For that to hold however long a twin grows old, a
//     notice of another node's write ends it (the change is made then), so all that a change contains has seen the same foreign changes of its page.
//  3. A change is given to nobody who does not know the interval in which it began.
//  4. This node's clock covers another's interval only after every page that it names has been given up here.
//  5. Releases and acquires of a node's threads come one after the other (intervals_). Rights, twin and record of a page change under its latch, since
//     handlers make changes, too; the long lock is held by faults alone, across their fetch. Order: long lock, latch (several ascending, under
//     intervals_), then the leaf locks. No latch is held while this node waits.
//  6. Garbage: at a barrier where somebody's changes and twins exceed the bound, the page's keeper (a writer of the last epoch in which it was written) completes
//     its copy, and others who are not up to date drop theirs. Everybody drops the changes of that time at the *next* barrier: then all keepers are complete.
#pragma once

#include <array>
#include <atomic>
#include <map>
#include <memory>
#include <vector>

#include "dsm/dirty_pages.hpp"
#include "dsm/interval_log.hpp"
#include "dsm/page_changes.hpp"
#include "dsm/protocol.hpp"
#include "dsm/protocol_env.hpp"
#include "dsm/record_pool.hpp"
#include "runtime/sparse_memory.hpp"

namespace netvm::dsm {

class Lrc : public Protocol {
 public:
  explicit Lrc(ProtocolEnv& env);

  static constexpr Traits kTraits{
      .name = "lrc",
      .consistency = Consistency::release,
      .summary = "lazy release consistency without homes (TreadMarks): changes are fetched from their writers when a page is touched"};
  [[nodiscard]] Traits traits() const override { return kTraits; }
  static std::unique_ptr<Protocol> make(ProtocolEnv& env) { return std::make_unique<Lrc>(env); }

  void on_read_fault(PageId page) override;
  void on_write_fault(PageId page) override;
  void on_read_ahead(std::span<const PageId> units) override;
  [[nodiscard]] bool has_homes() const override { return false; }
  [[nodiscard]] bool reads_ahead() const override { return true; }
  Departure on_evict(PageId page) override;
  void on_message(NodeId from, std::span<const std::byte> body) override;

  void on_release(SyncId object) override;
  void append_acquire_request(SyncId object, Bytes& out) override;
  [[nodiscard]] bool tells_nothing(std::span<const std::byte> request) override;
  void append_grant(SyncId object, NodeId acquirer, std::span<const std::byte> request, Bytes& out) override;
  void on_acquire(SyncId object, NodeId granter, std::span<const std::byte> payload) override;
  void on_barrier_arrive(Bytes& out) override;
  void on_barrier_merge(Bytes& sum, std::span<const std::byte> other) override;
  void on_barrier_leave(std::span<const std::byte> sum) override;

  void on_detach(PageRange pages) override;
  void on_retire(PageRange pages) override;
  [[nodiscard]] std::uint64_t memory_bytes() override;

 protected:
  // What the tests replace to prove that they notice.
  /// Whether a notice of `writer` that `granter` passed on is believed.
  [[nodiscard]] virtual bool believes(NodeId /*granter*/, NodeId /*writer*/) const { return true; }
  /// Whether a page of the running interval whose change was made early is named at the interval's end.
  [[nodiscard]] virtual bool owes_early_change() const { return true; }
  /// Which of a writer's intervals an answer settles: what was asked for, not what has been noticed since.
  [[nodiscard]] virtual std::uint64_t settles(std::uint64_t asked, std::uint64_t /*noticed*/) const { return asked; }
  /// Whether others' changes are applied in order.
  [[nodiscard]] virtual bool in_order() const { return true; }
  /// Whether garbage waits for the next barrier.
  [[nodiscard]] virtual bool waits_for_keepers() const { return true; }
  /// What is left of the application's right when the page has been compared with its twin.
  [[nodiscard]] virtual Access right_after_change() const { return Access::read; }
  /// The bytes that differ between frame and twin.
  virtual void find_changes(PageId page, std::vector<DiffRun>& runs);
  /// Garbage is collected when this node's changes and twins take more than so many bytes.
  [[nodiscard]] virtual std::uint64_t garbage_bound() const { return 32 << 20; }
  [[nodiscard]] ProtocolEnv& env() { return env_; }

 private:
  /// What this node knows of another one that wrote a page.
  struct Writer {
    NodeId node{};
    std::uint64_t ordinal = 0;  ///< of its newest change that this copy has
    std::uint64_t settled = 0;  ///< its intervals up to here have been asked for
    std::uint64_t noticed = 0;  ///< its newest interval that names the page
  };
  enum class Copy : std::uint8_t { unseen /* zeros, as allocated */, held, dropped /* a keeper has it */ };
  struct Record {
    PageId page{};  // while it is in use; the rest is guarded by the page's latch
    Copy copy = Copy::unseen;
    bool written = false;           // by this node, ever: others may ask it for its copy
    bool own_behind = false;        // the copy came from elsewhere and lacks changes of this node's own
    std::uint64_t own_settled = 0;  // this node's changes up to here were there when the page was completed last
    NodeId source = kNobody;        // where a copy can be had
    NodeId keeper = kNobody;        // all nodes say the same after a barrier
    std::vector<Writer> writers;    // other nodes, ascending
    PageChanges changes;            // this node's
    ChangeTime pending;             // of what frame and twin differ in
  };
  struct Notice {
    PageId page{};
    NodeId writer{};
    std::uint64_t index = 0;
  };
  struct Ask;
  struct Reply;
  struct Fetch;
  struct Message;
  static void append_message(const Message& message, std::span<const std::byte> body, Bytes& out);

  static constexpr NodeId kNobody{UINT32_MAX};

  // ---- faults
  template <class Finish>
  bool complete(PageId page, PageEntry& entry, Finish&& finish);
  bool plan(Record& record, std::vector<Ask>& asks);
  using Outbox = std::map<NodeId, Bytes>;
  void begin(Fetch& fetch, std::span<const Ask> asks, Outbox& outbox);
  void leave(const Outbox& outbox);
  void let_read(std::span<const PageId> units);
  void await(Fetch& fetch);
  void install(PageId page, PageEntry& entry, Record& record, std::span<const Reply> replies);
  void install_copy(PageId page, Record& record, NodeId from, std::span<const std::byte>& body);
  void apply(PageId page, PageEntry& entry, Record& record, std::vector<ChangeView>& changes);

  // ---- changes of this node: the latch is held, the frame pinned
  void make_change(PageId page, PageEntry& entry, Record& record);
  [[nodiscard]] std::uint64_t order_now();

  // ---- others' requests
  bool serve(const Message& request, bool pinned, Bytes& out);
  void answer(NodeId from, const Message& request, Bytes& out);
  void append_copy(PageId page, const PageEntry& entry, const Record& record, std::uint64_t up_to, Bytes& body);
  void take_reply(NodeId from, const Message& message, std::span<const std::byte> body);

  // ---- releases and acquires: intervals_ held
  void close_interval();
  void close_chunk(std::span<const PageId> pages, std::uint64_t index, std::vector<PageId>& written);
  void act_upon(std::span<const IntervalView> intervals, NodeId granter, bool pass_on);
  void give_up(std::span<const Notice> notices);
  void give_up_twin(PageId page, PageEntry& entry, std::span<const Notice> notices);
  bool give_up_chunk(std::span<const Notice> notices);
  void note(Record& record, std::span<const Notice> notices);
  void decode(std::span<const std::byte> wire, const char* from, std::vector<IntervalView>& out) const;

  // ---- garbage
  void name_keepers(std::span<const IntervalView> announced);
  void collect();
  void collect_page(PageId page);
  void drop_collected();
  [[nodiscard]] std::vector<PageId> recorded_pages();

  // ---- records
  // Under the page's latch.
  Record& record_of(PageId page);
  void drop_record(PageId page);
  [[nodiscard]] Record*& find_record(PageId page) const { return records_[page.value - first_page_.value]; }
  /// Whether another protocol has the page. One that nobody has may be this protocol's soon, and notices of it are kept.
  [[nodiscard]] bool is_anothers(const PageEntry& entry) const { return entry.attached() && !env_.owns(entry); }
  /// Of a page that is this protocol's.
  [[nodiscard]] bool has_twin(const PageEntry& entry) const { return env_.owns(entry) && entry.twin != nullptr; }
  [[nodiscard]] bool has_right(const PageEntry& entry) const { return env_.owns(entry) && entry.access() != Access::none; }
  static Writer& writer_of(Record& record, NodeId node);
  void hold_memory(std::uint64_t before, std::uint64_t after) { held_bytes_ += after - before; }

  ProtocolEnv& env_;
  EnvMutex intervals_;
  std::uint64_t arrived_at_ = 0;     // this node's newest interval at the last barrier's arrival
  bool collecting_ = false;          // a collection waits for the next barrier
  std::uint64_t collect_until_ = 0;  // ... and takes this node's changes up to this interval

  DirtyPages dirty_;

  mutable SpinLock log_lock_;
  IntervalLog log_;
  std::uint64_t acting_upon_ = 0;  // how many intervals are being acted upon, and are not yet in the log

  SpinLock fetch_lock_;
  std::uint64_t last_fetch_ = 0;
  std::map<std::uint64_t, Fetch*> fetches_;
  std::array<WaitWord, 64> words_;

  // Not in PageEntry::data: a notice may be older than the page's present allocation, which may be another protocol's.
  PageId first_page_;
  SparseArray<Record*> records_;  // by page
  RecordPool<Record> pool_;

  std::atomic<std::uint64_t> held_bytes_{0};  // changes and twins
};

}  // namespace netvm::dsm
