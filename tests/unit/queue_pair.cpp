// Queue pairs on every kind of world: gather and scatter, completions, fences, errors, limits.
#include "nic/queue_pair.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <numeric>
#include <random>
#include <vector>

#include "tests/support/nic_world.hpp"

using namespace netvm;
using namespace netvm::nic;
using netvm::test::NicWorld;
using netvm::test::NicWorldOptions;
using netvm::test::on_every_world;

namespace {

constexpr Nanos kSecond = 1'000'000'000;

Nanos soon(Nic& nic) { return nic.env().now() + 60 * kSecond; }

std::uint64_t word_at(NicWorld& world, std::uint32_t node, std::uint64_t offset) {
  return std::atomic_ref<std::uint64_t>(*reinterpret_cast<std::uint64_t*>(world.frame(node) + offset)).load();
}

std::unique_ptr<QueuePair> pair_to(Nic& nic, std::uint32_t target, std::uint32_t depth = 256) {
  return QueuePair::create(nic, {NodeId{target}, depth}).value();
}

/// Drives both ends by hand until the pair has nothing in flight.
bool comes_through(Nic& there, QueuePair& pair, Nic& here) {
  const Nanos deadline = soon(here);
  while (pair.in_flight() > 0 && here.env().now() < deadline) {
    (void)there.drive();
    QpCompletion ends[16];
    (void)pair.poll(ends);
  }
  return pair.in_flight() == 0;
}

/// Waits for `count` completions.
std::vector<QpCompletion> collect(QueuePair& pair, std::size_t count, Nanos deadline) {
  std::vector<QpCompletion> all(count);
  std::size_t have = 0;
  while (have < count) {
    const Result<std::size_t> more = pair.wait(std::span(all).subspan(have), deadline);
    if (!more || *more == 0) break;
    have += *more;
  }
  all.resize(have);
  return all;
}

}  // namespace

TEST_CASE("a queue pair gathers and scatters pieces of any length and alignment, across pages") {
  on_every_world([](NicWorld& world) {
    const RemoteRegion region = world.whole(1);
    world.run([&] {
      Nic& nic = world.nic(0);
      const auto pair = pair_to(nic, 1);
      std::mt19937_64 random(7);
      for (int round = 0; round < 30; ++round) {
        std::vector<std::byte> out(20'000), in(20'000);
        for (std::byte& b : out) b = static_cast<std::byte>(random());
        std::vector<Piece> sources, landings;
        const auto cut = [&](std::vector<Piece>& pieces, std::byte* base, std::size_t total) {
          const std::size_t count = 1 + random() % QueuePair::kMaxPieces;
          std::size_t at = 0;
          for (std::size_t i = 0; i < count; ++i) {
            const std::size_t n = i + 1 == count ? total - at : random() % (total - at + 1);
            pieces.push_back({base + at, n});
            at += n;
          }
        };
        const std::size_t total = random() % 20'000;
        const std::uint64_t offset = random() % 9000;
        cut(sources, out.data(), total);
        cut(landings, in.data(), total);
        CHECK(pair->post(QpRequest::write(region, offset, sources, 1)).status == Status::ok);
        CHECK(pair->post(QpRequest::read(region, offset, landings, 2)).status == Status::ok);  // of one channel: after the write
        const auto ends = collect(*pair, 2, soon(nic));
        REQUIRE(ends.size() == 2);
        for (const QpCompletion& end : ends) CHECK(ok(end.status));
        CHECK(std::equal(out.begin(), out.begin() + static_cast<std::ptrdiff_t>(total), in.begin()));
      }
      CHECK(ok(pair->flush(soon(nic))));
    });
    CHECK(world.nothing_dropped());
  });
}

