// Credit bank: the system buffers of a node, lent to its peers as credits (Ong 2003, chapter 4: flow control). A peer may have sent as many
// packets as its limit says; the limit is cumulative, so that losing or doubling the packet that tells it is harmless.
//
// A peer is any node, this one too: its requests to itself go as packets when a page is missing. Each peer has a share of its own to begin with; the other half of the buffers follows demand. A peer that uses up what it has gets
// twice as much while there is some; one that has more than a fair share stops growing, and gives back, as soon as another one is short.
//
// Invariants
//  1. By admission: what all peers hold together (credits they have not used, and buffers their packets lie in) never exceeds the slots.
//  2. A peer's first share is at least 1 and is never taken away, so every peer can always send in the end.
//  3. Limits only grow (modulo 2^32), in steps: whoever reads a new one takes a lock for it.
//  4. A peer whose packets exceed its limit is refused (accept()); nothing is lent to it on account of them.
// Threads: the driver of the NIC. Run to completion.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include "runtime/ids.hpp"

namespace netvm::nic {

class CreditBank final {
 public:
  struct Options {
    std::uint32_t nodes = 1;
    std::uint32_t slots = 0;  ///< raised to one for each node
    std::uint32_t first_credit = 0;
  };
  /// What a peer may send before it has heard anything. A function of what all nodes of a job know.
  static std::uint32_t initial_share(std::uint32_t nodes, std::uint32_t slots);

  explicit CreditBank(const Options& options);

  /// A packet of the peer that takes a credit has arrived. False: it had none.
  [[nodiscard]] bool accept(NodeId id) {
    Peer& peer = peers_[id.value];
    if (peer.published - peer.accepted <= peer.target / 4 + 1) [[unlikely]]
      return accept_near_limit(id);
    ++peer.accepted;
    return true;
  }
  /// Its packet's buffer is free again.
  void release(NodeId id) {
    Peer& peer = peers_[id.value];
    if (hungry_ != 0 || peer.closed || peer.returned == peer.accepted || holds(id) > peer.target) [[unlikely]]
      return release_and_share(id);
    ++peer.returned;
    ++peer.granted;  // what it gave up it may have again: together they hold as much as before
    if (peer.granted - peer.published >= peer.step) peer.published = peer.granted;
  }
  /// The peer will not use `credits` of those it has. False: it has not so many.
  [[nodiscard]] bool take_back(NodeId peer, std::uint32_t credits);
  /// The peer is gone: what it held is free.
  void close(NodeId peer);

  [[nodiscard]] std::uint32_t limit(NodeId peer) const { return peers_[peer.value].published; }
  /// Credits that the peer has, if it knows the limit `told`.
  [[nodiscard]] std::uint32_t unspent(NodeId peer, std::uint32_t told) const { return told - peers_[peer.value].accepted; }
  [[nodiscard]] std::uint32_t unspent(NodeId peer) const { return unspent(peer, limit(peer)); }
  [[nodiscard]] std::uint32_t holds(NodeId peer) const { return peers_[peer.value].granted - peers_[peer.value].returned; }
  [[nodiscard]] std::uint32_t slots() const { return slots_; }
  [[nodiscard]] std::uint32_t held() const { return held_; }
  [[nodiscard]] std::uint32_t fair_share() const { return fair_; }

  /// Peers to whom something new must be told, each once: a limit that has grown while they had none, or a wish to have credits back.
  [[nodiscard]] bool has_news() const { return !news_.empty(); }
  bool next_news(NodeId* peer);
  /// How many credits the peer should give back; told once.
  std::uint32_t wanted_back(NodeId peer);

 private:
  struct Peer {
    std::uint32_t granted = 0;    // cumulative, as are the next three
    std::uint32_t published = 0;  // of it: the limit; it follows in steps
    std::uint32_t accepted = 0;
    std::uint32_t returned = 0;
    std::uint32_t target = 0;  // what it should hold
    std::uint32_t step = 1;    // by which the limit grows, at least
    std::uint32_t wanted_back = 0;
    bool hungry = false;  // has used up what it had, and there was no more
    bool news = false;
    bool closed = false;
  };

  bool accept_near_limit(NodeId id);
  void release_and_share(NodeId id);
  void top_up(NodeId id);
  void serve_hungry(NodeId not_this);
  void recall(NodeId for_whom);
  void tell(NodeId id);
  [[nodiscard]] std::uint32_t promised_to_others(NodeId id) const;

  std::uint32_t slots_;
  std::uint32_t initial_;
  std::uint32_t fair_;
  std::uint32_t held_ = 0;
  std::uint32_t hungry_ = 0;
  std::uint32_t next_hungry_ = 0;
  std::vector<Peer> peers_;
  std::vector<NodeId> news_;
};

}  // namespace netvm::nic
