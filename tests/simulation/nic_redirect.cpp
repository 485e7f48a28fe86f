// Pages that leave at any moment, under everything the NIC can do, in virtual time, over many seeds: nothing lost, nothing doubled, nothing
// out of order, nothing left hanging. And the bug that redirection is famous for, put in on purpose: it must be noticed.
#include <doctest/doctest.h>

#include <algorithm>
#include <cstring>
#include <random>
#include <span>
#include <vector>

#include "nic/redirect_table.hpp"
#include "tests/support/nic_paging.hpp"
#include "tests/support/nic_world.hpp"
#include "tests/support/seeds.hpp"

using namespace netvm;
using namespace netvm::nic;
using netvm::test::Gate;
using netvm::test::NicWorldOptions;
using netvm::test::Paging;
using netvm::test::SimNicWorld;
using netvm::test::sleep_until;

namespace {

// ---- the inversion ------------------------------------------------------------------------------------------------------------------------

/// The bug: a page opens for everybody as soon as it is there, while older data for it still lies in system buffers.
class OpensTooEarly final : public ResidencyListener {
 public:
  explicit OpensTooEarly(ShadowPageTable& shadow) : shadow_(shadow) {}
  void on_map(PageRange pages) noexcept override {
    shadow_.on_map(pages);
    for (std::uint64_t p = pages.first.value; p < pages.end(); ++p) (void)shadow_.end_redirect(PageId{p});
  }
  void on_unmap(PageRange pages) noexcept override { shadow_.on_unmap(pages); }

