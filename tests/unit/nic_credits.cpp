// Credits: with very few system buffers everything still happens, in order, on every world; nobody waits for ever, and who does not want to
// wait is told.
#include <doctest/doctest.h>

#include <cstring>
#include <vector>

#include "tests/support/nic_world.hpp"

using namespace netvm;
using namespace netvm::nic;
using netvm::test::NicWorld;
using netvm::test::NicWorldOptions;
using netvm::test::WorldKind;

namespace {

NicWorldOptions few_buffers(std::uint32_t nodes, std::uint32_t buffers) {
  NicWorldOptions options;
  options.nodes = nodes;
  options.pages = 128;
  options.system_buffers = buffers;
  options.first_sequence = 0xffff'fff0;  // credits wrap, too
  return options;
}

constexpr std::byte kOriginal{1}, kEcho{2};

/// Answers every original with an echo.
struct Inbox final : MessageHandler {
  std::vector<std::vector<std::byte>> got;
  WaitWord word;
  Nic* nic = nullptr;
  std::atomic<std::uint32_t> count{0};
  void on_message(NodeId from, std::span<const std::byte> body) noexcept override {
    got.emplace_back(body.begin(), body.end());
    if (body[0] == kOriginal) {
      got.back()[0] = kEcho;
      nic->send(from, MessageKind::test, got.back());
    }
    count.fetch_add(1);
    word.announce(nic->env());
  }
};

}  // namespace

