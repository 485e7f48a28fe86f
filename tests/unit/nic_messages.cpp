// Two-sided messages on every kind of world: in order, once, whole; and to oneself.
#include <doctest/doctest.h>

#include <cstring>
#include <numeric>
#include <vector>

#include "nic/wire.hpp"
#include "tests/support/nic_world.hpp"

using namespace netvm;
using namespace netvm::nic;
using netvm::test::NicWorld;
using netvm::test::NicWorldOptions;
using netvm::test::on_every_world;
using netvm::test::WorldKind;

namespace {

/// Keeps what arrives, by sender, as long as it lives (also where a test ends early, with messages on their way); lets a thread wait for a number of messages.
struct Inbox final : MessageHandler {
  explicit Inbox(Nic& n) : nic(n), received(n.nodes()) { nic.set_message_handler(MessageKind::test, this); }
  ~Inbox() { nic.set_message_handler(MessageKind::test, nullptr); }
  Inbox(const Inbox&) = delete;
  Inbox& operator=(const Inbox&) = delete;
  void on_message(NodeId from, std::span<const std::byte> body) noexcept override {
    CHECK(!inside.exchange(true));  // one at a time
    received[from.value].emplace_back(body.begin(), body.end());
    inside.store(false);
    count.fetch_add(1);
    word.announce(nic.env());
  }
  Status wait_for(int messages, Nanos timeout = Nanos{60} * 1'000'000'000) {
    return nic.wait_until(
        word, [&] { return count.load() >= messages; }, nic.env().now() + timeout);
  }
  Nic& nic;
  std::vector<std::vector<std::vector<std::byte>>> received;
  std::atomic<int> count{0};
  std::atomic<bool> inside{false};
  WaitWord word;
};

std::vector<std::byte> numbered(std::uint32_t number, std::size_t bytes) {
  std::vector<std::byte> out(std::max<std::size_t>(bytes, 4), static_cast<std::byte>(number));
  std::memcpy(out.data(), &number, 4);
  return out;
}
std::uint32_t number_of(const std::vector<std::byte>& message) {
  std::uint32_t number = 0;
  std::memcpy(&number, message.data(), 4);
  return number;
}

}  // namespace

TEST_CASE("messages of every node arrive in the order of sending, exactly once, also to oneself") {
  NicWorldOptions options;
  options.nodes = 3;
  on_every_world(options, [](NicWorld& world) {
    constexpr std::uint32_t kEach = 300;
    std::vector<std::unique_ptr<Inbox>> inboxes;
    for (std::uint32_t n = 0; n < 3; ++n) inboxes.push_back(std::make_unique<Inbox>(world.nic(n)));
    std::vector<NicWorld::Part> parts;
    for (std::uint32_t n = 0; n < 3; ++n) {
      parts.push_back({n, [&, n] {
                         for (std::uint32_t i = 0; i < kEach; ++i) {
                           for (std::uint32_t to = 0; to < 3; ++to) {
                             const std::vector<std::byte> body = numbered(i, 4 + (i * 37) % 700);
                             world.nic(n).send(NodeId{to}, MessageKind::test, body);
                           }
                           if (i % 50 == 0) world.nic(n).drive();
                         }
                         CHECK(ok(inboxes[n]->wait_for(3 * kEach)));
                       }});
    }
    world.run(std::move(parts));
    for (std::uint32_t n = 0; n < 3; ++n) {
      for (std::uint32_t from = 0; from < 3; ++from) {
        const auto& got = inboxes[n]->received[from];
        REQUIRE(got.size() == kEach);
        for (std::uint32_t i = 0; i < kEach; ++i) CHECK(got[i] == numbered(i, 4 + (i * 37) % 700));
      }
    }
    CHECK(world.nothing_dropped());
  });
}

TEST_CASE("messages of every size around the packet's limits arrive whole") {
  on_every_world([](NicWorld& world) {
    Inbox inbox(world.nic(1));
    std::vector<std::size_t> sizes{0, 1, 2, 3, 100, 1 << 20};
    for (const std::size_t limit : {std::size_t{16 * 1024} - kMaxHeader, std::size_t{4096}, std::size_t{8192}, std::size_t{65536}}) {
      for (const int off : {-113, -112, -81, -80, -1, 0, 1, 80, 112}) {
        sizes.push_back(limit + static_cast<std::size_t>(off));
        sizes.push_back(2 * limit + static_cast<std::size_t>(off));
      }
    }
    world.run({{0,
                [&] {
                  for (const std::size_t size : sizes)
                    world.nic(0).send(NodeId{1}, MessageKind::test, std::vector<std::byte>(size, std::byte{7}));
                }},
               {1, [&] { CHECK(ok(inbox.wait_for(static_cast<int>(sizes.size())))); }}});
    REQUIRE(inbox.received[0].size() == sizes.size());
    for (std::size_t i = 0; i < sizes.size(); ++i) CHECK(inbox.received[0][i] == std::vector<std::byte>(sizes[i], std::byte{7}));
    CHECK(world.nothing_dropped());
  });
}

