// What becomes of locks when nodes have died, and the messages that say so.
#include "sync/recovery_plan.hpp"

#include <doctest/doctest.h>

#include <map>
#include <set>

#include "runtime/random.hpp"
#include "sync/recovery_wire.hpp"

namespace netvm::sync {
namespace {

using Place = LockReport::Place;
using Fate = LockVerdict::Fate;
using Reports = std::map<NodeId, std::vector<LockReport>>;

constexpr std::uint64_t kLock = 0x100;
const auto kAll = [](std::uint64_t) { return true; };
const auto kNone = [](std::uint64_t) { return false; };

LockReport queued(std::uint32_t behind) { return {kLock, 5, NodeId{behind}, Place::queued}; }
LockReport at(Place place, std::uint64_t epoch = 7) { return {kLock, epoch, {}, place}; }

/// Whom each node that is told anything is to ask; it is told nothing else.
std::map<std::uint32_t, std::uint32_t> asks_of(const RecoveryPlan& plan) {
  std::map<std::uint32_t, std::uint32_t> asks;
  for (const auto& [node, verdicts] : plan.verdicts) {
    REQUIRE(verdicts.size() == 1);
    CHECK(verdicts[0].fate == Fate::ask);
    asks[node.value] = verdicts[0].predecessor.value;
  }
  return asks;
}

TEST_CASE("recovery: who was queued behind the dead is queued behind the rest, in order") {
  // 0 has it; 4 behind it; 1 behind 9, which died; 2 behind 1; 3 behind 8, which died.
  const Reports reports{{NodeId{0}, {at(Place::here)}},
                        {NodeId{1}, {queued(9)}},
                        {NodeId{2}, {queued(1)}},
                        {NodeId{3}, {queued(8)}},
                        {NodeId{4}, {queued(0)}}};
  const RecoveryPlan plan = plan_recovery(reports, {{kLock, 4}}, kAll);
  REQUIRE_FALSE(plan.conflict.has_value());
  CHECK(asks_of(plan) == std::map<std::uint32_t, std::uint32_t>{{4, 0}, {3, 4}, {1, 3}, {2, 1}});
  CHECK(plan.tails == std::map<std::uint64_t, std::uint64_t>{{kLock, 2 + 1}});
}

// 1 and 2 asked 0 in the life that has ended, 3 in this one.
TEST_CASE("recovery: nobody is left out where several are queued behind one node") {
  const Reports reports{{NodeId{0}, {at(Place::here)}},
                        {NodeId{1}, {queued(0)}},
                        {NodeId{2}, {queued(1)}},
                        {NodeId{3}, {queued(0)}},
                        {NodeId{4}, {queued(0)}}};
  const RecoveryPlan plan = plan_recovery(reports, {{kLock, 4}}, kAll);
  std::set<std::uint32_t> followed;
  for (const auto& [node, predecessor] : asks_of(plan)) CHECK(followed.insert(predecessor).second);  // each has one behind it
  CHECK(followed.size() == 4);
  CHECK(followed.contains(0));
  CHECK_FALSE(followed.contains(static_cast<std::uint32_t>(plan.tails.at(kLock)) - 1));
}

TEST_CASE("recovery: without a token a lock that was used is lost, and all who know it are told") {
  const Reports reports{{NodeId{0}, {at(Place::away, 9)}}, {NodeId{1}, {queued(2)}}};
  const RecoveryPlan plan = plan_recovery(reports, {{kLock, 2}}, kAll);
  for (const std::uint32_t node : {0U, 1U}) {
    REQUIRE(plan.verdicts.at(NodeId{node}).size() == 1);
    CHECK(plan.verdicts.at(NodeId{node})[0].fate == Fate::lost);
    CHECK(plan.verdicts.at(NodeId{node})[0].epoch == 9 + kLostEpochs);
  }
  CHECK(plan.tails.at(kLock) == (kLostTail | (9 + kLostEpochs)));
  // Nobody but the table knows it.
  CHECK(plan_recovery({}, {{kLock, 2}}, kAll).tails.at(kLock) == (kLostTail | kLostEpochs));
  // The death before may have ended a life of it, too.
  CHECK(plan_recovery({}, {{kLock, 2}}, kAll, 2).tails.at(kLock) == (kLostTail | (2 * kLostEpochs)));
}

TEST_CASE("recovery: a lock that is lost stays lost, with its epoch") {
  const RecoveryPlan plan =
      plan_recovery({{NodeId{0}, {at(Place::lost, 3)}}, {NodeId{1}, {at(Place::away, 1)}}}, {{kLock, kLostTail | 77}}, kAll);
  CHECK(plan.tails.at(kLock) == (kLostTail | 77));
  CHECK_FALSE(plan.verdicts.contains(NodeId{0}));
  CHECK(plan.verdicts.at(NodeId{1})[0].epoch == 77);
}

TEST_CASE("recovery: a lock that nobody used is left alone, unless its keeper cannot know") {
  const Reports reports{{NodeId{0}, {at(Place::away, 0)}}};
  CHECK(plan_recovery(reports, {}, kAll).tails.empty());
  CHECK(plan_recovery(reports, {}, kNone).verdicts.at(NodeId{0})[0].fate == Fate::lost);
}

TEST_CASE("recovery: two tokens of one lock are noticed") {
  const Reports reports{{NodeId{0}, {at(Place::here)}}, {NodeId{1}, {at(Place::here)}}};
  CHECK(plan_recovery(reports, {{kLock, 2}}, kAll).conflict == kLock);
}

TEST_CASE("recovery messages survive the wire; others are refused") {
  RecoveryMessage message{
      RecoveryStep::reports, {NodeId{1}, NodeId{4}}, {{kLock, 5, NodeId{3}, Place::queued}, {1, 2, {}, Place::lost}}, {}};
  Bytes body = encode_recovery(message);
  const auto decoded = decode_recovery(body, 5);
  REQUIRE(decoded.has_value());
  CHECK(decoded->step == RecoveryStep::reports);
  CHECK(decoded->dead == message.dead);
  REQUIRE(decoded->reports.size() == 2);
  CHECK(decoded->reports[0].predecessor == NodeId{3});
  CHECK(decoded->reports[1].place == Place::lost);
  CHECK_FALSE(decode_recovery(body, 4).has_value());  // node 4 of 4
  CHECK_FALSE(decode_recovery(std::span(body).first(body.size() - 1), 5).has_value());
  for (const std::size_t field : {0, 1, 4, 8}) {
    Bytes wrong = body;
    wrong[field] = std::byte{99};
    CHECK_FALSE(decode_recovery(wrong, 5).has_value());
  }
  message = {RecoveryStep::verdicts, {NodeId{1}}, {}, {{kLock, 5, NodeId{3}, Fate::lost}}};
  body = encode_recovery(message);
  CHECK(decode_recovery(body, 5)->verdicts[0].fate == Fate::lost);
  SplitMix64 random(3);
  for (int round = 0; round < 20'000; ++round) {
    Bytes noise(random.below(80));
    for (std::byte& b : noise) b = static_cast<std::byte>(random.below(4));
    if (const auto made = decode_recovery(noise, 3)) CHECK(encode_recovery(*made).size() == noise.size());
  }
}

}  // namespace
}  // namespace netvm::sync
