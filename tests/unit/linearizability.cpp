// The checker of tests/support/linearizability.hpp: histories of which one can say by hand whether they are linearizable.
#include "tests/support/linearizability.hpp"

#include <doctest/doctest.h>

#include "tests/support/sync_models.hpp"

namespace netvm::test {
namespace {

using Kind = LockModel::Kind;

TEST_CASE("two locks that overlap may be in either order; one inside the other's hold may not") {
  std::vector<Operation<LockModel>> history{{1, 4, {Kind::lock, 1}}, {2, 6, {Kind::lock, 2}}, {5, 7, {Kind::unlock, 1}}};
  Linearization found = linearize<LockModel>(history, {});
  CHECK(found.verdict == Linearizable::yes);
  CHECK(found.order == std::vector<std::size_t>{0, 2, 1});
  history[1].returned = 3;  // before the unlock is called, and before the first lock returns
  CHECK(linearize<LockModel>(history, {}).verdict == Linearizable::no);
  history.pop_back();
  CHECK(linearize<LockModel>(history, {}).verdict == Linearizable::no);
  CHECK(describe(history, linearize<LockModel>(history, {})).find("2 lock") != std::string::npos);
}

TEST_CASE("what never returned may have happened, or not") {
  std::vector<Operation<LockModel>> history{{1, 2, {Kind::lock, 1}}, {3, kNeverReturned, {Kind::unlock, 1}}};
  CHECK(linearize<LockModel>(history, {}).verdict == Linearizable::yes);
  history.push_back({4, 5, {Kind::lock, 2}});
  CHECK(linearize<LockModel>(history, {}).verdict == Linearizable::yes);
  history.push_back({6, 7, {Kind::lock, 3}});
  CHECK(linearize<LockModel>(history, {}).verdict == Linearizable::no);
}

TEST_CASE("readers share, writers do not, and a timeout needs a reason") {
  const std::vector<Operation<LockModel>> history{{1, 2, {Kind::lock_shared, 1}},
                                                  {3, 4, {Kind::lock_shared, 2}},
                                                  {5, 6, {Kind::lock, 3, false, false}},
                                                  {7, 8, {Kind::unlock_shared, 1}}};
  CHECK(linearize<LockModel>(history, {}).verdict == Linearizable::yes);
  CHECK(linearize<LockModel>({{1, 2, {Kind::lock, 3, false, false}}}, {}).verdict == Linearizable::no);
  CHECK(linearize<LockModel>({{1, 2, {Kind::lock, 3, true, false}}}, {}).verdict == Linearizable::yes);  // it spent its time on the way
  CHECK(linearize<LockModel>({{1, 2, {Kind::lock_shared, 1}}, {3, 4, {Kind::lock, 3}}}, {}).verdict == Linearizable::no);
}

TEST_CASE("a permit is had once") {
  std::vector<Operation<SemaphoreModel>> history{{1, 10, {1, 0, false, true}}, {2, 9, {2, 0, false, true}}, {3, 4, {3, 1, false, true}}};
  CHECK(linearize<SemaphoreModel>(history, 0).verdict == Linearizable::no);
  CHECK(linearize<SemaphoreModel>(history, 1).verdict == Linearizable::yes);
  history.push_back({11, 12, {4, 0, false, false}});
  CHECK(linearize<SemaphoreModel>(history, 1).verdict == Linearizable::yes);
  CHECK(linearize<SemaphoreModel>(history, 2).verdict == Linearizable::no);  // there was one left
}

TEST_CASE("who came first is woken first") {
  using Queue = WaitQueueModel::Kind;
  std::vector<Operation<WaitQueueModel>> history{
      {1, 2, {Queue::enqueue, 1}}, {3, 4, {Queue::enqueue, 2}}, {5, 6, {Queue::wake, 0, 1, 1}}, {7, 8, {Queue::wait, 1, 0, 1}}};
  CHECK(linearize<WaitQueueModel>(history, {}).verdict == Linearizable::yes);
  history.back().op.who = 2;
  CHECK(linearize<WaitQueueModel>(history, {}).verdict == Linearizable::no);
  history.front().returned = 4;  // the two came at the same time
  CHECK(linearize<WaitQueueModel>(history, {}).verdict == Linearizable::yes);
}

TEST_CASE("a search that takes too long says so") {
  std::vector<Operation<SemaphoreModel>> history;
  for (std::uint64_t i = 0; i < 40; ++i) history.push_back({i + 1, 100 + i, {i, i % 2, false, true}});
  history.push_back({200, 201, {99, 0, false, false}});
  CHECK(linearize<SemaphoreModel>(history, 1, 10).verdict == Linearizable::undecided);
}

}  // namespace
}  // namespace netvm::test