TEST_CASE("long messages of several threads of a node do not mix") {
  on_every_world([](NicWorld& world) {
    Inbox inbox(world.nic(1));
    std::vector<NicWorld::Part> parts;
    for (std::uint32_t t = 0; t < 3; ++t) {
      parts.push_back({0, [&, t] {
                         for (std::uint32_t i = 0; i < 10; ++i) {
                           world.nic(0).send(NodeId{1}, MessageKind::test, numbered(t * 100 + i, 150'000));
                           world.nic(0).env().relax();
                         }
                       }});
    }
    parts.push_back({1, [&] { CHECK(ok(inbox.wait_for(30))); }});
    world.run(std::move(parts));
    std::vector<std::uint32_t> last(3, 0);
    for (const auto& message : inbox.received[0]) {
      const std::uint32_t number = number_of(message);
      CHECK(message == numbered(number, 150'000));
      CHECK(number % 100 == last[number / 100]++);
    }
  });
}

TEST_CASE("handlers may send, to others and to themselves, without recursion") {
  struct Relay final : MessageHandler {
    explicit Relay(Nic& n) : nic(n) { nic.set_message_handler(MessageKind::test, this); }
    ~Relay() { nic.set_message_handler(MessageKind::test, nullptr); }
    Relay(const Relay&) = delete;
    Relay& operator=(const Relay&) = delete;
    void on_message(NodeId, std::span<const std::byte> body) noexcept override {
      CHECK(depth.fetch_add(1) == 0);
      std::uint32_t hops = 0;
      std::memcpy(&hops, body.data(), 4);
      CHECK_FALSE(nic.drive());  // this thread drives already
      if (hops > 0) {
        --hops;
        const NodeId to = hops % 2 == 0 ? nic.node() : NodeId{(nic.node().value + 1) % nic.nodes()};
        nic.send(to, MessageKind::test, std::as_bytes(std::span(&hops, 1)));
      } else {
        ended.store(true);
        word.announce(nic.env());
      }
      depth.fetch_sub(1);
    }
    Nic& nic;
    std::atomic<int> depth{0};
    std::atomic<bool> ended{false};
    WaitWord word;
  };
  on_every_world([](NicWorld& world) {
    Relay first(world.nic(0)), second(world.nic(1));
    const std::uint32_t hops = 1000;  // 500 times to the other node: ends at node 0
    const auto wait_for = [&](Relay& relay) {
      return relay.nic.wait_until(
          relay.word, [&] { return first.ended.load() || second.ended.load(); }, relay.nic.env().now() + Nanos{60'000'000'000});
    };
    world.run([&] {
      world.nic(0).send(NodeId{0}, MessageKind::test, std::as_bytes(std::span(&hops, 1)));
      CHECK(ok(wait_for(first)));
    });
    CHECK(first.ended.load() != second.ended.load());
  });
}

TEST_CASE("a message to oneself is delivered by the engine, or the simulator's loop, when nobody waits") {
  on_every_world([](NicWorld& world) {
    Inbox inbox(world.nic(0));
    world.run([&] {
      Env& env = world.nic(0).env();
      for (int round = 1; round <= 20; ++round) {
        world.nic(0).send(NodeId{0}, MessageKind::test, numbered(1, 100));
        const Nanos give_up = env.now() + Nanos{20'000'000'000};
        while (inbox.count.load() < round && env.now() < give_up) env.relax();  // computes; never drives
        CHECK(inbox.count.load() == round);
      }
    });
  });
}

TEST_CASE("a message that nobody handles is dropped and counted") {
  on_every_world([](NicWorld& world) {
    const RemoteRegion region = world.whole(1);
    world.run([&] {
      world.nic(0).send(NodeId{1}, MessageKind::test, numbered(1, 10));
      CHECK(ok(world.nic(0).write(region, 0, "x", 1)));
      Env& env = world.nic(0).env();
      const Nanos give_up = env.now() + Nanos{20'000'000'000};
      while (world.nic(1).drops().unhandled == 0 && env.now() < give_up) env.relax();
    });
    CHECK(world.nic(1).drops().unhandled == 1);
  });
}
