// hashtable: full tables, keys that meet in a bucket, the workload, and that a wrong answer is seen.
#include <doctest/doctest.h>

#include <set>
#include <stdexcept>
#include <vector>

#include "apps/gas/hashtable/workload.hpp"

namespace gas::hashtable {
namespace {

TEST_CASE("keys spread over nodes and buckets, and no missing key is one that is there") {
  std::set<std::uint64_t> keys;
  std::vector<int> nodes(5);
  for (std::uint64_t k = 0; k < 2000; ++k) {
    keys.insert(key_of(k));
    const Home home = home_of(key_of(k), 5, 77);
    CHECK(home.bucket < 77);
    ++nodes[static_cast<std::size_t>(home.node)];
  }
  CHECK(keys.size() == 2000);
  for (const int count : nodes) CHECK(count > 300);
  for (std::uint64_t k = 0; k < 2000; ++k) CHECK_FALSE(keys.contains(missing_key_of(k)));
  CHECK_FALSE(keys.contains(0));
}

TEST_CASE("a table takes keys until it is full, and says so") {
  netvm::Job job(1);
  const Table table(job, 3);
  Client client(job, table);
  std::vector<std::uint64_t> keys;
  for (std::uint64_t k = 0; k < 3 * kSlots; ++k) {
    keys.push_back(key_of(k));
    client.add(keys.back(), k + 1);
  }
  client.add(keys.front(), 100);  // one that is there needs no room
  CHECK_THROWS_WITH_AS(client.add(key_of(99), 1), doctest::Contains("the table of node 0 is full: 12 slots"), std::runtime_error);
  keys.push_back(key_of(99));
  std::vector<std::uint64_t> counts(keys.size());
  client.find(keys, counts);
  for (std::uint64_t k = 1; k < 3 * kSlots; ++k) CHECK(counts[k] == k + 1);
  CHECK(counts.front() == 101);
  CHECK(counts.back() == 0);
  CHECK(table.contents(0).size() == 3 * kSlots);
}

TEST_CASE("keys that want the same slots at the same time get one each; the same key gets one") {
  netvm::Job job(1);
  const Table table(job, 1);
  Client client(job, table);
  client.add(std::vector<std::uint64_t>{10, 20, 10, 30, 20, 40}, 1);  // each sees an empty bucket at first
  const std::vector<Slot> contents = table.contents(0);
  REQUIRE(contents.size() == kSlots);
  for (std::size_t i = 0; i < kSlots; ++i) {
    CHECK(contents[i].key == 10 * (i + 1));
    CHECK(contents[i].count == (i < 2 ? 2 : 1));
  }
  CHECK(client.lost() == 5 + 3 + 1);  // the first slot to all but one, the second to all that are left but one
  CHECK(client.fetched() == 6);
  CHECK_THROWS_WITH_AS(client.add(std::vector<std::uint64_t>{10, 50, 20}, 1), doctest::Contains("is full"), std::runtime_error);
}

TEST_CASE("any number of threads counts like one; a wrong table is seen") {
  for (const Parameters& parameters : {Parameters{6000, 500, 0.5}, Parameters{3000, 1, 1.0}, Parameters{3000, 4000, 1.0}}) {
    const SequentialRun sequential(parameters, 1);
    for (const int threads : {1, 4}) {
      netvm::Job job(threads);
      const Table table(job, parameters.buckets(1));
      Result result;
      job.parallel([&](netvm::Thread& me) {
        const Result all = run(job, me, table, parameters);
        if (me.local() == 0) result = all;
      });
      std::vector<Slot> contents = table.contents(0);
      for (const splash2::Check& check : self_test(parameters, contents, result))
        CHECK_MESSAGE(check.passed, check.name, ": ", check.detail);
      CHECK(sequential.compare(contents).passed);
      CHECK(result.found == sequential.found());
      contents.front().count += 1;
      CHECK_FALSE(sequential.compare(contents).passed);
      CHECK_FALSE(self_test(parameters, contents, result).front().passed);
      contents.front().count -= 1;
      contents.push_back({contents.front().key, 0});
      CHECK_FALSE(self_test(parameters, contents, result)[1].passed);
    }
  }
}

}  // namespace
}  // namespace gas::hashtable
