// The credit bank: never lends more than there is, never lets anybody starve, and moves credits to those who use them.
#include "nic/credit_bank.hpp"

#include <doctest/doctest.h>

#include <random>
#include <vector>

using namespace netvm;
using namespace netvm::nic;

namespace {

/// The peers as they are: what each knows of its limit, has sent, and lies in buffers.
struct Model {
  CreditBank bank;
  std::vector<std::uint32_t> known, sent, held;

  explicit Model(const CreditBank::Options& options) : bank(options) {
    const std::uint32_t share = CreditBank::initial_share(options.nodes, options.slots);
    known.assign(options.nodes, options.first_credit + share);
    sent.assign(options.nodes, options.first_credit);
    held.assign(options.nodes, 0);
  }
  [[nodiscard]] std::uint32_t peers() const { return static_cast<std::uint32_t>(known.size()); }
  [[nodiscard]] std::uint32_t credits(std::uint32_t peer) const { return known[peer] - sent[peer]; }
  /// What all peers could fill at once: invariant 1, seen from outside.
  [[nodiscard]] std::uint64_t exposure() const {
    std::uint64_t sum = 0;
    for (std::uint32_t peer = 0; peer < peers(); ++peer) sum += held[peer] + bank.unspent(NodeId{peer});
    return sum;
  }
  void hear(std::uint32_t peer) { known[peer] = bank.limit(NodeId{peer}); }
  void send(std::uint32_t peer) {
    REQUIRE(bank.accept(NodeId{peer}));
    ++sent[peer];
    ++held[peer];
  }
  void retire(std::uint32_t peer) {
    bank.release(NodeId{peer});
    --held[peer];
  }
  /// Does what the NIC does with news: peers learn their limits, and give back what is asked of them.
  void pass_news() {
    NodeId peer;
    while (bank.next_news(&peer)) {
      hear(peer.value);
      const std::uint32_t wanted = bank.wanted_back(peer);
      const std::uint32_t spare = credits(peer.value);
      const std::uint32_t given = std::min(wanted, spare > 0 ? spare - 1 : 0);
      if (given == 0) continue;
      sent[peer.value] += given;
      CHECK(bank.take_back(peer, given));
    }
  }
};

}  // namespace

TEST_CASE("whatever peers do, together they never hold more than the slots, and limits never shrink") {
  for (unsigned seed = 1; seed <= 300; ++seed) {
    std::mt19937 random(seed);
    const std::uint32_t nodes = 1 + random() % 9;
    const std::uint32_t slots = 1 + random() % (seed % 3 == 0 ? 12 : 400);
    Model model({.nodes = nodes, .slots = slots, .first_credit = seed % 2 == 0 ? 0xffff'ffc0 : 0});
    std::vector<std::uint32_t> before(nodes);
    for (std::uint32_t peer = 0; peer < nodes; ++peer) before[peer] = model.bank.limit(NodeId{peer});
    for (int step = 0; step < 3000; ++step) {
      const std::uint32_t peer = random() % (step / 500 % 2 == 0 ? nodes : 1 + nodes / 2);
      switch (random() % 4) {
        case 0:
          model.hear(peer);
          break;
        case 1:
        case 2:
          if (model.credits(peer) != 0) model.send(peer);
          break;
        default:
          if (model.held[peer] != 0) model.retire(peer);
      }
      if (random() % 3 == 0) model.pass_news();
      REQUIRE(model.exposure() <= model.bank.slots());
      REQUIRE(model.bank.held() <= model.bank.slots());
      for (std::uint32_t other = 0; other < nodes; ++other) {
        const std::uint32_t limit = model.bank.limit(NodeId{other});
        REQUIRE_FALSE(limit - before[other] > 0x8000'0000U);
        before[other] = limit;
      }
    }
    // When all buffers are free again, everybody can send: nobody has been starved for good.
    for (std::uint32_t peer = 0; peer < nodes; ++peer) {
      while (model.held[peer] != 0) model.retire(peer);
    }
    model.pass_news();
    for (std::uint32_t peer = 0; peer < nodes; ++peer) {
      model.hear(peer);
      CHECK(model.credits(peer) >= 1);
    }
  }
}

TEST_CASE("a peer that sends without credit is refused, and it changes nothing for the others") {
  Model model({.nodes = 2, .slots = 8});
  while (model.bank.unspent(NodeId{0}) != 0) model.send(0);
  for (int i = 0; i < 100; ++i) CHECK_FALSE(model.bank.accept(NodeId{0}));
  CHECK(model.exposure() <= 8);
  CHECK(model.bank.unspent(NodeId{1}) >= 1);
  model.send(1);
  CHECK_FALSE(model.bank.take_back(NodeId{0}, 1));  // nor can it give back what it has not
}

TEST_CASE("the one that is busy gets nearly all; when another needs some, both get a fair share") {
  Model model({.nodes = 4, .slots = 256});
  const std::uint32_t first = model.bank.holds(NodeId{0});
  const auto work = [&](std::uint32_t peer, int packets) {
    for (int i = 0; i < packets; ++i) {
      model.hear(peer);
      while (model.credits(peer) > 0 && model.held[peer] < 1000) model.send(peer);
      model.pass_news();
      for (std::uint32_t n = model.held[peer]; n > 0; --n) model.retire(peer);
      model.pass_news();
    }
  };
  work(0, 50);
  CHECK(model.bank.holds(NodeId{0}) > 2 * first);
  CHECK(model.bank.holds(NodeId{0}) >= 256 - 3 * first - 1);
  work(1, 50);  // peer 0 is silent now, with all it has: it has to be asked
  CHECK(model.bank.holds(NodeId{1}) >= model.bank.fair_share());
  CHECK(model.bank.holds(NodeId{0}) >= 1);
  CHECK(model.exposure() <= 256);
}

TEST_CASE("what a dead peer held goes to the living") {
  Model model({.nodes = 2, .slots = 100});
  while (model.bank.unspent(NodeId{0}) != 0) model.send(0);
  const std::uint32_t dead = model.bank.holds(NodeId{0});
  CHECK(dead > 50);
  model.bank.close(NodeId{0});
  CHECK(model.bank.held() == model.bank.holds(NodeId{1}));
  CHECK_FALSE(model.bank.accept(NodeId{0}));
  model.bank.release(NodeId{0});  // one of its packets was waiting for a page
  while (model.bank.unspent(NodeId{1}) != 0) model.send(1);
  CHECK(model.bank.holds(NodeId{1}) == 100);
}
