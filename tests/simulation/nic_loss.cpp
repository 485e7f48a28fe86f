// The NIC over a network that loses, doubles, damages, delays and cuts: no wrong byte, nothing twice, nothing lost, nothing hangs.
#include <doctest/doctest.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <random>
#include <vector>

#include "tests/support/nic_world.hpp"
#include "tests/support/seeds.hpp"

using namespace netvm;
using namespace netvm::nic;
using netvm::test::NicWorldOptions;
using netvm::test::SimNicWorld;
using netvm::test::WorldKind;

namespace {

constexpr Nanos kMillisecond = 1'000'000;

NicWorldOptions bad_network(std::uint64_t seed, std::uint32_t nodes) {
  std::mt19937_64 random(seed);
  NicWorldOptions options;
  options.seed = seed;
  options.nodes = nodes;
  options.pages = 64;
  options.first_sequence = seed % 2 == 0 ? 0xffff'ff9c : 0;  // 100 packets, and credits, before the wrap
  options.system_buffers = seed % 3 == 0 ? nodes * 2 : 4096;
  SimNetworkOptions& network = options.network;
  network.min_delay = 500;
  network.max_delay = seed % 5 == 0 ? 100'000 : 5'000;
  network.loss_ppm = seed % 7 == 0 ? 300'000 : static_cast<std::uint32_t>(random() % 50'000);
  network.duplicate_ppm = static_cast<std::uint32_t>(random() % 100'000);
  network.corrupt_ppm = static_cast<std::uint32_t>(random() % 30'000);
  network.late_ppm = seed % 4 == 0 ? 250'000 : 0;
  network.late_delay = 50'000;
  if (seed % 3 == 1 && nodes > 1) {
    const Nanos from = static_cast<Nanos>(random() % (2 * kMillisecond));
    network.partitions.push_back({NodeId{0}, NodeId{1}, from, from + static_cast<Nanos>(random() % (500 * kMillisecond))});
  }
  return options;
}

void pause(Env& env, Nanos time) {
  const std::atomic<std::uint32_t> never{0};
  const ParkOn word{&never, 0};
  const Nanos until = env.now() + time;
  do env.park({&word, 1}, until);
  while (env.now() < until);
}

/// One fetch_add that somebody has done to a word, and what it said the word was before.
struct Addition {
  std::uint64_t old_value, operand;
};

struct Inbox final : MessageHandler {
  std::vector<std::vector<std::uint64_t>> numbers;  // by source
  bool whole = true;
  std::size_t count = 0;
  WaitWord word;
  Env* env = nullptr;
  void on_message(NodeId from, std::span<const std::byte> body) noexcept override {
    std::vector<std::uint64_t> words(body.size() / 8);
    std::memcpy(words.data(), body.data(), body.size());
    whole = whole && std::all_of(words.begin(), words.end(), [&](std::uint64_t w) { return w == words[0]; });
    numbers[from.value].push_back(words[0]);
    ++count;
    word.announce(*env);
  }
};

/// Everything that the nodes of a random mix share.
struct Mix {
  static constexpr std::uint64_t kOperations = 120, kAtomicWords = 4, kPlaces = 8;
  static constexpr std::uint64_t kPlaceBytes = 6000;  // crosses pages; page 0 has the words for atomics
  SimNicWorld& world;
  std::uint32_t nodes;
  std::vector<RemoteRegion> regions;
  std::vector<RemoteCounter> counters;
  std::vector<Inbox> inboxes;
  std::vector<std::vector<Addition>> additions;   // by target * kAtomicWords + word
  std::vector<std::uint64_t> notified, messages;  // by target * nodes + source
  std::uint32_t running;

  Mix(SimNicWorld& w, std::uint32_t n)
      : world(w), nodes(n), inboxes(n), additions(n * kAtomicWords), notified(n * n), messages(n * n), running(n) {
    for (std::uint32_t i = 0; i < n; ++i) {
      regions.push_back(world.whole(i));
      counters.push_back(world.nic(i).counter_create().value());
      inboxes[i].numbers.resize(n);
      inboxes[i].env = &world.nic(i).env();
      world.nic(i).set_message_handler(MessageKind::test, &inboxes[i]);
    }
  }
  [[nodiscard]] std::uint64_t place(std::uint32_t writer, std::uint64_t index) const {
    return kPageSize + (std::uint64_t{writer} * kPlaces + index) * kPlaceBytes;
  }

  /// What node `me` does: posts without waiting for most, so that many are on their way, and looks at every result.
  void run(std::uint32_t me, std::uint64_t seed) {
    std::mt19937_64 random(seed * 1000 + me);
    Nic& nic = world.nic(me);
    struct Pending {
      Completion completion;
      std::uint32_t target = 0, word = 0;
      std::uint64_t operand = 0;
    };
    std::vector<std::unique_ptr<Pending>> atomics;
    std::vector<std::unique_ptr<Completion>> writes;
    std::vector<std::vector<std::uint64_t>> last(nodes, std::vector<std::uint64_t>(kPlaces, 0));  // what I wrote there
    std::uint64_t next_value = 1 + me * 1'000'000;
    for (std::uint64_t i = 0; i < kOperations; ++i) {
      std::uint32_t target = static_cast<std::uint32_t>(random() % (nodes - 1));
      if (target >= me) ++target;
      const std::uint64_t index = random() % kPlaces;
      std::vector<std::uint64_t> data(1 + random() % (kPlaceBytes / 8), next_value);
      switch (random() % 7) {
        case 0:
        case 1: {  // the place is mine alone; only one write to it at a time, as nothing orders two
          data.assign(kPlaceBytes / 8, next_value);
          CHECK(ok(nic.write(regions[target], place(me, index), data.data(), kPlaceBytes)));
          last[target][index] = next_value++;
          break;
        }
        case 2: {
          CHECK(ok(nic.read(regions[target], place(me, index), data.data(), data.size() * 8)));
          CHECK(std::all_of(data.begin(), data.end(), [&](std::uint64_t w) { return w == last[target][index]; }));
          break;
        }
        case 3: {
          auto& made = atomics.emplace_back(std::make_unique<Pending>());
          made->target = target;
          made->word = static_cast<std::uint32_t>(random() % kAtomicWords);
          made->operand = 1 + random() % 1000;
          nic.post_atomic(regions[target], made->word * 8, {AtomicOp::fetch_add, made->operand}, &made->completion);
          break;
        }
        case 4:
          CHECK(ok(nic.notify(counters[target], 1)));
          ++notified[target * nodes + me];
          break;
        case 5: {
          const std::vector<std::uint64_t> body(random() % 8 == 0 ? 10'000 : 1 + random() % 200, messages[target * nodes + me]++);
          nic.send(NodeId{target}, MessageKind::test, std::as_bytes(std::span(body)));
          break;
        }
        default: {  // many on their way to one place, which nobody reads
          auto& done = writes.emplace_back(std::make_unique<Completion>());
          nic.post_write(regions[target], 512 + std::uint64_t{me} * 8, &next_value, 8, done.get());
          break;
        }
      }
    }
    for (auto& write : writes) CHECK(ok(nic.wait(*write)));
    for (auto& atomic : atomics) {
      CHECK(ok(nic.wait(atomic->completion)));
      additions[atomic->target * kAtomicWords + atomic->word].push_back({atomic->completion.old_value(), atomic->operand});
    }
    finish(me);
    for (std::uint32_t target = 0; target < nodes; ++target) {
      for (std::uint64_t index = 0; index < kPlaces && target != me; ++index) {
        std::vector<std::uint64_t> there(kPlaceBytes / 8);
        std::memcpy(there.data(), world.frame(target) + place(me, index), kPlaceBytes);
        CHECK(std::all_of(there.begin(), there.end(), [&](std::uint64_t w) { return w == last[target][index]; }));
      }
    }
  }

  /// Waits for what the others have sent to this node.
  void finish(std::uint32_t me) {
    Nic& nic = world.nic(me);
    --running;
    while (running > 0) pause(nic.env(), kMillisecond);
    std::uint64_t events = 0, bodies = 0;
    for (std::uint32_t source = 0; source < nodes; ++source) {
      events += notified[me * nodes + source];
      bodies += messages[me * nodes + source];
    }
    CHECK(ok(nic.counter_wait(counters[me], events)));
    CHECK(ok(nic.wait_until(inboxes[me].word, [&] { return inboxes[me].count >= bodies; })));
    ++arrived;
    while (arrived < nodes) pause(nic.env(), kMillisecond);
    pause(nic.env(), 20 * kMillisecond);
    CHECK(nic.counter_value(counters[me]) == events);  // nothing has come twice, however late
    CHECK(nic.counter_errors(counters[me]) == 0);
    CHECK(inboxes[me].count == bodies);
    CHECK(inboxes[me].whole);
    for (std::uint32_t source = 0; source < nodes; ++source) {
      const std::vector<std::uint64_t>& got = inboxes[me].numbers[source];
      CHECK(got.size() == messages[me * nodes + source]);
      for (std::uint64_t i = 0; i < got.size(); ++i) CHECK(got[i] == i);
    }
  }

  /// Each addition saw the sum of those before it: sorted by what they saw, they chain from 0 to the word's value. So each happened once.
  void check_atomics() {
    for (std::uint32_t target = 0; target < nodes; ++target) {
      for (std::uint64_t word = 0; word < kAtomicWords; ++word) {
        std::vector<Addition>& chain = additions[target * kAtomicWords + word];
        std::sort(chain.begin(), chain.end(), [](const Addition& a, const Addition& b) { return a.old_value < b.old_value; });
        std::uint64_t sum = 0;
        for (const Addition& addition : chain) {
          CHECK(addition.old_value == sum);
          sum += addition.operand;
        }
        std::uint64_t value = 0;
        std::memcpy(&value, world.frame(target) + word * 8, 8);
        CHECK(value == sum);
      }
    }
  }
  std::uint32_t arrived = 0;
};

struct MixResult {
  std::uint64_t hash = 0;
  SimNetwork::Counts counts;
};

MixResult run_mix(std::uint64_t seed, std::uint32_t nodes) {
  SimNicWorld world(bad_network(seed, nodes), WorldKind::lossy);
  Mix mix(world, nodes);
  std::vector<test::NicWorld::Part> parts;
  for (std::uint32_t n = 0; n < nodes; ++n) parts.push_back({n, [&mix, n, seed] { mix.run(n, seed); }});
  world.run(std::move(parts));
  mix.check_atomics();
  CHECK(world.nothing_dropped());
  return {world.trace_hash(), world.network().counts()};
}

}  // namespace

TEST_CASE("pitfalls 7 and 8: a random mix of operations over a bad network: each takes effect once, in order, with the right bytes") {
  std::uint64_t lost = 0, corrupted = 0, duplicated = 0;
  netvm::test::for_each_seed(60, [&](std::uint64_t seed) {
    const auto nodes = static_cast<std::uint32_t>(2 + seed % 3);
    const MixResult first = run_mix(seed, nodes);
    lost += first.counts.lost;
    corrupted += first.counts.corrupted;
    duplicated += first.counts.duplicated;
    if (seed % 10 == 0) CHECK(run_mix(seed, nodes).hash == first.hash);
  });
  CHECK(lost > 0);
  CHECK(corrupted > 0);
  CHECK(duplicated > 0);
}

TEST_CASE("pitfall 7: atomics under loss and duplication: each caller gets its own old value, and the word has them all") {
  netvm::test::for_each_seed(40, [](std::uint64_t seed) {
    NicWorldOptions options = bad_network(seed, 4);
    options.network.loss_ppm = 100'000;
    options.network.duplicate_ppm = 200'000;
    SimNicWorld world(options, WorldKind::lossy);
    const RemoteRegion region = world.whole(3);
    constexpr std::uint64_t kEach = 80;
    std::vector<std::uint64_t> seen;
    std::vector<test::NicWorld::Part> parts;
    for (std::uint32_t n = 0; n < 3; ++n) {
      parts.push_back({n, [&, n] {
                         std::vector<Completion> all(kEach);
                         for (Completion& one : all) world.nic(n).post_atomic(region, 0, {AtomicOp::fetch_add, 1}, &one);
                         std::uint64_t before = 0;
                         for (Completion& one : all) {
                           CHECK(ok(world.nic(n).wait(one)));
                           CHECK((&one == &all[0] || one.old_value() > before));  // in the order of posting
                           before = one.old_value();
                           seen.push_back(before);
                         }
                       }});
    }
    world.run(std::move(parts));
    std::sort(seen.begin(), seen.end());
    REQUIRE(seen.size() == 3 * kEach);
    for (std::uint64_t i = 0; i < seen.size(); ++i) CHECK(seen[i] == i);
  });
}

TEST_CASE("a partition that heals before the peer timeout loses nothing") {
  netvm::test::for_each_seed(20, [](std::uint64_t seed) {
    NicWorldOptions options;
    options.seed = seed;
    options.network = test::lossy({});
    const Nanos healed = 10'000 * kMillisecond;
    options.network.partitions.push_back({NodeId{0}, NodeId{1}, 300'000, healed});
    SimNicWorld world(options, WorldKind::lossy);
    const RemoteRegion region = world.whole(1);
    world.run([&] {
      for (std::uint64_t i = 0; i < 200; ++i) {
        CHECK(world.nic(0).atomic(region, 0, {AtomicOp::fetch_add, 1}).value() == i);
      }
      CHECK(world.nic(0).env().now() > healed);
      CHECK(world.nic(0).env().now() < healed + 1000 * kMillisecond);
    });
  });
}

TEST_CASE("a partition that does not heal: everything outstanding ends with E_TIMEOUT, waiters wake, the listener is told, others go on") {
  netvm::test::for_each_seed(20, [](std::uint64_t seed) {
    NicWorldOptions options;
    options.seed = seed;
    options.nodes = 3;
    options.network = test::lossy({});
    options.network.partitions.push_back({NodeId{0}, NodeId{1}, 100'000, kForever});
    options.system_buffers = seed % 2 == 0 ? 6 : 4096;  // with few, most packets still wait for credit
    options.reliability.peer_timeout = 2000 * kMillisecond;
    SimNicWorld world(options, WorldKind::lossy);
    const RemoteRegion cut = world.whole(1), open = world.whole(2);
    const RemoteCounter mine = world.nic(0).counter_create().value();
    std::vector<NodeId> lost;
    world.nic(0).set_peer_lost_listener([&](NodeId peer) { lost.push_back(peer); });
    world.run({{0,
                [&] {
                  Nic& nic = world.nic(0);
                  while (nic.env().now() < 200'000) nic.env().relax();
                  std::vector<std::byte> data(30'000);
                  std::vector<Completion> all(40);
                  for (Completion& one : all) nic.post_write(cut, 0, data.data(), data.size(), &one);
                  nic.send(NodeId{1}, MessageKind::test, data);
                  for (Completion& one : all) CHECK(nic.wait(one) == Status::timeout);
                  CHECK(nic.env().now() >= 2000 * kMillisecond);
                  CHECK(nic.env().now() < 3000 * kMillisecond);
                  CHECK(nic.write(cut, 0, data.data(), 8) == Status::timeout);  // and so does what comes later
                  CHECK(nic.notify({NodeId{1}, CounterId{0}}, 1) == Status::timeout);
                  nic.send(NodeId{1}, MessageKind::test, data);
                  CHECK(ok(nic.write(open, 0, data.data(), data.size())));
                }},
               {0, [&] { CHECK(world.nic(0).counter_wait(mine, 1) == Status::peer_dead); }}});
    CHECK(lost == std::vector<NodeId>{NodeId{1}});
  });
}
