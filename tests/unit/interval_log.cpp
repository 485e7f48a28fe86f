#include "dsm/interval_log.hpp"

#include <doctest/doctest.h>

#include <algorithm>

#include "runtime/random.hpp"
#include "runtime/wire_codec.hpp"

using namespace netvm;
using namespace netvm::dsm;

namespace {

constexpr PageRange kShared{PageId{100}, 1000};

std::vector<PageId> pages(std::initializer_list<std::uint64_t> numbers) {
  std::vector<PageId> list;
  for (const std::uint64_t n : numbers) list.push_back(PageId{n});
  return list;
}

std::vector<PageId> pages_of(const IntervalView& interval) {
  std::vector<PageRange> ranges;
  REQUIRE(decode_pages(interval.pages, kShared, ranges));
  std::vector<PageId> list;
  for (const PageRange& range : ranges) {
    for (std::uint64_t p = range.first.value; p != range.end(); ++p) list.push_back(PageId{p});
  }
  return list;
}

std::vector<IntervalView> views(std::span<const std::byte> wire, std::uint32_t nodes) {
  std::vector<IntervalView> list;
  REQUIRE(decode_intervals(wire, nodes, kShared, list));
  return list;
}

/// `to` learns from `from` as with a lock.
void pass_lock(IntervalLog& from, IntervalLog& to) {
  std::vector<std::byte> request;
  to.encode_clock(request);
  VectorClock clock;
  REQUIRE(from.decode_clock(request, &clock));
  std::vector<std::byte> grant;
  from.encode_lacking(clock, grant);
  REQUIRE(to.add(views(grant, static_cast<std::uint32_t>(clock.size()))));
}

TEST_CASE("who knows more than at its arrival runs ahead, and what it tells then the next to arrive passes on") {
  std::vector<IntervalLog> logs;
  for (std::uint32_t node = 0; node < 3; ++node) logs.emplace_back(NodeId{node}, 3);
  std::vector<std::byte> announced;
  logs[0].close(std::vector{PageId{1}});
  CHECK(logs[0].arrive(0, announced) == 1);

  std::uint64_t barriers_left = 0;
  const auto give = [&](std::uint32_t from, std::uint32_t to) {
    std::vector<std::byte> grant;
    logs[from].encode_grant(logs[to].clock(), barriers_left, grant);
    std::span<const std::byte> wire(grant);
    const bool ahead = IntervalLog::take_grant_mark(wire);
    std::vector<IntervalView> views;
    REQUIRE(decode_intervals(wire, 3, {PageId{0}, 100}, views));
    REQUIRE(logs[to].add(views, ahead));
    return ahead;
  };
  CHECK_FALSE(give(0, 1));  // what it knew when it arrived it has announced
  logs[0].close(std::vector{PageId{2}});
  CHECK(give(0, 1));
  CHECK_FALSE(give(1, 2));  // has not arrived: it will say itself what it must

  std::vector<std::byte> passed_on;
  CHECK(logs[1].arrive(0, passed_on) == 1);
  std::vector<IntervalView> views;
  REQUIRE(decode_intervals(passed_on, 3, {PageId{0}, 100}, views));
  REQUIRE(views.size() == 1);
  CHECK(views[0].node == NodeId{0});
  CHECK(views[0].index == 2);

  // A barrier that nobody tells anything ends without a word to the log.
  barriers_left = 1;
  logs[0].close(std::vector{PageId{3}});
  CHECK_FALSE(give(0, 1));
}

}  // namespace

TEST_CASE("interval_log: page sets survive encoding, as ranges") {
  SplitMix64 random(3);
  for (int round = 0; round < 200; ++round) {
    std::vector<PageId> set;
    for (std::uint64_t p = kShared.first.value; p < kShared.end(); ++p) {
      if (random.below(1 + round % 10) == 0) set.push_back(PageId{p});
    }
    std::vector<std::byte> wire;
    encode_pages(set, wire);
    CHECK(pages_of({NodeId{0}, 1, wire}) == set);
  }
  std::vector<PageId> all;
  for (std::uint64_t p = kShared.first.value; p < kShared.end(); ++p) all.push_back(PageId{p});
  std::vector<std::byte> wire;
  encode_pages(all, wire);
  CHECK(wire.size() <= 4);
}