 private:
  ShadowPageTable& shadow_;
};

/// Writes one word of an evicted page over and over, in order. Whether the last write won, as it must where the network keeps the order.
bool last_write_wins(std::uint64_t seed, bool with_bug) {
  NicWorldOptions options;
  options.seed = seed;
  options.network.in_order = true;
  Paging paging;
  SimNicWorld world(paging.with(options));
  paging.attach(world);
  OpensTooEarly listener(world.device(1).shadow());
  if (with_bug) world.vm(1).set_residency_listener(&listener);
  const RemoteRegion region = world.whole(1);
  std::mt19937_64 random(seed);
  Env& host = world.nic(1).env();
  paging.set_page_in([&](std::uint32_t, PageId) { sleep_until(host, host.now() + static_cast<Nanos>(random() % 8'000)); });
  bool well = true;
  world.run({{0,
              [&] {
                Env& env = world.nic(0).env();
                for (int round = 0; round < 4; ++round) {
                  // Three pages in one work request: the first is there before the last.
                  std::vector<std::vector<std::uint64_t>> data;
                  std::vector<Completion> posted(12);
                  for (std::uint64_t i = 0; i < posted.size(); ++i) {
                    data.emplace_back(3 * kPageSize / 8, round * 100 + i + 1);
                    world.nic(0).post_write(region, 0, data.back().data(), 3 * kPageSize, &posted[i]);
                    if (random() % 2 == 0) sleep_until(env, env.now() + static_cast<Nanos>(random() % 6'000));
                  }
                  for (Completion& completion : posted) CHECK(ok(world.nic(0).wait(completion)));
                  std::vector<std::uint64_t> seen(3 * kPageSize / 8);
                  CHECK(ok(world.nic(0).read(region, 0, seen.data(), 3 * kPageSize)));
                  well = well && seen == data.back();
                }
              }},
             {1, [&] {
                for (int i = 0; i < 40; ++i) {
                  (void)world.vm(1).evict(1 + random() % 2);
                  sleep_until(host, host.now() + static_cast<Nanos>(random() % 8'000));
                }
              }}});
  return well;
}

// ---- the storm ----------------------------------------------------------------------------------------------------------------------------

constexpr std::uint32_t kNodes = 3;
constexpr std::uint64_t kPages = 24;            // of each node's memory
constexpr std::uint64_t kArea = 28'000;         // of a channel in the target's memory: neighbours share pages
constexpr std::uint64_t kCounterWord = 90'000;  // everybody's

/// One channel's program and what it expects.
struct Channel {
  std::uint32_t from = 0, to = 0;
  RemoteRegion region;
  RemoteCounter counter;  // of ORDERED notifications
  RemoteCounter own;      // of OWN ones
  std::vector<std::byte> expected = std::vector<std::byte>(kArea);
  std::vector<std::uint32_t> written = std::vector<std::uint32_t>(kArea);  // by which write, from 1 on
  std::uint32_t writes = 0;
  std::uint64_t adds = 0;
  std::vector<std::uint32_t> notified = {};  // for each ORDERED notification: the writes before it
  struct Own {
    std::uint64_t at, bytes;
    std::uint32_t write;
  };
  std::vector<Own> notified_own = {};  // for each OWN one: its bytes

  void will_write(std::uint64_t at, std::span<const std::byte> data) {
    std::copy(data.begin(), data.end(), expected.begin() + static_cast<std::ptrdiff_t>(at));
    std::fill_n(written.begin() + static_cast<std::ptrdiff_t>(at), data.size(), ++writes);
  }
};

struct Storm {
  Storm(std::uint64_t s, bool connected)
      : in_order(options_for(s, connected).network.in_order), random(s), world(paging.with(options_for(s, connected))) {
    paging.attach(world);
    for (std::uint32_t n = 0; n < kNodes; ++n) regions.push_back(world.whole(n));
    paging.set_page_in([this](std::uint32_t node, PageId) {
      Env& env = world.nic(node).env();
      sleep_until(env, env.now() + static_cast<Nanos>(env.random() % 20'000));
    });
  }
  static NicWorldOptions options_for(std::uint64_t seed, bool connected) {
    NicWorldOptions options;
    options.nodes = kNodes;
    options.pages = kPages;
    options.seed = seed;
    options.connected = connected;
    options.network.in_order = seed % 2 == 0;
    options.network.duplicate_ppm = seed % 4 == 1 ? 30'000 : 0;
    if (seed % 7 == 3 && !connected) options.network = test::lossy({});
    options.first_sequence = seed % 5 == 0 ? 0xffff'ffe0 : 0;
    if (seed % 3 == 0) options.budget_pages = kPages / 2;  // else pages go only when they are told to
    return options;
  }
  [[nodiscard]] std::uint64_t base_of(const Channel& c) const { return c.from * kArea; }

  void step(Channel& c, std::vector<std::unique_ptr<Completion>>& open);
  void run_channel(Channel& c);
  /// Looks at the bytes of [at, at + bytes) that were last written by write `from` .. `to`; with that write or an earlier one none is missing.
  void check_area(Channel& c, std::uint64_t at, std::uint64_t bytes, std::uint32_t from, std::uint32_t to);
  /// The target's own program: at each notification all that it covers is there.
  void watch(Channel& c);
  void evict_at_random(std::uint32_t node);

  bool in_order;
  std::mt19937_64 random;
  Paging paging;
  SimNicWorld world;
  std::size_t running = 0;  // channels
  std::vector<RemoteRegion> regions;
};

void settle(Nic& nic, std::vector<std::unique_ptr<Completion>>& open) {
  for (auto& completion : open) CHECK(ok(nic.wait(*completion)));
  open.clear();
}

void Storm::step(Channel& c, std::vector<std::unique_ptr<Completion>>& open) {
  Nic& nic = world.nic(c.from);
  const std::uint64_t base = base_of(c);
  const std::uint64_t bytes = 1 + random() % (random() % 4 == 0 ? 9'000 : 300);
  const std::uint64_t at = random() % (kArea - bytes);
  // Where the network keeps no order, nothing orders two writes to one place but an end in between.
  if (!in_order) settle(nic, open);
  switch (random() % 8) {
    case 0:
    case 1: {
      std::vector<std::byte> data(bytes, static_cast<std::byte>(random()));
      open.push_back(std::make_unique<Completion>());
      c.will_write(at, data);
      nic.post_write(c.region, base + at, data.data(), bytes, open.back().get());
      break;
    }
    case 2: {
      std::vector<std::vector<std::byte>> data;
      std::vector<Segment> segments;
      std::uint64_t next = random() % 4'000;
      while (next + 700 < kArea && segments.size() < 12) {
        const auto n = static_cast<std::uint32_t>(1 + random() % 600);
        data.emplace_back(n, static_cast<std::byte>(random()));
        c.will_write(next, data.back());
        segments.push_back({base + next, nullptr, n});
        next += n + random() % 4'000;
      }
      for (std::size_t i = 0; i < segments.size(); ++i) segments[i].data = data[i].data();
      open.push_back(std::make_unique<Completion>());
      nic.post_write_vector(c.region, segments, open.back().get());
      break;
    }
    case 3: {
      std::vector<std::byte> seen(bytes);
      CHECK(ok(nic.read(c.region, base + at, seen.data(), bytes)));
      CHECK(std::equal(seen.begin(), seen.end(), c.expected.begin() + static_cast<std::ptrdiff_t>(at)));
      break;
    }
    case 4:
      open.push_back(std::make_unique<Completion>());
      nic.post_atomic(c.region, kCounterWord, {AtomicOp::fetch_add, 1}, open.back().get());
      ++c.adds;
      break;
    case 5:
      c.notified.push_back(c.writes);
      CHECK(ok(nic.notify(c.counter, 1)));
      break;
    case 6: {
      std::vector<std::byte> data(bytes, static_cast<std::byte>(random()));
      c.will_write(at, data);
      if (random() % 2 == 0) {
        c.notified_own.push_back({at, bytes, c.writes});
        CHECK(ok(nic.write_notify(c.region, base + at, data.data(), bytes, c.own, 1, NotifyMode::own)));
      } else {
        c.notified.push_back(c.writes);
        CHECK(ok(nic.write_notify(c.region, base + at, data.data(), bytes, c.counter, 1, NotifyMode::ordered)));
      }
      break;
    }
    case 7:
      settle(nic, open);
      break;
  }
}

void Storm::run_channel(Channel& c) {
  std::vector<std::unique_ptr<Completion>> open;
  Env& env = world.nic(c.from).env();
  for (int i = 0; i < 40; ++i) {
    step(c, open);
    if (random() % 4 == 0) sleep_until(env, env.now() + static_cast<Nanos>(random() % 10'000));
  }
  settle(world.nic(c.from), open);
  --running;
}

void Storm::evict_at_random(std::uint32_t node) {
  Env& env = world.nic(node).env();
  while (running != 0) {
    (void)world.vm(node).evict(1 + random() % 4);
    sleep_until(env, env.now() + static_cast<Nanos>(random() % 4'000));
  }
}

// As the target's own program would: each page is pinned while it looks.
void Storm::check_area(Channel& c, std::uint64_t at, std::uint64_t bytes, std::uint32_t from, std::uint32_t to) {
  const std::uint64_t base = base_of(c);
  std::uint64_t wrong = 0;
  for (std::uint64_t done = at; done < at + bytes;) {
    const std::uint64_t n = std::min(at + bytes - done, kPageSize - (base + done) % kPageSize);
    const auto pins = world.vm(c.to).pin({PageId{(base + done) / kPageSize}, 1}, false);
    REQUIRE(pins.has_value());
    const std::byte* const frame = world.frame(c.to) + base;
    for (std::uint64_t i = done; i < done + n; ++i) {
      wrong += c.written[i] >= from && c.written[i] <= to && frame[i] != c.expected[i] ? 1 : 0;
    }
    done += n;
  }
  CHECK(wrong == 0);
}

void Storm::watch(Channel& c) {
  Nic& nic = world.nic(c.to);
  std::uint64_t seen = 0;
  std::uint64_t seen_own = 0;
  for (;;) {
    const std::uint64_t ordered = nic.counter_value(c.counter);
    const std::uint64_t own = nic.counter_value(c.own);
    if (ordered != seen) {
      seen = ordered;
      check_area(c, 0, kArea, 0, c.notified.at(ordered - 1));
    } else if (own != seen_own) {
      const Channel::Own& its = c.notified_own.at(seen_own++);
      check_area(c, its.at, its.bytes, its.write, its.write);
    } else if (running == 0 && seen == c.notified.size() && seen_own == c.notified_own.size()) {
      break;
    } else {
      (void)nic.counter_wait(c.counter, seen + 1, WaitMode::adaptive, nic.env().now() + 2'000);
    }
  }
  check_area(c, 0, kArea, 0, c.writes);
}

struct Counts {
  std::uint64_t redirects = 0, faults = 0, drains = 0;
};

/// Returns the trace's hash. `connected`: initiators execute the targets' firmware, as on one host.
std::uint64_t run_storm(std::uint64_t seed, Counts& counts, bool connected = false) {
  Storm storm(seed, connected);
  SimNicWorld& world = storm.world;
  std::vector<Channel> channels;
  for (std::uint32_t from = 0; from < kNodes; ++from) {
    for (std::uint32_t to = 0; to < kNodes; ++to) {  // a node's channel to itself, too
      channels.push_back({.from = from,
                          .to = to,
                          .region = storm.regions[to],
                          .counter = world.nic(to).counter_create().value(),
                          .own = world.nic(to).counter_create().value()});
    }
  }
  std::vector<test::NicWorld::Part> parts;
  storm.running = channels.size();
  for (Channel& channel : channels) parts.push_back({channel.from, [&] { storm.run_channel(channel); }});
  for (std::uint32_t node = 0; node < kNodes; ++node) parts.push_back({node, [&, node] { storm.evict_at_random(node); }});
  for (Channel& channel : channels) parts.push_back({channel.to, [&] { storm.watch(channel); }});
  world.run(std::move(parts));
  std::vector<std::uint64_t> adds(kNodes, 0);
  for (const Channel& channel : channels) {
    CHECK(world.nic(channel.to).counter_value(channel.counter) == channel.notified.size());
    CHECK(world.nic(channel.to).counter_value(channel.own) == channel.notified_own.size());
    CHECK(world.nic(channel.to).counter_errors(channel.counter) == 0);
    adds[channel.to] += channel.adds;
  }
  world.run({{0, [&] {
                for (std::uint32_t node = 0; node < kNodes; ++node) {
                  CHECK(world.nic(0).atomic(storm.regions[node], kCounterWord, {AtomicOp::fetch_add, 0}).value() == adds[node]);
                }
              }}});
  for (std::uint32_t node = 0; node < kNodes; ++node) {
    CHECK(storm.paging.no_pins(node));
    counts.redirects += world.stats(node).get(Stat::redirects);
    counts.faults += world.stats(node).get(Stat::nic_major_faults);
    counts.drains += world.stats(node).get(Stat::redirect_drains);
  }
  return world.trace_hash();
}

}  // namespace

TEST_CASE("pitfall 1: a write never goes past an earlier one whose page is on its way") {
  netvm::test::for_each_seed(100, [](std::uint64_t seed) { CHECK(last_write_wins(seed, false)); });
}

TEST_CASE("pitfall 1: a page that opens too early is noticed") {
  std::uint64_t seed = 1;
  while (seed <= 200 && last_write_wins(seed, true)) ++seed;
  REQUIRE_MESSAGE(seed <= 200, "the inversion was not noticed within 200 seeds");
  MESSAGE("the inversion is noticed with seed ", seed);
}

TEST_CASE("pitfall 1: a page that comes for the host, leaves and comes again while data waits for it opens for nobody") {
  constexpr std::size_t kFaults = RedirectTable::kMostUnderway;
  NicWorldOptions options;
  options.network.in_order = true;
  options.pages = kFaults + 1;
  Paging paging;
  SimNicWorld world(paging.with(options));
  paging.attach(world);
  HostVm& host = world.vm(1);
  Gate gate(world.nic(1).env());
  const RemoteRegion region = world.whole(1);
  paging.set_page_in([&](std::uint32_t, PageId) { gate.pass(); });
  world.run({{0, [&] {
                Nic& nic = world.nic(0);
                const auto arrive = [&] { sleep_until(nic.env(), nic.env().now() + 1'000'000); };
                for (std::uint64_t page = 0; page <= kFaults; ++page) paging.evict(1, PageId{page});
                // Others' faults are before it, so that the host is not at page 0 yet.
                std::vector<Completion> others(kFaults);
                const std::uint64_t one = 1, two = 2;
                for (std::size_t i = 0; i < kFaults; ++i) nic.post_write(region, (i + 1) * kPageSize, &one, sizeof one, &others[i]);
                arrive();
                REQUIRE(gate.waiting() == kFaults);
                Completion first, second;
                nic.post_write(region, 0, &one, sizeof one, &first);
                arrive();
                paging.evict(1, PageId{0});  // which brings it in before
                REQUIRE_FALSE(host.resident(PageId{0}));
                {
                  const netvm::test::TestStore::AtOnce at_once;
                  REQUIRE(ok(host.make_resident({PageId{0}, 1})));
                }
                nic.post_write(region, 0, &two, sizeof two, &second);
                arrive();
                CHECK_FALSE(first.done());
                CHECK_FALSE(second.done());
                gate.open();
                for (Completion& other : others) CHECK(ok(nic.wait(other)));
                CHECK(ok(nic.wait(first)));
                CHECK(ok(nic.wait(second)));
                std::uint64_t last = 0;
                CHECK(ok(nic.read(region, 0, &last, sizeof last)));
                CHECK(last == two);
              }}});
}

TEST_CASE("pages may leave at any moment: nothing is lost, doubled, out of order or left hanging") {
  Counts counts;
  netvm::test::for_each_seed(50, [&](std::uint64_t seed) { (void)run_storm(seed, counts); });
  CHECK(counts.redirects > 0);
  MESSAGE(counts.redirects, " writes redirected, ", counts.faults, " pages waited for, ", counts.drains, " drained");
}

TEST_CASE("pages may leave at any moment under initiators that execute their requests themselves, and go over to packets and back") {
  Counts counts;
  netvm::test::for_each_seed(50, [&](std::uint64_t seed) { (void)run_storm(seed, counts, true); });
  CHECK(counts.redirects > 0);
  MESSAGE(counts.redirects, " writes redirected, ", counts.faults, " pages waited for, ", counts.drains, " drained");
}

TEST_CASE("pages that leave: one seed gives one history") {
  Counts counts;
  for (std::uint64_t seed = 1; seed <= 3; ++seed) CHECK(run_storm(seed, counts) == run_storm(seed, counts));
}
