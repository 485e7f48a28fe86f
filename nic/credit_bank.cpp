#include "nic/credit_bank.hpp"

#include <algorithm>
#include <utility>

#include "runtime/check.hpp"

namespace netvm::nic {

namespace {
// Of a peer, before demand is known; half of the slots in a small job. Who posts faster than packets arrive learns of more credits only when it looks, and
// what it has none for is copied: a stream of a few dozen large writes has to fit.
constexpr std::uint32_t kLargestFirstShare = 1024;
constexpr std::uint32_t kStep = 8;       // a limit is raised in steps of this part of a share: a new limit costs its reader a lock
constexpr std::uint32_t kAskEvery = 16;  // packets of a peer that stays short, until the others are asked again
}  // namespace

std::uint32_t CreditBank::initial_share(std::uint32_t nodes, std::uint32_t slots) {
  return std::clamp<std::uint32_t>(slots / nodes / 2, 1, kLargestFirstShare);
}

CreditBank::CreditBank(const Options& options)
    : slots_(std::max(options.slots, options.nodes)),
      initial_(initial_share(options.nodes, slots_)),
      fair_(slots_ / options.nodes),
      peers_(options.nodes) {
  for (Peer& peer : peers_) {
    peer.accepted = peer.returned = options.first_credit;
    peer.target = initial_;
    peer.granted = peer.published = options.first_credit + initial_;
    held_ += initial_;
  }
  NETVM_CHECK(held_ <= slots_, "first shares of %u together exceed %u slots", held_, slots_);
}

bool CreditBank::accept_near_limit(NodeId id) {
  Peer& peer = peers_[id.value];
  if (peer.closed || peer.accepted == peer.published) return false;
  ++peer.accepted;
  if (unspent(id) <= peer.target / 4) {  // it uses what it has
    peer.target = std::min(2 * std::max(peer.target, 1U), slots_);
    top_up(id);
  }
  return true;
}

void CreditBank::release_and_share(NodeId id) {
  Peer& peer = peers_[id.value];
  if (peer.closed) return;
  NETVM_CHECK(peer.returned != peer.accepted, "node %u gets back a buffer that it does not use", id.value);
  ++peer.returned;
  --held_;
  top_up(id);
  if (hungry_ != 0) serve_hungry(id);
}

bool CreditBank::take_back(NodeId id, std::uint32_t credits) {
  Peer& peer = peers_[id.value];
  if (peer.closed || credits > unspent(id)) return false;
  peer.accepted += credits;
  peer.returned += credits;
  held_ -= credits;
  peer.target = std::min(peer.target, std::max(holds(id), initial_));
  top_up(id);
  serve_hungry(id);
  return true;
}

void CreditBank::close(NodeId id) {
  Peer& peer = peers_[id.value];
  if (peer.closed) return;
  held_ -= holds(id);
  peer.returned = peer.accepted = peer.granted = peer.published;
  peer.closed = true;
  if (peer.hungry) --hungry_;
  peer.hungry = false;
  serve_hungry(id);
}

void CreditBank::top_up(NodeId id) {
  Peer& peer = peers_[id.value];
  if (peer.closed) return;
  const std::uint32_t has = holds(id);
  if (has < peer.target) {
    const std::uint32_t free = slots_ - held_;
    const std::uint32_t promised = has < fair_ || hungry_ == 0 ? 0 : promised_to_others(id);
    const std::uint32_t grant = std::min(peer.target - has, free > promised ? free - promised : 0);
    peer.granted += grant;
    held_ += grant;
    NETVM_CHECK(held_ <= slots_, "%u credits are lent of %u", held_, slots_);
  }
  const bool hungry = holds(id) < std::min(peer.target, fair_);
  if (hungry && (!peer.hungry || peer.accepted % kAskEvery == 0)) recall(id);
  if (hungry != peer.hungry) hungry ? ++hungry_ : --hungry_;
  peer.hungry = hungry;
  peer.step = std::max(holds(id) / kStep, 1U);
  if (peer.granted - peer.published >= peer.step) peer.published = peer.granted;
}

std::uint32_t CreditBank::promised_to_others(NodeId id) const {
  std::uint32_t promised = 0;
  for (std::uint32_t node = 0; node < peers_.size(); ++node) {
    if (!peers_[node].hungry || node == id.value) continue;
    promised += std::min(peers_[node].target, fair_) - holds(NodeId{node});
  }
  return promised;
}

void CreditBank::serve_hungry(NodeId not_this) {
  const auto nodes = static_cast<std::uint32_t>(peers_.size());
  for (std::uint32_t i = 0; i < nodes && hungry_ != 0 && held_ != slots_; ++i) {
    const NodeId id{(next_hungry_ + i) % nodes};
    if (!peers_[id.value].hungry || id == not_this) continue;
    const std::uint32_t before = peers_[id.value].published;
    top_up(id);
    if (peers_[id.value].published != before) tell(id);
  }
  next_hungry_ = (next_hungry_ + 1) % nodes;
}

void CreditBank::recall(NodeId for_whom) {
  for (std::uint32_t node = 0; node < peers_.size(); ++node) {
    Peer& peer = peers_[node];
    const std::uint32_t has = holds(NodeId{node});
    if (node == for_whom.value || peer.closed || has <= fair_) continue;
    peer.target = fair_;  // what its packets free from now on goes to those that are short
    peer.wanted_back = std::min(has - fair_, unspent(NodeId{node}));
    if (peer.wanted_back != 0) tell(NodeId{node});
  }
}

void CreditBank::tell(NodeId id) {
  if (peers_[id.value].news) return;
  peers_[id.value].news = true;
  news_.push_back(id);
}

bool CreditBank::next_news(NodeId* peer) {
  if (news_.empty()) return false;
  *peer = news_.back();
  news_.pop_back();
  peers_[peer->value].news = false;
  return true;
}

std::uint32_t CreditBank::wanted_back(NodeId id) { return std::exchange(peers_[id.value].wanted_back, 0); }

}  // namespace netvm::nic