TEST_CASE("interval_log: neighbouring coherence units of any size are as short as neighbouring pages") {
  for (const std::uint64_t unit : {1, 2, 4, 8, 16}) {
    std::vector<PageId> heads;
    for (std::uint64_t p = 112; p + unit <= kShared.end(); p += unit) heads.push_back(PageId{p});
    std::vector<std::byte> wire;
    encode_pages(heads, wire);
    CHECK(wire.size() <= 3);
    CHECK(pages_of({NodeId{0}, 1, wire}) == heads);
  }
  // Irregular distances, also powers of two that are too large.
  const std::vector<PageId> mixed = pages({100, 102, 103, 105, 109, 117, 133, 165, 197, 229, 230, 231, 1099});
  std::vector<std::byte> wire;
  encode_pages(mixed, wire);
  CHECK(pages_of({NodeId{0}, 1, wire}) == mixed);
}

TEST_CASE("interval_log: a run that leaves the shared area, or with an impossible stride, is refused") {
  const auto refused = [](std::uint64_t first, std::uint64_t count, std::uint64_t shift) {
    std::vector<std::byte> wire;
    put_varint(wire, first);
    put_varint(wire, count << 3 | shift);
    std::vector<PageRange> ranges;
    return !decode_pages(wire, kShared, ranges);
  };
  CHECK_FALSE(refused(100, 63, 4));
  CHECK(refused(100, 64, 4));
  CHECK(refused(100, 0, 0));
  CHECK(refused(100, 1, 5));
  CHECK(refused(100, UINT64_MAX >> 3, 4));
}

TEST_CASE("interval_log: pages outside the shared area, and cut input, are refused") {
  for (const auto& set : {pages({99}), pages({1100}), pages({1099, 1100})}) {
    std::vector<std::byte> wire;
    encode_pages(set, wire);
    std::vector<PageRange> ranges;
    CHECK_FALSE(decode_pages(wire, kShared, ranges));
    CHECK(ranges.empty());
  }
  IntervalLog log(NodeId{1}, 3);
  log.close(pages({100, 101, 300}));
  std::vector<std::byte> wire;
  log.encode_lacking({0, 0, 0}, wire);
  for (std::size_t cut = 1; cut < wire.size(); ++cut) {
    std::vector<IntervalView> list;
    CHECK_FALSE(decode_intervals(std::span(wire).first(cut), 3, kShared, list));
  }
  std::vector<IntervalView> list;
  CHECK_FALSE(decode_intervals(wire, 1, kShared, list));  // names node 1 of a job of one
  wire.push_back(std::byte{0});
  CHECK_FALSE(decode_intervals(wire, 3, kShared, list));
}

TEST_CASE("interval_log: an acquirer gets what it lacks, also of third nodes, and nothing twice") {
  IntervalLog a(NodeId{0}, 3);
  IntervalLog b(NodeId{1}, 3);
  IntervalLog c(NodeId{2}, 3);
  a.close(pages({100}));
  pass_lock(a, b);
  a.close(pages({101}));
  b.close(pages({200}));
  pass_lock(b, c);  // a's first interval travels with b's
  CHECK(c.clock() == VectorClock{1, 1, 0});
  std::vector<std::byte> none;
  CHECK(b.encode_lacking(c.clock(), none) == 0);
  CHECK(none.empty());
  pass_lock(a, c);
  CHECK(c.clock() == VectorClock{2, 1, 0});
}

TEST_CASE("interval_log: a release without writes makes no interval") {
  IntervalLog log(NodeId{0}, 2);
  log.close({});
  CHECK(log.clock() == VectorClock{0, 0});
  CHECK(log.size() == 0);
}

