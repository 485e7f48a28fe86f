// The redirect table: what waits for a page leaves in its order, and every page that something waits for is covered by a fault.
#include "nic/redirect_table.hpp"

#include <doctest/doctest.h>

#include <map>
#include <random>
#include <set>

using namespace netvm;
using namespace netvm::nic;

namespace {

std::shared_ptr<RedirectedWrite> a_write(std::uint64_t request = 1) {
  auto write = std::make_shared<RedirectedWrite>();
  write->header.request = request;
  return write;
}

PageRange pages(std::uint64_t first, std::uint64_t count) { return {PageId{first}, count}; }

}  // namespace

TEST_CASE("pieces leave a page first in, first out, and a write has landed when its last one has left") {
  RedirectTable table;
  const auto first = a_write(1);
  const auto second = a_write(2);
  table.queue(PageId{5}, {first, 0, nullptr, 8});
  table.queue(PageId{6}, {first, 4096, nullptr, 8});
  table.queue(PageId{5}, {second, 16, nullptr, 8});
  CHECK(first->pieces_left == 2);
  CHECK(second->pieces_left == 1);
  REQUIRE(table.front(PageId{5}) != nullptr);
  CHECK(table.front(PageId{5})->write == first);
  table.pop(PageId{5});
  CHECK(first->pieces_left == 1);
  CHECK(table.front(PageId{5})->write == second);
  table.pop(PageId{5});
  CHECK(second->pieces_left == 0);
  CHECK(table.front(PageId{5}) == nullptr);
  CHECK(table.holds(PageId{5}));  // until it is released
  CHECK(table.release(PageId{5}).empty());
  CHECK_FALSE(table.holds(PageId{5}));
  CHECK(table.front(PageId{6})->offset == 4096);
  CHECK(table.front(PageId{7}) == nullptr);
  CHECK(table.release(PageId{7}).empty());
}

TEST_CASE("channels that wait for a page are told in the order in which they came") {
  RedirectTable table;
  table.wait(PageId{1}, NodeId{3});
  table.wait(PageId{1}, NodeId{0});
  table.wait(PageId{2}, NodeId{7});
  CHECK(table.release(PageId{1}) == std::vector<NodeId>{NodeId{3}, NodeId{0}});
  CHECK(table.holds(PageId{2}));
  CHECK_FALSE(table.empty());
  CHECK(table.release(PageId{2}) == std::vector<NodeId>{NodeId{7}});
  CHECK(table.empty());
}

TEST_CASE("a work request's whole range is one fault; what it covers is not asked for again") {
  RedirectTable table;
  table.want(PageId{10}, pages(10, 8), true);
  table.want(PageId{11}, pages(11, 7), true);
  table.want(PageId{17}, pages(17, 1), false);
  const auto fault = table.start_next();
  REQUIRE(fault.has_value());
  CHECK(fault->pages == pages(10, 8));
  CHECK(fault->write);
  CHECK_FALSE(table.start_next().has_value());
  table.want(PageId{12}, pages(12, 6), true);  // it is underway
  CHECK_FALSE(table.start_next().has_value());
  CHECK(table.covered(PageId{17}));
  CHECK_FALSE(table.covered(PageId{18}));
}

TEST_CASE("pages that are wanted one after the other are brought in together, unless one is to be alone") {
  RedirectTable table;
  table.want(PageId{1}, pages(1, 1), false);
  table.want(PageId{2}, pages(2, 1), true);
  table.want(PageId{3}, pages(3, 2), false);
  table.want(PageId{9}, pages(9, 1), false);
  table.want_alone(PageId{20});
  table.want(PageId{21}, pages(21, 1), false);
  CHECK(table.start_next()->pages == pages(1, 4));
  const auto read = table.start_next();
  CHECK(read->pages == pages(9, 1));
  CHECK_FALSE(read->write);
  CHECK(table.start_next()->pages == pages(20, 1));
  CHECK(table.start_next()->pages == pages(21, 1));
}

