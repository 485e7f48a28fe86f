// The world of tests/simulation/nic_everything.cpp: nodes with nothing but a NIC, a network that is bad in every way, pages that leave at any
// moment, and what all channels share: the layout of each node's memory, and what atomics on shared words have said.
#pragma once

#include <doctest/doctest.h>

#include <algorithm>
#include <cstring>
#include <functional>
#include <map>
#include <random>
#include <vector>

#include "tests/support/nic_paging.hpp"
#include "tests/support/nic_world.hpp"

namespace netvm::test::everything {

using namespace netvm::nic;

constexpr Nanos kMillisecond = 1'000'000;
constexpr Nanos kLimit = 200'000 * kMillisecond;  // of virtual time: far beyond anything that ends

// What lies where in each node's memory. Everything but page 0 has one writer: a channel (source -> this node).
constexpr std::uint32_t kMaxNodes = 3;
constexpr std::uint64_t kAddWord = 0, kSwapWord = 8, kCasWord = 16, kFieldWord = 24, kOrWords = 64;
constexpr std::uint64_t kLedgers = kPageSize, kRounds = 5, kSlotBytes = 1'400;
constexpr std::uint64_t kAreas = kLedgers + kMaxNodes * kRounds * kSlotBytes;
constexpr std::uint64_t kAreaBytes = 15'000;
constexpr std::uint64_t kFired = kAreas + kMaxNodes * kAreaBytes;  // what triggered writes write: a word each
constexpr std::uint64_t kMaxFired = 16;
constexpr std::uint64_t kPages = (kFired + kMaxNodes * kMaxFired * 8) / kPageSize + 1;
constexpr int kSteps = 50;
constexpr std::uint32_t kDepth = 16;  // of the queue pairs

inline NicWorldOptions options_for(std::uint64_t seed) {
  std::mt19937_64 random(seed * 77);
  NicWorldOptions options;
  options.seed = seed;
  options.nodes = static_cast<std::uint32_t>(2 + seed % 2);
  options.pages = kPages;
  options.first_sequence = seed % 3 == 0 ? 0xffff'ff9c : 0;  // 100 packets, and credits, before the wrap
  options.system_buffers = seed % 4 == 1 ? options.nodes * 2 : 4096;
  options.connected = seed % 5 == 4;  // as on one host: directly where that is possible, else as packets
  SimNetworkOptions& network = options.network;
  network.max_delay = seed % 5 == 0 ? 100'000 : 5'000;
  network.loss_ppm = seed % 11 == 0 ? 200'000 : static_cast<std::uint32_t>(random() % 50'000);
  network.duplicate_ppm = static_cast<std::uint32_t>(random() % 100'000);
  network.corrupt_ppm = static_cast<std::uint32_t>(random() % 20'000);
  network.late_ppm = seed % 2 == 0 ? 250'000 : 0;
  network.late_delay = 50'000;
  network.lossy = true;
  if (seed % 3 == 1) {
    const Nanos from = static_cast<Nanos>(random() % (2 * kMillisecond));
    network.partitions.push_back({NodeId{0}, NodeId{1}, from, from + static_cast<Nanos>(random() % (300 * kMillisecond))});
  }
  if (seed % 3 != 2) options.budget_pages = kPages / 2;
  return options;
}

/// Messages that have come to a node.
struct Inbox final : MessageHandler {
  std::vector<std::uint64_t> next = std::vector<std::uint64_t>(kMaxNodes);  // by source
  void on_message(NodeId from, std::span<const std::byte> body) noexcept override {
    std::vector<std::uint64_t> words(body.size() / 8);
    std::memcpy(words.data(), body.data(), body.size());
    CHECK(!words.empty());
    CHECK(std::all_of(words.begin(), words.end(), [&](std::uint64_t word) { return word == next[from.value]; }));
    ++next[from.value];
  }
};

/// What atomics on a node's shared words have said, whoever asked.
struct Atomics {
  struct Step {
    std::uint64_t old_value, operand;
  };
  std::vector<Step> additions;
  std::map<std::uint64_t, std::uint64_t> swaps;  // old -> new
  std::uint64_t swapped = 0, compared = 0;       // how many; how many succeeded
};

struct Everything {
  explicit Everything(std::uint64_t s);
  Env& env(std::uint32_t node) { return world.nic(node).env(); }
  /// Waits for something that nobody announces.
  bool comes_true(std::uint32_t node, const std::function<bool()>& condition) {
    while (!condition()) {
      if (env(node).now() > kLimit) return false;
      sleep_until(env(node), env(node).now() + 20'000);
    }
    return true;
  }
  /// The node's own look at its memory.
  std::vector<std::byte> look(std::uint32_t node, std::uint64_t at, std::uint64_t bytes);
  std::uint64_t word(std::uint32_t node, std::uint64_t at) {
    std::uint64_t value = 0;
    std::memcpy(&value, look(node, at, 8).data(), 8);
    return value;
  }
  void evict_at_random(std::uint32_t node);
  void check_atomics(std::uint32_t node);

  std::uint64_t seed;
  std::uint32_t nodes;
  Paging paging;
  SimNicWorld world;
  std::vector<RemoteRegion> regions;
  std::vector<Inbox> inboxes;
  std::vector<Atomics> atomics;
  std::size_t sending = 0, checking = 0;  // channels that still do; set before run()
};

inline Everything::Everything(std::uint64_t s)
    : seed(s), nodes(options_for(s).nodes), world(paging.with(options_for(s)), WorldKind::lossy), inboxes(nodes), atomics(nodes) {
  paging.attach(world);
  for (std::uint32_t n = 0; n < nodes; ++n) {
    regions.push_back(world.whole(n));
    world.nic(n).set_message_handler(MessageKind::test, &inboxes[n]);
  }
  paging.set_page_in(
      [this](std::uint32_t node, PageId) { sleep_until(env(node), env(node).now() + static_cast<Nanos>(env(node).random() % 20'000)); });
}

inline std::vector<std::byte> Everything::look(std::uint32_t node, std::uint64_t at, std::uint64_t bytes) {
  std::vector<std::byte> seen(bytes);
  for (std::uint64_t done = 0; done < bytes;) {
    const std::uint64_t n = std::min(bytes - done, kPageSize - (at + done) % kPageSize);
    const auto pins = world.vm(node).pin({PageId{(at + done) / kPageSize}, 1}, false);
    REQUIRE(pins.has_value());
    std::memcpy(seen.data() + done, world.frame(node) + at + done, n);
    done += n;
  }
  return seen;
}

inline void Everything::evict_at_random(std::uint32_t node) {
  std::mt19937_64 random(seed * 31 + node);
  while (sending != 0 && env(node).now() < kLimit) {
    (void)world.vm(node).evict(1 + random() % 4);
    // Not all the time: a partition lasts long, and nothing is there to be evicted then.
    sleep_until(env(node), env(node).now() + static_cast<Nanos>(random() % (env(node).now() < 10 * kMillisecond ? 4'000 : 400'000)));
  }
}

inline void Everything::check_atomics(std::uint32_t node) {
  Atomics& a = atomics[node];
  // Each addition saw the sum of those before it, so each happened once.
  std::sort(a.additions.begin(), a.additions.end(), [](const auto& x, const auto& y) { return x.old_value < y.old_value; });
  std::uint64_t sum = 0;
  for (const Atomics::Step& step : a.additions) {
    CHECK(step.old_value == sum);
    sum += step.operand;
  }
  CHECK(word(node, kAddWord) == sum);
  // Each swap took out what another had put in: a chain from 0 to what is there.
  std::uint64_t value = 0, links = 0;
  for (auto next = a.swaps.find(value); next != a.swaps.end() && links < a.swapped; next = a.swaps.find(value)) {
    value = next->second;
    ++links;
  }
  CHECK(links == a.swapped);
  CHECK(word(node, kSwapWord) == value);
  CHECK(word(node, kCasWord) == a.compared);
}

}  // namespace netvm::test::everything