TEST_CASE("with one system buffer a peer, everything posted at once happens, in order") {
  for (const std::uint32_t buffers : {1U, 2U, 5U}) {
    netvm::test::on_every_world(few_buffers(2, buffers), [](NicWorld& world) {
      const RemoteRegion region = world.whole(1);
      const RemoteCounter counter = world.nic(1).counter_create().value();
      std::vector<std::byte> big(200'000);
      for (std::size_t i = 0; i < big.size(); ++i) big[i] = static_cast<std::byte>(i * 31);
      world.run([&] {
        Nic& nic = world.nic(0);
        constexpr std::size_t kCount = 50;
        std::vector<Completion> all(3 * kCount + 2);
        std::vector<std::uint64_t> seen(kCount, 0);
        nic.post_write(region, kPageSize, big.data(), big.size(), &all[3 * kCount]);
        for (std::uint64_t i = 0; i < kCount; ++i) {
          const std::uint64_t value = i + 1;
          nic.post_write(region, i * 8, &value, 8, &all[3 * i]);
          nic.post_atomic(region, i * 8, {AtomicOp::fetch_add, 1000}, &all[3 * i + 1]);
          nic.post_read(region, i * 8, &seen[i], 8, &all[3 * i + 2]);
          CHECK(ok(nic.notify(counter, 1)));
        }
        std::vector<std::byte> back(big.size());
        nic.post_read(region, kPageSize, back.data(), back.size(), &all[3 * kCount + 1]);
        for (Completion& completion : all) CHECK(ok(nic.wait(completion)));
        CHECK(back == big);
        for (std::uint64_t i = 0; i < kCount; ++i) {
          CHECK(all[3 * i + 1].old_value() == i + 1);
          CHECK(seen[i] == i + 1001);
        }
        CHECK(world.nic(1).counter_value(counter) == kCount);
      });
      CHECK(world.nothing_dropped());
    });
  }
}

TEST_CASE("nodes that flood each other with long messages and echoes out of handlers do not deadlock") {
  netvm::test::on_every_world(few_buffers(3, 3), [](NicWorld& world) {
    std::vector<Inbox> inboxes(3);
    constexpr std::uint32_t kEach = 12;
    std::vector<NicWorld::Part> parts;
    for (std::uint32_t n = 0; n < 3; ++n) {
      inboxes[n].nic = &world.nic(n);
      world.nic(n).set_message_handler(MessageKind::test, &inboxes[n]);
    }
    for (std::uint32_t n = 0; n < 3; ++n) {
      parts.push_back({n, [&, n] {
                         for (std::uint32_t i = 0; i < kEach; ++i) {
                           std::vector<std::byte> body(i % 3 == 0 ? 300'000 : 100, static_cast<std::byte>(n * 16 + i));
                           body[0] = kOriginal;
                           for (std::uint32_t to = 0; to < 3; ++to) {
                             if (to != n) world.nic(n).send(NodeId{to}, MessageKind::test, body);
                           }
                         }
                         Nic& nic = world.nic(n);
                         const Nanos deadline = nic.env().now() + Nanos{60} * 1'000'000'000;
                         const auto all = [&] { return inboxes[n].count.load() == 4 * kEach; };
                         CHECK(ok(nic.wait_until(inboxes[n].word, all, deadline)));
                       }});
    }
    world.run(std::move(parts));
    for (std::uint32_t n = 0; n < 3; ++n) world.nic(n).set_message_handler(MessageKind::test, nullptr);  // no handler is at its end still
    for (const Inbox& inbox : inboxes) {
      for (const auto& body : inbox.got) {
        CHECK((body.size() == 100 || body.size() == 300'000));
        CHECK(std::equal(body.begin() + 2, body.end(), body.begin() + 1));
      }
    }
    CHECK(world.nothing_dropped());
  });
}

TEST_CASE("who would rather know than wait is told, and nothing has happened") {
  NicWorldOptions options = few_buffers(2, 8);
  options.engines = false;  // the target does nothing until it is driven
  netvm::test::ThreadNicWorld world(WorldKind::packet, options);
  const RemoteRegion region = world.whole(1);
  Nic& nic = world.nic(0);
  const std::uint64_t value = 7;
  std::vector<Completion> all(10);
  std::size_t posted = 0;
  for (; posted < all.size(); ++posted) {
    nic.post_write(region, posted * 8, &value, 8, &all[posted], WhenFull::refuse);
    if (all[posted].done()) break;
  }
  CHECK(posted == 2);  // 8 buffers, 2 nodes, half of it as first shares
  CHECK(all[posted].status() == Status::no_credit);
  Completion vector, atomic, read, large;
  std::uint64_t landing = 0;
  const Segment segment{0, reinterpret_cast<const std::byte*>(&value), 8};
  nic.post_write_vector(region, {&segment, 1}, &vector, WhenFull::refuse);
  nic.post_atomic(region, 512, {AtomicOp::fetch_add, 1}, &atomic, WhenFull::refuse);
  nic.post_read(region, 0, &landing, 8, &read, WhenFull::refuse);
  for (Completion* refused : {&vector, &atomic, &read}) CHECK((refused->done() && refused->status() == Status::no_credit));
  Completion queued;
  nic.post_atomic(region, 512, {AtomicOp::fetch_add, 1}, &queued);
  CHECK_FALSE(queued.done());
  for (int i = 0; i < 100 && !queued.done(); ++i) {
    world.nic(1).drive();
    nic.drive();
  }
  REQUIRE(queued.done());
  CHECK(queued.old_value() == 0);
  for (std::size_t i = 0; i < posted; ++i) CHECK((all[i].done() && ok(all[i].status())));
  std::uint64_t third = 0;
  std::memcpy(&third, world.frame(1) + posted * 8, 8);
  CHECK(third == 0);
  std::vector<std::byte> many(40 * kPageSize);
  nic.post_write(region, 0, many.data(), many.size(), &large, WhenFull::refuse);
  CHECK(large.status() == Status::no_credit);  // it would take more buffers than there are
  CHECK(world.nothing_dropped());
}

TEST_CASE("notifications that would have to wait are refused as well: no byte, no count, no error") {
  NicWorldOptions options = few_buffers(2, 8);
  options.engines = false;
  netvm::test::ThreadNicWorld world(WorldKind::packet, options);
  const RemoteRegion region = world.whole(1);
  const RemoteCounter counter = world.nic(1).counter_create().value();
  Nic& nic = world.nic(0);
  const std::uint64_t value = 7;
  Completion first, second, notify, ordered, own;
  nic.post_notify(counter, 1, &first, WhenFull::refuse);
  nic.post_write_notify(region, 0, &value, 8, counter, 1, NotifyMode::ordered, &second, WhenFull::refuse);
  CHECK_FALSE(first.done());
  CHECK_FALSE(second.done());
  nic.post_notify(counter, 1, &notify, WhenFull::refuse);
  nic.post_write_notify(region, 64, &value, 8, counter, 1, NotifyMode::ordered, &ordered, WhenFull::refuse);
  nic.post_write_notify(region, 128, &value, 8, counter, 1, NotifyMode::own, &own, WhenFull::refuse);
  for (Completion* refused : {&notify, &ordered, &own}) CHECK((refused->done() && refused->status() == Status::no_credit));
  for (int i = 0; i < 100 && !(first.done() && second.done()); ++i) {
    world.nic(1).drive();
    nic.drive();
  }
  CHECK((first.done() && ok(first.status())));
  CHECK((second.done() && ok(second.status())));
  CHECK(world.nic(1).counter_value(counter) == 2);
  CHECK(world.nic(1).counter_errors(counter) == 0);
  std::uint64_t there = 0;
  std::memcpy(&there, world.frame(1) + 64, 8);
  CHECK(there == 0);
  Completion again;
  nic.post_notify(counter, 1, &again, WhenFull::refuse);  // the refusals have spent nothing
  CHECK_FALSE(again.done());
  for (int i = 0; i < 100 && !again.done(); ++i) {
    world.nic(1).drive();
    nic.drive();
  }
  CHECK((again.done() && ok(again.status())));  // it must not outlive this scope
  CHECK(world.nothing_dropped());
}
