// The request table: every operation ends once, and no answer reaches what it does not belong to.
#include "nic/request_table.hpp"

#include <doctest/doctest.h>

#include <array>
#include <thread>
#include <vector>

#include "runtime/real_env.hpp"

using namespace netvm;
using namespace netvm::nic;

namespace {

PacketHeader done(std::uint64_t id, Status status = Status::ok) {
  PacketHeader h;
  h.opcode = Opcode::done;
  h.request = id;
  h.code = static_cast<std::uint8_t>(status);
  return h;
}

RequestTable::Request request(RequestTable::Operation* operation, NodeId target, Opcode opcode = Opcode::write, std::uint32_t bytes = 0) {
  return {operation, target, opcode, 0, bytes, nullptr};
}

}  // namespace

TEST_CASE("an operation of several requests ends with the last of them and the first error") {
  RealEnv env;
  std::array<DirectTarget, 2> targets;
  RequestTable table(targets);
  Completion completion;
  RequestTable::Operation* operation = table.open(&completion, 3);
  Status refused = Status::ok;
  std::uint64_t ids[3];
  for (std::uint64_t& id : ids) id = table.issue(request(operation, NodeId{1}), &refused);
  CHECK(targets[1].outstanding.load() == 3);
  const Status ends[3] = {Status::ok, Status::range, Status::perm};
  for (int i = 0; i < 3; ++i) {
    CHECK_FALSE(completion.done());
    RequestTable::Request taken;
    REQUIRE(table.take(done(ids[i], ends[i]), NodeId{1}, &taken));
    table.end_request(taken.operation, ends[i], 0, env);
  }
  CHECK(completion.done());
  CHECK(completion.status() == Status::range);
  CHECK(targets[1].outstanding.load() == 0);
}

TEST_CASE("pitfall 12: an answer matches once, from the node that was asked, of the kind that was asked for") {
  std::array<DirectTarget, 3> targets;
  RequestTable table(targets);
  Completion completion;
  Status refused = Status::ok;
  RequestTable::Operation* operation = table.open(&completion, 1);
  const std::uint64_t id = table.issue(request(operation, NodeId{1}, Opcode::read, 100), &refused);
  RequestTable::Request taken;
  CHECK_FALSE(table.take(done(id, Status::range), NodeId{2}, &taken));
  CHECK_FALSE(table.take(done(id ^ 1, Status::range), NodeId{1}, &taken));
  CHECK_FALSE(table.take(done(id + (std::uint64_t{1} << 32), Status::range), NodeId{1}, &taken));
  CHECK_FALSE(table.take(done(~std::uint64_t{0}, Status::range), NodeId{1}, &taken));
  CHECK_FALSE(table.take(done(id), NodeId{1}, &taken));  // a read that "went well" without bytes
  PacketHeader data = done(id);
  data.opcode = Opcode::data;
  data.bytes = 99;
  CHECK_FALSE(table.take(data, NodeId{1}, &taken));  // one byte short
  data.bytes = 100;
  CHECK(table.take(data, NodeId{1}, &taken));
  CHECK_FALSE(table.take(data, NodeId{1}, &taken));  // doubled

  RequestTable::Operation* next = table.open(&completion, 1);
  const std::uint64_t reused = table.issue(request(next, NodeId{1}), &refused);
  CHECK(static_cast<std::uint32_t>(reused) == static_cast<std::uint32_t>(id));  // the same slot
  CHECK_FALSE(table.take(done(id), NodeId{1}, &taken));                         // an answer to its earlier life
  CHECK(table.take(done(reused), NodeId{1}, &taken));
}

TEST_CASE("the death of a node ends what it was asked, refuses what comes later, and leaves the others alone") {
  RealEnv env;
  std::array<DirectTarget, 3> targets;
  RequestTable table(targets);
  Completion to_dead, to_living, later;
  Status refused = Status::ok;
  table.issue(request(table.open(&to_dead, 1), NodeId{1}), &refused);
  const std::uint64_t living = table.issue(request(table.open(&to_living, 1), NodeId{2}), &refused);
  table.end_all(NodeId{1}, Status::peer_dead, env);
  CHECK(to_dead.done());
  CHECK(to_dead.status() == Status::peer_dead);
  CHECK_FALSE(to_living.done());
  CHECK(table.issue(request(table.open(&later, 1), NodeId{1}), &refused) == 0);
  CHECK(refused == Status::peer_dead);
  table.end_all(Status::cancelled, env);
  CHECK(to_living.status() == Status::cancelled);
  RequestTable::Request taken;
  CHECK_FALSE(table.take(done(living), NodeId{2}, &taken));
}

TEST_CASE("operations of several threads, answered by another, each end once") {
  RealEnv env;
  std::array<DirectTarget, 2> targets;
  RequestTable table(targets);
  constexpr int kThreads = 3, kEach = 3000;
  std::vector<std::atomic<std::uint64_t>> ids(kThreads * kEach);
  std::atomic<int> ended{0};
  std::vector<std::thread> posters;
  for (int t = 0; t < kThreads; ++t) {
    posters.emplace_back([&, t] {
      for (int i = 0; i < kEach; ++i) {
        Completion completion;
        Status refused = Status::ok;
        ids[static_cast<std::size_t>(t * kEach + i)].store(table.issue(request(table.open(&completion, 1), NodeId{1}), &refused));
        while (!completion.done()) std::this_thread::yield();
        ended.fetch_add(1);
      }
    });
  }
  std::vector<std::size_t> at(kThreads, 0);
  for (int answered = 0; answered < kThreads * kEach;) {
    for (std::size_t t = 0; t < kThreads; ++t) {
      if (at[t] == kEach) continue;
      const std::uint64_t id = ids[t * kEach + at[t]].load();
      if (id == 0) {
        std::this_thread::yield();
        continue;
      }
      RequestTable::Request taken;
      if (!table.take(done(id), NodeId{1}, &taken)) continue;
      table.end_request(taken.operation, Status::ok, 0, env);
      ++at[t];
      ++answered;
    }
  }
  for (std::thread& poster : posters) poster.join();
  CHECK(ended.load() == kThreads * kEach);
  CHECK(targets[1].outstanding.load() == 0);
}
