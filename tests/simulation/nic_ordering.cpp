// The NIC's promises over a network that reorders, doubles and, for some seeds, loses, in virtual time, over many seeds.
#include <doctest/doctest.h>

#include <algorithm>
#include <cstring>
#include <random>
#include <vector>

#include "tests/support/nic_world.hpp"
#include "tests/support/seeds.hpp"

using namespace netvm;
using namespace netvm::nic;
using netvm::test::NicWorldOptions;
using netvm::test::SimNicWorld;

namespace {

NicWorldOptions rough(std::uint64_t seed) {
  NicWorldOptions options;
  options.seed = seed;
  options.network.min_delay = 100;
  options.network.max_delay = seed % 3 == 0 ? 100'000 : 5'000;
  options.network.duplicate_ppm = seed % 2 == 0 ? 50'000 : 0;
  options.first_sequence = seed % 4 == 1 ? 0xffff'ff9c : 0;
  if (seed % 5 == 4) options.network = netvm::test::lossy(options.network);
  return options;
}

std::uint64_t word_at(SimNicWorld& world, std::uint32_t node, std::uint64_t offset) {
  std::uint64_t value = 0;
  std::memcpy(&value, world.frame(node) + offset, 8);
  return value;
}

}  // namespace

TEST_CASE("an ORDERED notification is never seen before any earlier write of its channel") {
  netvm::test::for_each_seed(200, [](std::uint64_t seed) {
    SimNicWorld world(rough(seed));
    const RemoteRegion region = world.whole(1);
    const RemoteCounter counter = world.nic(1).counter_create().value();
    constexpr std::uint64_t kRounds = 12, kBlocks = 5;
    std::vector<std::vector<Completion>> posted;
    for (std::uint64_t r = 0; r < kRounds; ++r) posted.emplace_back(kBlocks);
    world.run({{0,
                [&] {
                  std::mt19937_64 random(seed);
                  for (std::uint64_t round = 1; round <= kRounds; ++round) {
                    for (std::uint64_t block = 0; block < kBlocks; ++block) {
                      // Each round writes places of its own: later rounds land early and must not hide a hole.
                      const std::vector<std::uint64_t> data(1 + random() % 300, round);
                      const std::uint64_t offset = ((round - 1) * kBlocks + block) * 3000;
                      world.nic(0).post_write(region, offset, data.data(), data.size() * 8, &posted[round - 1][block]);
                    }
                    CHECK(ok(world.nic(0).notify(counter, 1)));
                    if (random() % 4 == 0) {
                      for (Completion& completion : posted[round - 1]) CHECK(ok(world.nic(0).wait(completion)));
                    }
                  }
                  for (auto& round : posted) {
                    for (Completion& completion : round) CHECK(ok(world.nic(0).wait(completion)));
                  }
                }},
               {1, [&] {
                  for (std::uint64_t round = 1; round <= kRounds; ++round) {
                    CHECK(ok(world.nic(1).counter_wait(counter, round, static_cast<WaitMode>(seed % 3))));
                    for (std::uint64_t block = 0; block < kBlocks; ++block) {
                      const std::uint64_t offset = ((round - 1) * kBlocks + block) * 3000;
                      CHECK(word_at(world, 1, offset) >= round);
                    }
                  }
                }}});
    CHECK(world.nic(1).counter_value(counter) == kRounds);
    CHECK(world.nic(1).counter_errors(counter) == 0);
  });
}