TEST_CASE("many operations in flight: each signalled one has one completion, whatever its kind and its level") {
  on_every_world([](NicWorld& world) {
    const RemoteRegion region = world.whole(1);
    const RemoteCounter counter = world.nic(1).counter_create().value();
    world.run([&] {
      Nic& nic = world.nic(0);
      const auto pair = pair_to(nic, 1, 64);
      constexpr std::uint64_t kOperations = 2000;
      std::vector<std::uint64_t> values(kOperations), landed(kOperations, 0);
      std::iota(values.begin(), values.end(), 1);
      std::vector<Piece> sources(kOperations), landings(kOperations);
      std::map<std::uint64_t, int> ends;
      std::uint64_t signalled = 0, notified = 0, added = 0;
      std::vector<QpCompletion> batch(16);
      const auto take = [&](std::size_t count) {
        for (std::size_t i = 0; i < count; ++i) {
          CHECK(ok(batch[i].status));
          ++ends[batch[i].user_id];
        }
      };
      for (std::uint64_t i = 0; i < kOperations; ++i) {
        sources[i] = Piece::source(&values[i], 8);
        landings[i] = Piece::landing(&landed[i], 8);
        QpRequest request;
        switch (i % 5) {
          case 0:
            request = QpRequest::write(region, 8 * i, {&sources[i], 1}, i);
            break;
          case 1:
            request =
                QpRequest::write_notify(region, 8 * i, {&sources[i], 1}, counter, i % 2 == 0 ? NotifyMode::own : NotifyMode::ordered, i);
            ++notified;
            break;
          case 2:
            request = QpRequest::read(region, 8 * (i - 2), {&landings[i], 1}, i);
            break;
          case 3:
            request = QpRequest::notify(counter, i);
            ++notified;
            break;
          default:
            request = QpRequest::atomic(region, 100'000, {AtomicOp::fetch_add, 1}, i);
            ++added;
        }
        request.signalled = i % 3 != 0;
        request.fence = i % 11 == 0;
        if (i % 5 < 2 && i % 7 == 0) request.level = CompletionLevel::local;
        if (i % 5 < 2 && i % 4 == 0) request.inlined = true;
        signalled += request.signalled ? 1 : 0;
        while (pair->post(request).status == Status::exhausted) take(pair->wait(batch, soon(nic)).value());
      }
      CHECK(ok(pair->flush(soon(nic))));
      CHECK(pair->in_flight() == 0);
      for (std::size_t n = 0; (n = pair->poll(batch)) > 0;) take(n);
      CHECK(ends.size() == signalled);
      for (const auto& [id, count] : ends) CHECK(count == 1);
      for (std::uint64_t i = 0; i < kOperations; ++i) {
        if (i % 5 < 2) CHECK(word_at(world, 1, 8 * i) == values[i]);
        if (i % 5 == 2) CHECK(landed[i] == values[i - 2]);
      }
      CHECK(word_at(world, 1, 100'000) == added);
      CHECK(world.nic(1).counter_value(counter) == notified);
    });
    CHECK(world.nothing_dropped());
  });
}

TEST_CASE("atomics in flight take effect in the order of posting, and each has the old value of its own") {
  on_every_world([](NicWorld& world) {
    const RemoteRegion region = world.whole(1);
    world.run([&] {
      Nic& nic = world.nic(0);
      const auto pair = pair_to(nic, 1, 64);
      constexpr std::uint64_t kOperations = 400;
      std::vector<std::uint64_t> expected, old(kOperations, ~0ULL);
      std::vector<QpCompletion> batch(16);
      const auto take = [&](std::size_t count) {
        for (std::size_t i = 0; i < count; ++i) old[batch[i].user_id] = batch[i].old_value;
      };
      std::uint64_t word = 0;  // as one after the other makes it
      for (std::uint64_t i = 0; i < kOperations; ++i) {
        const AtomicArgs kinds[] = {{AtomicOp::compare_swap, i + 1000, word},
                                    {AtomicOp::compare_swap, i + 1000, word + 1},  // finds another value
                                    {AtomicOp::fetch_add, 3},
                                    {AtomicOp::swap, i}};
        expected.push_back(word);
        const std::uint64_t results[] = {i + 1000, word, word + 3, i};
        word = results[i % 4];
        while (pair->post(QpRequest::atomic(region, 0, kinds[i % 4], i)).status == Status::exhausted)
          take(pair->wait(batch, soon(nic)).value());
      }
      CHECK(ok(pair->flush(soon(nic))));
      for (std::size_t n = 0; (n = pair->poll(batch)) > 0;) take(n);
      CHECK(old == expected);
      CHECK(word_at(world, 1, 0) == word);
    });
    CHECK(world.nothing_dropped());
  });
}

TEST_CASE("a fence waits until what is before it is PLACED; without one, writes may land in any order") {
  NicWorldOptions options;
  options.network.max_delay = 200'000;
  on_every_world(options, [](NicWorld& world) {
    const RemoteRegion region = world.whole(1);
    world.run([&] {
      Nic& nic = world.nic(0);
      const auto pair = pair_to(nic, 1);
      bool ordered = true;
      for (std::uint64_t round = 1; round <= 40; ++round) {  // two writes to one place: only the fence orders them
        std::uint64_t first = 2 * round, second = 2 * round + 1;
        const Piece a = Piece::source(&first, 8), b = Piece::source(&second, 8);
        QpRequest fenced = QpRequest::write(region, 64, {&b, 1}, 2);
        fenced.fence = true;
        const QpRequest both[] = {QpRequest::write(region, 64, {&a, 1}, 1), fenced};
        CHECK(pair->post(both).count == 2);
        const auto ends = collect(*pair, 2, soon(nic));
        REQUIRE(ends.size() == 2);
        CHECK(ends[0].user_id == 1);
        CHECK(ends[1].user_id == 2);
        ordered = ordered && word_at(world, 1, 64) == second;
      }
      CHECK(ordered);
    });
  });
}

TEST_CASE(
    "an inlined source may change as soon as it is posted, also when a fence holds the write back; so may one whose LOCAL completion "
    "came") {
  NicWorldOptions options;
  options.network.min_delay = 50'000;
  options.network.max_delay = 200'000;
  on_every_world(options, [](NicWorld& world) {
    const RemoteRegion region = world.whole(1);
    world.run([&] {
      Nic& nic = world.nic(0);
      const auto pair = pair_to(nic, 1);
      std::uint64_t words[2] = {5, 6};
      const Piece pieces[] = {Piece::source(&words[0], 8), Piece::source(&words[1], 8)};
      QpRequest inlined = QpRequest::write(region, 512, pieces, 2);
      inlined.inlined = inlined.fence = true;
      const QpRequest both[] = {QpRequest::write(region, 256, pieces, 1), inlined};
      CHECK(pair->post(both).count == 2);
      words[0] = words[1] = 0;
      CHECK(ok(pair->flush(soon(nic))));
      CHECK(word_at(world, 1, 256) == 5);  // taken while it was posted: nothing held it back
      CHECK(word_at(world, 1, 512) == 5);
      CHECK(word_at(world, 1, 520) == 6);
      QpCompletion ends[4];
      CHECK(pair->poll(ends) == 2);
      words[0] = 7;
      QpRequest local = QpRequest::write(region, 768, pieces, 3);
      local.level = CompletionLevel::local;
      CHECK(pair->post(local).status == Status::ok);
      CHECK(pair->poll(ends) == 1);  // at once
      words[0] = 0;
      CHECK(ok(pair->flush(soon(nic))));
      CHECK(word_at(world, 1, 768) == 7);
      CHECK(pair->poll(ends) == 0);  // exactly one
    });
  });
}

TEST_CASE("a full queue refuses and loses nothing; a post takes what fits") {
  on_every_world([](NicWorld& world) {
    const RemoteRegion region = world.whole(1);
    world.run([&] {
      Nic& nic = world.nic(0);
      const auto pair = pair_to(nic, 1, 4);
      std::vector<QpRequest> six;
      for (std::uint64_t i = 0; i < 6; ++i) six.push_back(QpRequest::atomic(region, 0, {AtomicOp::fetch_add, 1}, i));
      const QueuePair::Posted posted = pair->post(six);
      CHECK(posted.count == 4);
      CHECK(posted.status == Status::exhausted);
      CHECK(ok(pair->flush(soon(nic))));
      CHECK(pair->post(six[4]).status == Status::exhausted);  // ended, but not polled
      const auto ends = collect(*pair, 4, soon(nic));
      REQUIRE(ends.size() == 4);
      for (std::uint64_t i = 0; i < 4; ++i) {
        CHECK(ends[i].user_id == i);
        CHECK(ends[i].old_value == i);
      }
      CHECK(pair->post(std::span(six).subspan(4)).count == 2);
      CHECK(collect(*pair, 2, soon(nic)).size() == 2);
      CHECK(pair->wait(std::span<QpCompletion>{}, soon(nic)).value() == 0);  // nothing in flight: it does not wait for ever
      CHECK(word_at(world, 1, 0) == 6);
    });
  });
}

TEST_CASE("an error ends its operation alone, shows although nobody wanted a completion, and is told by flush once") {
  on_every_world([](NicWorld& world) {
    const RemoteRegion region = world.whole(1);
    RemoteRegion forged = region;
    forged.key ^= 1;
    const RemoteCounter counter = world.nic(1).counter_create().value();
    world.run([&] {
      Nic& nic = world.nic(0);
      const auto pair = pair_to(nic, 1);
      std::uint64_t value = 3;
      const Piece piece = Piece::source(&value, 8);
      QpRequest bad = QpRequest::write(forged, 0, {&piece, 1}, 1);
      bad.signalled = false;
      const QpRequest all[] = {bad, QpRequest::write(region, 8, {&piece, 1}, 2),
                               QpRequest::write_notify(region, 16, {&piece, 1}, counter, NotifyMode::ordered, 3),
                               QpRequest::write(region, 24, {&piece, 1}, 4)};
      CHECK(pair->post(all).count == 4);
      const auto ends = collect(*pair, 4, soon(nic));
      REQUIRE(ends.size() == 4);
      std::map<std::uint64_t, Status> status;
      for (const QpCompletion& end : ends) status[end.user_id] = end.status;
      CHECK(status[1] == Status::key);
      CHECK(ok(status[2]));
      CHECK(status[3] == Status::cancelled);
      CHECK(ok(status[4]));
      CHECK(word_at(world, 1, 24) == 3);
      CHECK(pair->flush(soon(nic)) == Status::key);
      CHECK(ok(pair->flush(soon(nic))));
      nic.clear_errors(NodeId{1});
      CHECK(pair->post(QpRequest::notify(counter, 5)).status == Status::ok);
      CHECK(ok(collect(*pair, 1, soon(nic)).at(0).status));
      CHECK(world.nic(1).counter_value(counter) == 1);
      CHECK(world.nic(1).counter_errors(counter) == 1);
    });
  });
}

TEST_CASE("requests that can never be right are refused where they stand, and those before them are posted") {
  on_every_world([](NicWorld& world) {
    const RemoteRegion region = world.whole(1), elsewhere = world.whole(0);
    const RemoteCounter counter = world.nic(1).counter_create().value();
    Nic& nic = world.nic(0);
    CHECK(QueuePair::create(nic, {NodeId{2}, 4}).status() == Status::invalid);
    CHECK(QueuePair::create(nic, {NodeId{1}, 0}).status() == Status::invalid);
    CHECK(QueuePair::create(nic, {NodeId{1}, 3}).status() == Status::invalid);
    world.run([&] {
      const auto pair = pair_to(nic, 1);
      std::uint64_t value = 0;
      const std::vector<Piece> many(QueuePair::kMaxPieces + 1, Piece::source(&value, 8));
      const Piece one = Piece::source(&value, 8), null{nullptr, 8}, large{&value, 65};
      std::vector<QpRequest> wrong = {QpRequest::write(elsewhere, 0, {&one, 1}), QpRequest::write(region, 0, many),
                                      QpRequest::read(region, 0, {&null, 1}), QpRequest::notify({NodeId{0}, counter.id})};
      wrong.push_back(QpRequest::write(region, 0, {&large, 1}));
      wrong.back().inlined = true;
      wrong.push_back(QpRequest::read(region, 0, {&one, 1}));
      wrong.back().inlined = true;
      wrong.push_back(QpRequest::atomic(region, 0, {static_cast<AtomicOp>(9)}));
      wrong.push_back(QpRequest::notify(counter));
      wrong.back().op = static_cast<QpOp>(9);
      for (const QpRequest& request : wrong) {
        const QpRequest two[] = {QpRequest::notify(counter), request};
        const QueuePair::Posted posted = pair->post(two);
        CHECK(posted.count == 1);
        CHECK(posted.status == Status::invalid);
      }
      CHECK(ok(pair->flush(soon(nic))));
      CHECK(world.nic(1).counter_value(counter) == wrong.size());
    });
  });
}

TEST_CASE("several queue pairs of several threads to one target do not mix") {
  on_every_world([](NicWorld& world) {
    const RemoteRegion region = world.whole(1);
    std::vector<NicWorld::Part> parts;
    for (std::uint64_t t = 0; t < 3; ++t) {
      parts.push_back({0, [&world, region, t] {
                         Nic& nic = world.nic(0);
                         const auto pair = pair_to(nic, 1, 32);
                         for (std::uint64_t i = 0; i < 300; ++i) {
                           const std::uint64_t value = t << 32 | i;
                           const Piece piece = Piece::source(&value, 8);
                           QpRequest request = QpRequest::write(region, 8192 * t + 8 * i, {&piece, 1}, value);
                           request.inlined = true;
                           while (pair->post(request).status == Status::exhausted) {
                             QpCompletion end;
                             CHECK(pair->wait({&end, 1}, soon(nic)).value() == 1);
                             CHECK(ok(end.status));
                             CHECK((end.user_id >> 32) == t);
                           }
                         }
                         CHECK(ok(pair->flush(soon(nic))));
                       }});
    }
    world.run(std::move(parts));
    for (std::uint64_t t = 0; t < 3; ++t) {
      for (std::uint64_t i = 0; i < 300; ++i) CHECK(word_at(world, 1, 8192 * t + 8 * i) == (t << 32 | i));
    }
  });
}

TEST_CASE("E_NO_CREDIT: in try mode a request for which the target has granted no credit is refused; otherwise it queues") {
  NicWorldOptions options;
  options.engines = false;  // nobody gives credits back
  options.system_buffers = 8;
  netvm::test::ThreadNicWorld world(netvm::test::WorldKind::packet, options);
  const RemoteRegion region = world.whole(1);
  Nic& nic = world.nic(0);
  const auto pair = pair_to(nic, 1, 64);
  std::uint64_t value = 1;
  const Piece piece = Piece::source(&value, 8);
  QpRequest request = QpRequest::write(region, 0, {&piece, 1});
  request.try_only = true;
  int taken = 0;
  QueuePair::Posted posted{1, Status::ok};
  while (taken < 60 && (posted = pair->post(request)).count == 1) ++taken;
  CHECK(taken >= 1);
  CHECK(taken <= 8);
  CHECK(posted.status == Status::no_credit);
  request.try_only = false;
  CHECK(ok(pair->post(request).status));
  CHECK(pair->in_flight() == static_cast<std::uint64_t>(taken) + 1);
  world.run({{1, [&] { CHECK(comes_through(world.nic(1), *pair, nic)); }}});
  request.try_only = true;
  CHECK(ok(pair->post(request).status));  // they have come back
  nic.shut_down();
}

TEST_CASE("a wait or a flush of what does not end comes back at its deadline; a death or a shutdown ends it, held back or not") {
  for (const bool dies : {true, false}) {
    NicWorldOptions options;
    options.engines = false;  // nobody answers
    netvm::test::ThreadNicWorld world(netvm::test::WorldKind::packet, options);
    const RemoteRegion region = world.whole(1);
    Nic& nic = world.nic(0);
    const auto pair = pair_to(nic, 1);
    std::uint64_t value = 1;
    const Piece piece = Piece::source(&value, 8);
    QpRequest fenced = QpRequest::write(region, 0, {&piece, 1}, 2);
    fenced.fence = true;
    const QpRequest both[] = {QpRequest::write(region, 0, {&piece, 1}, 1), fenced};
    CHECK(pair->post(both).count == 2);
    CHECK(pair->flush(nic.env().now() + 2'000'000) == Status::timeout);
    QpCompletion ends[4];
    CHECK(pair->wait(ends, nic.env().now() + 2'000'000).status() == Status::timeout);
    const Status expected = dies ? Status::peer_dead : Status::cancelled;
    if (dies) {
      nic.declare_dead(NodeId{1});
    } else {
      nic.shut_down();
    }
    CHECK(pair->flush() == expected);
    CHECK(pair->poll(ends) == 2);
    CHECK(ends[0].status == expected);
    CHECK(ends[1].status == expected);
    CHECK(pair->post(both[0]).status == Status::ok);
    CHECK(pair->poll(ends) == 1);
    CHECK(ends[0].status == expected);
  }
}
