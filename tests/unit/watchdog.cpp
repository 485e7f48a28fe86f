// What the watchdog makes of who waits for what and who holds it.
#include "sync/watchdog.hpp"

#include <doctest/doctest.h>
#include <fmt/format.h>

#include "runtime/random.hpp"

namespace netvm::sync {
namespace {

constexpr Nanos kSecond = 1'000'000'000;

Standing waits(std::uint32_t node, std::uint64_t who, std::uint64_t object, Nanos age) {
  return {NodeId{node}, false, "mutex", SyncId{object}, who, age};
}
Standing holds(std::uint32_t node, std::uint64_t who, std::uint64_t object) { return {NodeId{node}, true, "", SyncId{object}, who, 0}; }

std::string name(SyncId id) { return fmt::format("M{}", id.offset); }

TEST_CASE("watchdog: a wait is told with its holder, and what the holder waits for") {
  const std::vector<Standing> all{waits(1, 3, 7, 5 * kSecond), holds(0, 2, 7), waits(0, 2, 8, kSecond), waits(1, 4, 8, kSecond)};
  const auto lines = describe_waits(NodeId{1}, all, 2 * kSecond, name);
  REQUIRE(lines.size() == 1);
  CHECK(lines[0] == "thread 2 of node 1 has waited 5.0 s for the mutex M7, which thread 1 of node 0 holds, which waits for the mutex M8");
  CHECK(describe_waits(NodeId{0}, all, 2 * kSecond, name).empty());
  CHECK(describe_waits(NodeId{0}, all, kSecond, name) ==
        std::vector<std::string>{"thread 1 of node 0 has waited 1.0 s for the mutex M8; nobody "
                                 "holds it"});
}

TEST_CASE("watchdog: of what nobody can hold it says how it stands") {
  const auto line_of = [](const char* what, std::uint64_t value, std::uint64_t other) {
    const SyncId object = SyncId::of_object(7);
    const std::vector<Standing> all{{NodeId{1}, false, what, object, 3, 5 * kSecond},
                                    {NodeId{0}, true, "", object, Held::kState, 0, value, other}};
    const auto lines = describe_waits(NodeId{1}, all, 2 * kSecond, [](SyncId) { return std::string("X"); });
    REQUIRE(lines.size() == 1);
    return lines[0].substr(std::string("thread 2 of node 1 has waited 5.0 s for the ").size());
  };
  CHECK(line_of("semaphore", 0, 1) == "semaphore X; it has 0 permits, and 1 thread waits");
  CHECK(line_of("condition", 0, 2) == "condition X; 2 threads wait to be notified");
  CHECK(line_of("barrier", 2, 4) == "barrier X; 2 of its 4 arrivals are missing");
  CHECK(line_of("latch", 3, 0) == "latch X; its count is 3");
  CHECK(line_of("flag", 0, 0) == "flag X; it is not set");
  CHECK(line_of("once flag", 1, 3) == "once flag X; a thread of node 2 runs its function");
  CHECK(line_of("rw lock", 0, 1) == "rw lock X; a thread of node 0 writes");
  CHECK(line_of("rw lock", 2, 0) == "rw lock X; others read");
}

TEST_CASE("watchdog: a wait for an event counter is told with its value; nobody holds one") {
  const Standing by_nic{NodeId{1}, false, "event counter", counter_object(5), 0, 5 * kSecond, 3, 16};
  Standing by_thread = by_nic;
  by_thread.who = 2;
  const std::vector<Standing> all{by_nic, by_thread, holds(1, 2, 7), waits(1, 3, 7, 5 * kSecond)};
  const auto lines = describe_waits(NodeId{1}, all, 2 * kSecond, name);
  REQUIRE(lines.size() == 3);
  CHECK(lines[0] == "a thread of node 1 has waited 5.0 s for event counter 5 to reach 16, which is at 3");
  CHECK(lines[1] == "thread 1 of node 1 has waited 5.0 s for event counter 5 to reach 16, which is at 3");
  CHECK(
      lines[2] ==
      "thread 2 of node 1 has waited 5.0 s for the mutex M7, which thread 1 of node 1 holds, which waits for event counter 5 to reach 16, "
      "which is at 3");
}

TEST_CASE("watchdog: a question to a node that has not answered is told, and who is no thread of the program is a task") {
  const std::vector<Standing> all{{NodeId{1}, false, "allocation", answer_object(NodeId{0}), 0, 5 * kSecond},
                                  waits(1, kFirstTask + 7, 7, 5 * kSecond),
                                  {NodeId{1}, false, "page", page_object(PageId{0}), 0, 5 * kSecond}};
  const auto lines = describe_waits(NodeId{1}, all, 2 * kSecond, name);
  REQUIRE(lines.size() == 3);
  CHECK(lines[0] == "a thread of node 1 has waited 5.0 s for the table of shared memory at node 0, which has not answered");
  CHECK(lines[1] == "a task of node 1 has waited 5.0 s for the mutex M7; nobody holds it");
  CHECK(lines[2] == "a thread of node 1 has waited 5.0 s for a page of shared memory, M0");
}

TEST_CASE("watchdog: a wait inside another of the same thread and object has that one's name; one without a name is not told") {
  Waits all;
  const Waits::Scope outer(all, {"thread's end", SyncId{7}, 1, 10});
  const Waits::Scope inner(all, {"flag", SyncId{7}, 1, 11});
  const Waits::Scope another(all, {"flag", SyncId{7}, 2, 12});
  const Waits::Scope idle(all, {"", SyncId{8}, 3, 13});
  const Waits::Scope inside_idle(all, {"semaphore", SyncId{8}, 3, 14});
  const Waits::Scope elsewhere(all, {"mutex", SyncId{9}, 3, 15});
  const std::vector<Wait> told = all.all();
  REQUIRE(told.size() == 3);
  CHECK(std::string(told[0].what) == "thread's end");
  CHECK((std::string(told[1].what) == "flag" && told[1].who == 2));
  CHECK((std::string(told[2].what) == "mutex" && told[2].who == 3));
}

TEST_CASE("watchdog: a circle is told once, as a deadlock") {
  const std::vector<Standing> all{waits(0, 1, 7, 5 * kSecond), holds(0, 1, 8), waits(1, 2, 8, 5 * kSecond), holds(1, 2, 7),
                                  waits(0, 9, 7, 5 * kSecond)};
  const auto lines = describe_waits(NodeId{0}, all, kSecond, name);
  REQUIRE(lines.size() == 3);
  CHECK(lines[1] ==
        "this is a deadlock: thread 0 of node 0 waits for the mutex M7, thread 1 of node 1 waits for the mutex M8, which the first of them "
        "holds");
  CHECK(lines[2].starts_with("thread 8 of node 0 has waited"));
}

TEST_CASE("watchdog: answers survive the wire; others are refused") {
  std::vector<Standing> all{waits(0, 1, 7, 5), holds(0, 1, 8)};
  all[0].value = 3;
  all[0].awaited = 4;
  const Bytes body = encode_standings(42, all);
  const auto decoded = decode_standings(NodeId{3}, body);
  REQUIRE(decoded.has_value());
  CHECK(decoded->first == 42);
  REQUIRE(decoded->second.size() == 2);
  CHECK(decoded->second[0].node == NodeId{3});
  CHECK(decoded->second[0].what == "mutex");
  CHECK(decoded->second[0].age == 5);
  CHECK((decoded->second[0].value == 3 && decoded->second[0].awaited == 4));
  CHECK(decoded->second[1].holds);
  CHECK_FALSE(decode_standings(NodeId{3}, std::span(body).first(body.size() - 1)).has_value());
  SplitMix64 random(9);
  for (int round = 0; round < 20'000; ++round) {
    Bytes noise(random.below(120));
    for (std::byte& b : noise) b = static_cast<std::byte>(random.below(3));
    if (const auto made = decode_standings(NodeId{0}, noise)) CHECK(made->second.size() * 64 + 16 == noise.size());
  }
}

}  // namespace
}  // namespace netvm::sync