TEST_CASE("an OWN notification of a large write comes with all of its bytes") {
  netvm::test::for_each_seed(100, [](std::uint64_t seed) {
    SimNicWorld world(rough(seed));
    const RemoteRegion region = world.whole(1);
    const RemoteCounter counter = world.nic(1).counter_create().value();
    const std::size_t bytes = 8 + (seed * 977) % 40'000 / 8 * 8;
    world.run({{0,
                [&] {
                  for (std::uint64_t round = 1; round <= 3; ++round) {
                    const std::vector<std::uint64_t> data(bytes / 8, round);
                    CHECK(ok(world.nic(0).write_notify(region, round * 41'000, data.data(), bytes, counter, 1, NotifyMode::own)));
                  }
                }},
               {1, [&] {
                  for (std::uint64_t round = 1; round <= 3; ++round) {
                    CHECK(ok(world.nic(1).counter_wait(counter, round)));
                    for (std::size_t at = 0; at < bytes; at += 8) CHECK(word_at(world, 1, round * 41'000 + at) == round);
                  }
                }}});
    CHECK(world.nic(1).counter_value(counter) == 3);
  });
}

TEST_CASE("reads and atomics take effect in the order of posting, each after the writes before it") {
  netvm::test::for_each_seed(150, [](std::uint64_t seed) {
    SimNicWorld world(rough(seed));
    const RemoteRegion region = world.whole(1);
    world.run([&] {
      constexpr std::size_t kCount = 60;
      std::vector<Completion> all(3 * kCount);
      std::vector<std::uint64_t> seen(kCount, 0);
      for (std::uint64_t i = 0; i < kCount; ++i) {
        const std::uint64_t value = i + 1;
        // The write's place is new each time: nothing orders two writes to one place.
        world.nic(0).post_write(region, 8192 + i * 8, &value, 8, &all[3 * i]);
        world.nic(0).post_atomic(region, 8192 + i * 8, {AtomicOp::fetch_add, 1000}, &all[3 * i + 1]);
        world.nic(0).post_read(region, 8192 + i * 8, &seen[i], 8, &all[3 * i + 2]);
      }
      for (Completion& completion : all) CHECK(ok(world.nic(0).wait(completion)));
      for (std::uint64_t i = 0; i < kCount; ++i) {
        CHECK(all[3 * i + 1].old_value() == i + 1);
        CHECK(seen[i] == i + 1001);
      }
    });
  });
}

TEST_CASE("messages of all pairs arrive once and in order, in fragments or whole") {
  netvm::test::for_each_seed(60, [](std::uint64_t seed) {
    struct Inbox final : MessageHandler {
      std::vector<std::vector<std::uint64_t>> numbers;
      bool whole = true;
      std::size_t count = 0;
      WaitWord word;
      Env* env = nullptr;
      void on_message(NodeId from, std::span<const std::byte> body) noexcept override {
        std::uint64_t number = 0, last = 0;
        std::memcpy(&number, body.data(), 8);
        std::memcpy(&last, body.data() + body.size() - 8, 8);
        whole = whole && number == last;
        numbers[from.value].push_back(number);
        ++count;
        word.announce(*env);
      }
    };
    NicWorldOptions options = rough(seed);
    options.nodes = 3;
    SimNicWorld world(options);
    constexpr std::uint64_t kEach = 25;
    std::vector<Inbox> inboxes(3);
    std::vector<test::NicWorld::Part> parts;
    for (std::uint32_t n = 0; n < 3; ++n) {
      inboxes[n].numbers.resize(3);
      inboxes[n].env = &world.nic(n).env();
      world.nic(n).set_message_handler(MessageKind::test, &inboxes[n]);
      parts.push_back({n, [&, n] {
                         std::mt19937_64 random(seed + n);
                         for (std::uint64_t i = 0; i < kEach; ++i) {
                           for (std::uint32_t to = 0; to < 3; ++to) {
                             const std::vector<std::uint64_t> body(1 + random() % (i % 5 == 0 ? 9000 : 100), i);
                             world.nic(n).send(NodeId{to}, MessageKind::test, std::as_bytes(std::span(body)));
                           }
                           if (random() % 3 == 0) world.nic(n).env().relax();
                         }
                         CHECK(ok(world.nic(n).wait_until(inboxes[n].word, [&] { return inboxes[n].count == 3 * kEach; })));
                       }});
    }
    world.run(std::move(parts));
    for (const Inbox& inbox : inboxes) {
      CHECK(inbox.whole);
      for (const auto& numbers : inbox.numbers) {
        REQUIRE(numbers.size() == kEach);
        for (std::uint64_t i = 0; i < kEach; ++i) CHECK(numbers[i] == i);
      }
    }
    for (std::uint32_t n = 0; n < 3; ++n) world.nic(n).set_message_handler(MessageKind::test, nullptr);
  });
}

TEST_CASE("one seed gives one history") {
  const auto history = [](std::uint64_t seed) {
    NicWorldOptions options = rough(seed);
    options.nodes = 3;
    SimNicWorld world(options);
    const RemoteRegion region = world.whole(0);
    std::vector<test::NicWorld::Part> parts;
    for (std::uint32_t n = 0; n < 3; ++n) {
      parts.push_back({n, [&world, region, n] {
                         for (int i = 0; i < 30; ++i) (void)world.nic(n).atomic(region, 0, {AtomicOp::fetch_add, 1});
                       }});
    }
    world.run(std::move(parts));
    return world.trace_hash();
  };
  for (std::uint64_t seed = 1; seed <= 10; ++seed) {
    CHECK(history(seed) == history(seed));
    CHECK(history(seed) != history(seed + 100));
  }
}
