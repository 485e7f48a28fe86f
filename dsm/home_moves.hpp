// HomeMoves: homes follow their writers. A unit that one node alone writes, from barrier to barrier, and that lives elsewhere is moved to that node:
// then its writes need no twin, no diff and no message. No data moves: the writer's copy is what the home's frame is. (Home migration as in JIAJIA, Hu,
// Shi, Tang 1999, and in Cashmere-2L, Stets et al. 1997, at barriers only.)
//
// In two steps, both told with the barriers' payloads, so that every node decides the same from the same bytes:
//   barrier k    the writer of a unit, who was its only writer between k-2 and k-1 and has written it since, claims it. At the end of k the claim
//                stands if nobody else has written it since k-1.
//   barrier k+1  nodes where threads run on while their node waits in barriers say no (ProtocolEnv::all_threads_wait). At the end of k+1 the unit moves if
//                no node said no and nobody but the claimant has written it since k.
//
// Invariants
//  1. From the claim to its end the claimant keeps its copy, and the copy is current whenever a barrier has flushed: it saw the only writes. So at the end of
//     k+1 its frame equals the home's.
//  2. While homes change nobody fetches and nobody flushes: all threads of all nodes that may are in the barrier (hence the votes). So it does not matter
//     who leaves first.
//  3. A move names the allocation by its serial number: at a node where the memory has been freed meanwhile nothing happens.
//  4. The new home counts the unit as shared: who announced itself did so to the old home.
// Wire: veto (0, 1), number of claims; for each: node, serial, bytes of its pages, pages (interval_log.hpp). All integers are varints.
// Threads: one at a time (the protocol's interval lock).
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "dsm/interval_log.hpp"
#include "dsm/protocol_env.hpp"
#include "sync/coherence_hook.hpp"

namespace netvm::dsm {

using sync::Bytes;

/// What a protocol does for its units that move.
class HomeKeeper {
 public:
  virtual ~HomeKeeper() = default;
  /// Keep this node's copy until let_go(), if there is a clean one and the home is elsewhere. False if not.
  virtual bool hold(PageId page) = 0;
  /// `at_home`: the unit's home is this node now.
  virtual void let_go(PageId page, bool at_home) = 0;
};

class HomeMoves {
 public:
  HomeMoves(ProtocolEnv& env, HomeKeeper& keeper) : env_(env), keeper_(keeper) {}

  /// This node wrote the units since the last barrier: heads in order. May name a unit again.
  void note_written(std::span<const PageId> units);

  /// This node arrives at a barrier, all that it wrote is flushed: its claims and its vote. Nothing if it has nothing to say.
  void append_arrival(Bytes& out);
  /// Makes one payload of two. Both must be well formed.
  static void merge(Bytes& sum, std::span<const std::byte> other);
  /// Everybody's payload (checked here: malformed input stops the process) and the intervals announced at the same barrier, which have been acted upon.
  void pass_barrier(std::span<const std::byte> sum, std::span<const IntervalView> intervals, bool may_move_shared = false);

 private:
  struct Claim {
    NodeId node{};
    std::uint64_t serial = 0;
    std::vector<PageId> units;
  };
  struct Write {
    PageId page{};
    NodeId node{};
    friend auto operator<=>(const Write&, const Write&) = default;
  };
  struct Said {
    bool veto = false;
    std::vector<Claim> claims;
  };
  [[nodiscard]] Said decode(std::span<const std::byte> sum) const;
  [[nodiscard]] std::vector<Write> writes_of(std::span<const IntervalView> intervals) const;
  static bool wrote_alone(const std::vector<Write>& writes, PageId page, NodeId node);
  [[nodiscard]] bool wrote_alone_before(PageId page);
  void move(const Claim& claim, PageId page);

  // PageEntry::data of a unit whose home is elsewhere: the last two epochs in which this node wrote it, and in which nobody else did.
  struct History {
    std::uint32_t written = 0;
    std::uint32_t alone = 0;
  };
  static History history(const PageEntry& entry) {
    return {static_cast<std::uint32_t>(entry.data), static_cast<std::uint32_t>(entry.data >> 32)};
  }
  static void set_history(PageEntry& entry, History history) { entry.data = history.written | std::uint64_t{history.alone} << 32; }

  ProtocolEnv& env_;
  HomeKeeper& keeper_;
  std::uint32_t epoch_ = 2;      // barriers passed at which anybody said anything; 0 in a History is never
  std::vector<PageId> written_;  // in this epoch, each once
  std::vector<Claim> standing_;  // claims of the last barrier that nobody contradicted: the same on all nodes
};

}  // namespace netvm::dsm
