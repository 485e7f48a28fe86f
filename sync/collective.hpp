// Collectives: barrier, all_reduce and broadcast over two trees whose roots exchange what they have gathered. The last of a node's threads to arrive
// contributes the node's part; from then on messages move what all contribute up the trees, across and down again, whether threads of the node wait or not
// (Gupta 1989: a barrier's two phases; the trees: Mellor-Crummey, Scott 1991; the exchange: a round of dissemination, Hensgen, Finkel, Manber 1988). One of
// the threads that wait takes the result for the node.
//
// The trees: the nodes' first half is led by node 0, the rest by its lowest; these two are partners. A subtree is a contiguous range of nodes led by its
// lowest, whose children split the rest into at most `arity` ranges of equal size. So own value, then the children's in order, then the partners' in
// order, is the order of nodes.
//
// Invariants
//  1. Collectives are numbered from 0 on each node. A child is at most one ahead of its parent, and a partner of its partner: each needs the other to go
//     on. So one place for a message that came early is enough for each child; of the partner's, that of the next collective may come before the last one is
//     taken up: two. The parent's never comes early.
//  2. Coherence: on_barrier_arrive after all local threads have arrived, on_barrier_leave before any of them leaves; in between the
//     contributions of all nodes have been merged at both roots, in the same order, and came down again.
//  3. What the threads called is compared inside the node, by each parent with its children, and by the partners: a mismatch ends this and all later
//     collectives on all nodes with E_INVALID and a sentence that names both (mistake()).
//  4. Stages of a node: idle, gathering (its part is in), then asked (sent to the parent) or exchanging (sent to the partner), released (the result is
//     here), idle. One advance() at a time; of an all_reduce only by the thread that contributed, as the operation is the application's.
//  5. What a barrier says without a payload need not be a message: a node that has no children, and so moves nothing for others, names an event counter, which
//     the one neighbour that it waits for then sets (CollectiveMark) if it reaches it directly. Who waits looks at both, and parks where both announce.
// Threads: any; on_message comes from the NIC.
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "nic/nic.hpp"
#include "sync/coherence_hook.hpp"
#include "sync/sync.hpp"
#include "sync/sync_wire.hpp"
#include "sync/waits.hpp"

namespace netvm::sync {

/// One node's place in its tree.
struct TreePlace {
  bool has_parent = false;
  bool has_partner = false;  ///< the other tree's root; of roots, if there are two
  std::uint32_t parent = 0;
  std::uint32_t partner = 0;
  std::uint32_t end = 0;  ///< this node's subtree is [node, end)
  std::vector<std::uint32_t> children;
};
[[nodiscard]] TreePlace tree_place(std::uint32_t node, std::uint32_t nodes, std::uint32_t arity);

/// What a neighbour adds up in this node's counter: which of its barriers without a payload it has passed on. Arithmetic is modulo 2^64.
struct CollectiveMark {
  std::uint64_t value = 0;

  /// After collective `number`: that it has been marked, whether the one before was, and a statistic (CollectiveHeader::least_wait_ns).
  [[nodiscard]] CollectiveMark with(std::uint64_t number, std::uint64_t least_wait_ns) const {
    return {(number + 1) << kNumberAt | (says(number - 1) ? kTooSaid : 0) | std::min(least_wait_ns / kWaitUnit, kTooSaid - 1)};
  }
  /// Whether it says so of `number`, which is one of the last two.
  [[nodiscard]] bool says(std::uint64_t number) const {
    const std::uint64_t ahead = (value >> kNumberAt) - (number + 1);
    return ahead == 0 || (ahead == 1 && (value & kTooSaid) != 0);
  }
  [[nodiscard]] std::uint64_t least_wait_ns() const { return (value & (kTooSaid - 1)) * kWaitUnit; }

 private:
  static constexpr int kNumberAt = 18;  // 46 bits: months of barriers
  static constexpr std::uint64_t kTooSaid = std::uint64_t{1} << (kNumberAt - 1);
  static constexpr std::uint64_t kWaitUnit = 64;
};

class Collectives final : public nic::MessageHandler {
 public:
  using Combine = Sync::Combine;

  /// `waits`: where a node that waits for others is entered.
  Collectives(std::uint32_t arity, nic::Nic& nic, CoherenceHook& hook, Stats& stats, Waits& waits);
  ~Collectives() override;

  void set_local_threads(std::uint32_t threads);
  /// `op` for all_reduce, else null. `gives`: this thread's value counts (in a broadcast the root's alone). The value is replaced by the result.
  Status run(const CollectiveCall& call, std::span<std::byte> value, const Combine* op, bool gives);
  /// The two halves of a barrier. arrive() does not wait for other threads; wait() does, until all have arrived.
  Result<SplitBarrier> arrive();
  Status wait(const SplitBarrier& barrier);

  /// A node has died: what is under way, and every later collective, ends with E_PEER_DEAD. Does not block.
  void give_up();
  /// Why collectives end with E_INVALID, for people; empty if they do not.
  [[nodiscard]] std::string mistake() const;

  void on_message(NodeId from, std::span<const std::byte> body) noexcept override;
  /// Messages that were not ours, and dropped.
  [[nodiscard]] std::uint64_t dropped_messages() const { return dropped_.load(std::memory_order_relaxed); }  // relaxed: a statistic