TEST_CASE("interval_log: releases that nobody acquires from share one interval, which then keeps every page") {
  IntervalLog log(NodeId{0}, 2);
  for (std::uint64_t i = 0; i < 100'000; ++i) log.close(pages({100 + i % 700, 100 + i % 13}));
  CHECK(log.size() == 1);
  std::vector<std::byte> wire;
  CHECK(log.encode_lacking({0, 0}, wire) == 1);
  CHECK(pages_of(views(wire, 2)[0]).size() == 700);
  // Told: from now on it must not change.
  log.close(pages({1000}));
  CHECK(log.clock() == VectorClock{2, 0});
  wire.clear();
  CHECK(log.encode_lacking({1, 0}, wire) == 1);
  CHECK(pages_of(views(wire, 2)[0]) == pages({1000}));
}

TEST_CASE("interval_log: a gap is refused and changes nothing") {
  IntervalLog a(NodeId{0}, 2);
  IntervalLog b(NodeId{1}, 2);
  std::vector<std::byte> first;
  std::vector<std::byte> second;
  a.close(pages({100}));
  a.encode_lacking({0, 0}, first);
  a.close(pages({101}));
  a.encode_lacking({1, 0}, second);
  CHECK_FALSE(b.add(views(second, 2)));
  CHECK(b.clock() == VectorClock{0, 0});
  // Merged in the wrong order they are still in sequence.
  merge_interval_sets(second, first);
  CHECK(b.add(views(second, 2)));
  CHECK(b.clock() == VectorClock{2, 0});
}

TEST_CASE("interval_log: memory stays bounded over many barriers, and nobody misses anything") {
  constexpr std::uint32_t kNodes = 3;
  std::vector<IntervalLog> logs;
  for (std::uint32_t n = 0; n < kNodes; ++n) logs.emplace_back(NodeId{n}, kNodes);
  SplitMix64 random(5);
  for (int barrier = 0; barrier < 10'000; ++barrier) {
    for (int i = 0; i < 3; ++i) {
      auto& writer = logs[random.below(kNodes)];
      writer.close(pages({100 + random.below(1000)}));
      pass_lock(writer, logs[random.below(kNodes)]);
    }
    std::vector<std::byte> sum;
    for (IntervalLog& log : logs) {
      std::vector<std::byte> own;
      log.arrive(static_cast<std::uint64_t>(barrier), own);
      merge_interval_sets(sum, own);
    }
    for (IntervalLog& log : logs) {
      REQUIRE(log.add(views(sum, kNodes)));
      log.pass_barrier(views(sum, kNodes));
    }
    for (const IntervalLog& log : logs) {
      REQUIRE(log.clock() == logs[0].clock());
      REQUIRE(log.size() <= 6);
    }
  }
}

TEST_CASE("interval_log: what was closed between a barrier's arrival and leaving is announced at the next") {
  IntervalLog log(NodeId{0}, 2);
  std::vector<std::byte> sum;
  log.close(pages({100}));
  log.arrive(0, sum);
  log.close(pages({101}));  // another thread, meanwhile
  log.pass_barrier(views(sum, 2));
  std::vector<std::byte> next;
  CHECK(log.arrive(1, next) == 1);
  CHECK(pages_of(views(next, 2)[0]) == pages({101}));
}

TEST_CASE("interval_log: without barriers old intervals are joined, and nobody misses a page") {
  constexpr std::uint64_t kIntervals = 5000;
  IntervalLog log(NodeId{0}, 2);
  std::vector<VectorClock> at;  // what a peer knew after each interval
  std::vector<std::byte> told;
  for (std::uint64_t i = 0; i < kIntervals; ++i) {
    log.close(pages({100 + i % 37, 500 + i % 11}));
    told.clear();
    log.encode_lacking({log.clock()[0] - 1, 0}, told);
    at.push_back(log.clock());
  }
  CHECK(log.size() <= 128);
  CHECK(log.bytes() < 128 * 100);
  SplitMix64 random(5);
  for (int round = 0; round < 100; ++round) {
    const std::uint64_t knows = round == 0 ? 0 : random.below(kIntervals);
    std::vector<std::byte> wire;
    CHECK(log.encode_lacking({knows, 0}, wire) > 0);
    const std::vector<IntervalView> spans = views(wire, 2);
    CHECK(spans.front().first <= knows + 1);
    CHECK(spans.back().index == kIntervals);
    std::vector<PageId> named;
    for (const IntervalView& span : spans) {
      for (const PageId page : pages_of(span)) named.push_back(page);
    }
    for (std::uint64_t i = knows; i < kIntervals && i < knows + 40; ++i) {
      CHECK(std::find(named.begin(), named.end(), PageId{100 + i % 37}) != named.end());
    }
    // A peer that knows some of a span takes the rest; one that lacks something before it does not.
    IntervalLog peer(NodeId{1}, 2);
    if (knows == 0) {
      CHECK(peer.add(spans));
      CHECK(peer.clock()[0] == kIntervals);
      CHECK(peer.size() <= 128);
      std::vector<std::byte> again;
      peer.encode_lacking({0, 0}, again);
      CHECK(views(again, 2).front().first == 1);
    } else if (spans.front().first > 1) {
      CHECK_FALSE(peer.add(spans));
    }
  }
}