TEST_CASE("a fault is bounded and holds its page, whatever range a peer has named") {
  RedirectTable table;
  table.want(PageId{1000}, pages(1000, std::uint64_t{1} << 40), true);
  CHECK(table.start_next()->pages == pages(1000, RedirectTable::kMostPages));
  table.want(PageId{5000}, pages(2000, 3001), true);
  const auto back = table.start_next();
  CHECK(back->pages.count == RedirectTable::kMostPages);
  CHECK(back->pages.contains(PageId{5000}));
  table.want(PageId{3}, pages(700, 1), true);  // a range that misses its page
  CHECK(table.start_next()->pages == pages(3, 1));
}

TEST_CASE("few faults are underway at once, however many are wanted") {
  RedirectTable table;
  for (std::uint64_t page = 0; page < 100; page += 2) table.want(PageId{page}, pages(page, 1), true);
  std::vector<RedirectTable::Fault> underway;
  std::set<std::uint64_t> seen;
  while (seen.size() < 50) {
    while (const auto fault = table.start_next()) underway.push_back(*fault);
    CHECK(table.underway() <= RedirectTable::kMostUnderway);
    REQUIRE_FALSE(underway.empty());
    const auto ended = underway.back();
    underway.pop_back();
    CHECK(seen.insert(ended.pages.first.value).second);
    CHECK(table.end_fault(ended.id).empty());  // nothing waited
  }
  CHECK(table.underway() == 0);
}

TEST_CASE("a fault that ends names the pages in it that are waited for, in order") {
  RedirectTable table;
  const auto write = a_write();
  for (const std::uint64_t page : {14, 3, 12, 19}) table.queue(PageId{page}, {write, page * kPageSize, nullptr, 1});
  table.wait(PageId{13}, NodeId{1});
  table.want(PageId{12}, pages(10, 5), true);
  const auto fault = table.start_next();
  CHECK(table.end_fault(fault->id) == std::vector<PageId>{PageId{12}, PageId{13}, PageId{14}});
  CHECK_FALSE(table.covered(PageId{12}));
}

TEST_CASE("trying again ends") {
  RedirectTable table;
  table.queue(PageId{1}, {a_write(), 0, nullptr, 1});
  std::uint32_t tries = 1;
  while (table.try_again(PageId{1})) ++tries;
  CHECK(tries == RedirectTable::kMostAttempts);
}

TEST_CASE("random use: each page keeps its own order, and nothing is lost") {
  std::mt19937_64 random(11);
  for (int round = 0; round < 50; ++round) {
    RedirectTable table;
    std::map<std::uint64_t, std::vector<std::uint64_t>> expected, left;
    std::vector<RedirectTable::Fault> underway;
    std::uint64_t next = 1;
    for (int step = 0; step < 400; ++step) {
      if (random() % 3 != 0) {
        const std::uint64_t page = random() % 40;
        table.queue(PageId{page}, {a_write(next), 0, nullptr, 1});
        table.want(PageId{page}, pages(page, 1 + random() % 5), true);
        expected[page].push_back(next++);
        CHECK(table.covered(PageId{page}));
      } else {
        while (const auto fault = table.start_next()) underway.push_back(*fault);
        if (underway.empty()) continue;
        const std::size_t index = random() % underway.size();
        for (const PageId page : table.end_fault(underway[index].id)) {
          while (const RedirectedPiece* piece = table.front(page)) {
            left[page.value].push_back(piece->write->header.request);
            table.pop(page);
          }
          (void)table.release(page);
        }
        underway.erase(underway.begin() + static_cast<std::ptrdiff_t>(index));
      }
    }
    for (;;) {
      while (const auto fault = table.start_next()) underway.push_back(*fault);
      if (underway.empty()) break;
      for (const PageId page : table.end_fault(underway.back().id)) {
        while (const RedirectedPiece* piece = table.front(page)) {
          left[page.value].push_back(piece->write->header.request);
          table.pop(page);
        }
        (void)table.release(page);
      }
      underway.pop_back();
    }
    CHECK(table.empty());
    CHECK(left == expected);
  }
}