 private:
  enum class Stage : std::uint8_t { idle, gathering, asked, exchanging, released };
  // A child, or the partner.
  struct Neighbour {
    std::uint32_t node = 0;
    std::uint32_t full = 0;  // messages that wait to be taken up, the older first
    std::array<Bytes, 2> bodies;
    std::atomic<std::uint32_t> counter{0};  // of its NIC, counted from 1, where it looks for this node's marks; 0: there is none
    CollectiveMark mark;                    // what this node has set there; of who advances
  };
  // What advance() takes up: a message or a mark; of nobody: the children's are all in.
  struct Step {
    bool from_somebody = false;
    bool marked = false;
    Bytes body;
  };
  // A thread arrives. `last`: it is the last of its node, and has contributed the node's part.
  struct Arrived {
    std::uint64_t number = 0;
    bool last = false;
  };
  Result<Arrived> arrive(const CollectiveCall& call, std::span<const std::byte> value, const Combine* op, bool gives, bool goes_on,
                         Nanos begin);
  std::string join(const CollectiveCall& call, std::span<const std::byte> value, const Combine* op, bool gives);
  void contribute(const Combine* op, bool some_go_on);
  // Merges what has come from the children, in their order; when all of it has, goes one stage on; merges what the partner has sent.
  void advance(const Combine* op);
  // `done`: what the last one took has been.
  bool take_step(const Combine* op, Step* step, bool done);
  bool take_next_of(Neighbour& neighbour, Step* step);
  // What is wrong with it, if anything is.
  std::string merge(const Step& step, const Combine* op);
  std::string merge_behind(const CollectiveMessage& message, const Combine* op);
  std::string merge_before(const CollectiveMessage& message, const Combine* op);
  // Runs the application's operation on value_. What went wrong, if anything did: nobody has a result then.
  std::string combine(const Combine& op, std::span<const std::byte> other);
  void send_up();
  void send_across();
  void hear_parent(const CollectiveMessage& message);
  void pass_down();
  // `body`: the message, once it has been made.
  void tell(Neighbour& neighbour, CollectiveDirection direction, Bytes* body);
  [[nodiscard]] Bytes encode(CollectiveDirection direction) const;
  void note_counter(Neighbour& neighbour, const CollectiveMessage& message);
  // The partner's line, which this node will soon mark, comes while its threads arrive.
  void prefetch_mark();
  // Whether who this node waits for has set the mark; what that says.
  [[nodiscard]] bool is_marked() const;
  [[nodiscard]] CollectiveMessage as_message() const;
  [[nodiscard]] bool may_move() const;
  [[nodiscard]] WaitWord& moved();
  // Until the collective has ended. `leads`: this thread has been chosen to take the result for the node.
  Status wait_for_end(std::uint64_t number, bool leads, Nanos begin, std::span<std::byte> value);
  Status take_result(Nanos begin, Nanos* end);
  [[nodiscard]] std::string differs(std::uint32_t other_node, const CollectiveMessage& theirs) const;
  // The program has made a mistake: tells all nodes. `except`: who said so, or this node.
  void refuse(const std::string& mistake, std::uint32_t except);
  [[nodiscard]] Stage stage() const { return stage_.load(); }
  // release: partner is stage(). Who sleeps until it changes is told by an announcement behind it, whose fence orders this before the look at sleepers.
  void set_stage(Stage stage) { stage_.store(stage, std::memory_order_release); }
  [[nodiscard]] Status why_given_up() const;

  nic::Nic& nic_;
  CoherenceHook& hook_;
  Stats& stats_;
  Waits& waits_;
  TreePlace place_;

  // Of this node's threads. The mutex guards arrival; from the contribution to the result advance() alone touches value_.
  EnvMutex arrival_;
  std::uint32_t threads_ = 1;
  std::uint32_t arrived_ = 0;
  bool some_go_on_ = false;  // have arrived and do not wait yet
  CollectiveCall call_;
  bool has_value_ = false;  // value_ holds something: always in a reduction; in a broadcast from when the root's bytes are here
  Bytes value_;
  Bytes result_;  // of the collective that ended last; stays until all local threads have arrived at the next
  Status outcome_ = Status::ok;
  // How long this node's last thread to arrive waited in the collective before; the least of all nodes' is what a collective costs, the rest of each is
  // imbalance. And when it arrived in this one.
  std::uint64_t waited_ns_ = 0;
  std::uint64_t least_wait_ns_ = 0;
  Nanos completed_at_ = 0;
  std::atomic<std::uint64_t> number_{0};  // of the collective under way: how many have ended
  std::atomic<bool> contributed_{false};  // the node's part is in
  std::atomic<bool> has_leader_{false};   // changed under arrival_
  WaitWord ended_;

  // Between nodes.
  mutable SpinLock inbox_guard_;
  std::vector<Neighbour> neighbours_;      // the children, in order, then the partner
  std::atomic<Stage> stage_{Stage::idle};  // changed under the guard
  bool merging_ = false;
  std::size_t next_ = 0;  // whose part is merged next
  Bytes sum_;             // of the coherence layer's contributions
  std::string mistake_;
  std::optional<nic::RemoteCounter> mine_;  // where the partner or the parent marks: of a node without children
  WaitWord moved_;                          // the stage, or what a neighbour has sent; of a node with a counter that counter's word is it
  std::atomic<bool> given_up_{false};
  std::atomic<std::uint64_t> dropped_{0};
};

}  // namespace netvm::sync
