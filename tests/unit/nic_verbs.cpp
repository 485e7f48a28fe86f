// The one-sided verbs, on every kind of world: direct, through the rings, simulated.
#include <doctest/doctest.h>

#include <algorithm>
#include <cstring>
#include <numeric>
#include <vector>

#include "nic/look_at.hpp"
#include "tests/support/nic_world.hpp"

using namespace netvm;
using namespace netvm::nic;
using netvm::test::NicWorld;
using netvm::test::NicWorldOptions;
using netvm::test::on_every_world;
using netvm::test::WorldKind;

namespace {

std::vector<std::byte> pattern(std::size_t bytes, unsigned salt) {
  std::vector<std::byte> out(bytes);
  for (std::size_t i = 0; i < bytes; ++i) out[i] = static_cast<std::byte>(i * 131 + i / 251 + salt);
  return out;
}

}  // namespace

TEST_CASE("writes and reads of any size at any place arrive whole, resident or not") {
  on_every_world([](NicWorld& world) {
    const RemoteRegion region = world.whole(1);
    world.run([&] {
      unsigned salt = 0;
      for (const std::size_t bytes : {0, 1, 8, 100, 4095, 4096, 4097, 10'000, 100'000}) {
        for (const std::uint64_t offset : {0, 8, 4090, 4096, 50'001}) {
          const std::vector<std::byte> data = pattern(bytes, ++salt);
          CHECK(ok(world.nic(0).write(region, offset, data.data(), bytes)));
          CHECK(std::equal(data.begin(), data.end(), world.frame(1) + offset));
          std::vector<std::byte> back(bytes + 1, std::byte{0xcc});
          CHECK(ok(world.nic(0).read(region, offset, back.data(), bytes)));
          CHECK(std::equal(data.begin(), data.end(), back.begin()));
          CHECK(back[bytes] == std::byte{0xcc});
        }
      }
    });
    CHECK(world.nothing_dropped());
    CHECK(world.stats(0).get(Stat::one_sided_ops) > 0);
  });
}

TEST_CASE("a node reaches its own regions the same way, resident or not, whatever the mode") {
  on_every_world([](NicWorld& world) {
    const RemoteRegion own = world.whole(0);
    world.run([&] {
      const std::vector<std::byte> data = pattern(20'000, 5);
      CHECK(ok(world.nic(0).write(own, 77, data.data(), data.size())));
      CHECK(std::memcmp(world.frame(0) + 77, data.data(), data.size()) == 0);
      CHECK(world.nic(0).atomic(own, 40'000, {AtomicOp::fetch_add, 3}).value() == 0);
      CHECK(world.nic(0).atomic(own, 40'000, {AtomicOp::swap, 9}).value() == 3);
    });
  });
}

TEST_CASE("a look at bytes changes nothing and counts nothing, whatever it is at") {
  on_every_world([](NicWorld& world) {
    const RemoteRegion region = world.whole(1);
    RemoteRegion forged = region;
    forged.key ^= 4;
    RemoteRegion nowhere = region;
    nowhere.node = NodeId{2};
    world.run([&] {
      const std::vector<std::byte> data = pattern(3 * kPageSize, 3);
      CHECK(ok(world.nic(0).write(region, 0, data.data(), data.size())));
      const std::uint64_t before = world.stats(0).get(Stat::one_sided_ops);
      look_at(world.nic(0), region, 0, data.size());
      look_at(world.nic(0), region, 100, 0);
      look_at(world.nic(0), region, 5000, 5000);
      look_at(world.nic(0), region, region.length - 8, 16);
      look_at(world.nic(0), region, 20 * kPageSize, kPageSize);  // not resident
      look_at(world.nic(0), forged, 0, kPageSize);
      look_at(world.nic(0), nowhere, 0, kPageSize);
      CHECK(world.stats(0).get(Stat::one_sided_ops) == before);
      CHECK(std::equal(data.begin(), data.end(), world.frame(1)));
    });
    CHECK(world.nothing_dropped());
  });
}

TEST_CASE("errors of each kind come back as themselves, and touch nothing") {
  on_every_world([](NicWorld& world) {
    const RemoteRegion region = world.nic(1).region_create({PageId{2}, 4}, Rights::read).value();
    const RemoteRegion all = world.nic(1).region_create({PageId{8}, 4}, Rights::all).value();
    RemoteRegion forged = region;
    forged.key ^= 4;
    RemoteRegion nowhere = region;
    nowhere.node = NodeId{2};
    RemoteRegion stretched = region;  // claims to be longer than it is: only the target can know
    stretched.length = std::uint64_t{1} << 40;
    const RemoteRegion closed = world.nic(1).region_create({PageId{1}, 1}, Rights::all).value();
    CHECK(ok(world.nic(1).region_revoke(closed)));
    world.run([&] {
      Nic& nic = world.nic(0);
      std::uint64_t value = 0x5555;
      CHECK(nic.write(region, 0, &value, 8) == Status::perm);
      CHECK(nic.atomic(region, 0, {}).status() == Status::perm);
      CHECK(nic.read(forged, 0, &value, 8) == Status::key);
      CHECK(nic.read(nowhere, 0, &value, 8) == Status::invalid);
      CHECK(nic.read(region, region.length - 4, &value, 8) == Status::range);
      CHECK(nic.read(region, ~std::uint64_t{0} - 4, &value, 8) == Status::range);
      CHECK(nic.read(stretched, region.length + kPageSize, &value, 8) == Status::range);
      CHECK(nic.read(closed, 0, &value, 8) == Status::revoked);
      CHECK(nic.atomic(all, 4, {}).status() == Status::align);
      CHECK(nic.atomic(all, 4 * kPageSize - 4, {}).status() != Status::ok);
      CHECK(nic.notify({NodeId{7}, CounterId{0}}, 1) == Status::invalid);
      CHECK(nic.write_notify(all, 0, &value, 8, {NodeId{1}, CounterId{99}}, 1, NotifyMode::own) == Status::counter_range);
      CHECK(value == 0x5555);
      CHECK(ok(nic.read(region, 0, &value, 8)));
      CHECK(value == 0);
      // As packets, the piece before the region's end may have landed; the request fails all the same.
      CHECK(nic.read(stretched, region.length - 4, &value, 8) == Status::range);
    });
    CHECK(world.nothing_dropped());
  });
}

TEST_CASE("regions of pages that do not exist, or without any, are not created") {
  on_every_world([](NicWorld& world) {
    const std::uint64_t pages = world.vm(0).pages();
    CHECK(world.nic(0).region_create({PageId{0}, pages + 1}, Rights::all).status() == Status::range);
    CHECK(world.nic(0).region_create({PageId{~std::uint64_t{0}}, 2}, Rights::all).status() == Status::range);
    CHECK(world.nic(0).region_create({PageId{0}, 0}, Rights::all).status() == Status::invalid);
    // Whoever divides the memory says which part is for regions; those that exist stay.
    const RemoteRegion before = world.nic(0).region_create({PageId{0}, pages}, Rights::all).value();
    world.nic(0).allow_regions({PageId{4}, 3});
    for (const PageRange outside : {PageRange{PageId{0}, 1}, {PageId{3}, 2}, {PageId{6}, 2}, {PageId{7}, 1}, {PageId{0}, pages}})
      CHECK(world.nic(0).region_create(outside, Rights::all).status() == Status::reserved);
    CHECK(world.nic(0).region_create({PageId{4}, 3}, Rights::all).has_value());
    world.run([&] {
      std::uint64_t word = 0;
      CHECK(ok(world.nic(0).read(before, 0, &word, sizeof word)));
    });
  });
}

TEST_CASE("a null pointer to bytes is refused by every verb, one to no bytes is not") {
  on_every_world([](NicWorld& world) {
    const RemoteRegion region = world.whole(1);
    const RemoteCounter counter = world.nic(1).counter_create().value();
    world.run([&] {
      Nic& nic = world.nic(0);
      for (const std::size_t bytes : {std::size_t{8}, std::size_t{65}, std::size_t{3} * kPageSize}) {
        const std::array<Segment, 1> piece{Segment{0, nullptr, static_cast<std::uint32_t>(bytes)}};
        CHECK(nic.write(region, 0, nullptr, bytes) == Status::invalid);
        CHECK(nic.read(region, 0, nullptr, bytes) == Status::invalid);
        CHECK(nic.write_notify(region, 0, nullptr, bytes, counter, 1, NotifyMode::ordered) == Status::invalid);
        CHECK(nic.write_vector(region, piece) == Status::invalid);
        const auto posted = [&](auto&& post) {
          Completion end;
          post(&end);
          return nic.wait(end);
        };
        CHECK(posted([&](Completion* end) { nic.post_write(region, 0, nullptr, bytes, end); }) == Status::invalid);
        CHECK(posted([&](Completion* end) { nic.post_read(region, 0, nullptr, bytes, end); }) == Status::invalid);
        CHECK(posted([&](Completion* end) { nic.post_write_vector(region, piece, end); }) == Status::invalid);
      }
      CHECK(ok(nic.write(region, 0, nullptr, 0)));
      CHECK(ok(nic.read(region, 0, nullptr, 0)));
      CHECK(ok(nic.write_notify(region, 0, nullptr, 0, counter, 1, NotifyMode::ordered)));
    });
    CHECK(world.nic(1).counter_value(counter) == 1);
    CHECK(world.nic(1).counter_errors(counter) == 0);
  });
}

TEST_CASE("a vector of pieces lands whole, in one request, however many and large they are") {
  on_every_world([](NicWorld& world) {
    const RemoteRegion region = world.whole(1);
    world.run([&] {
      for (const std::size_t count : {0, 1, 3, 500, 3000}) {
        const std::vector<std::byte> data = pattern(70'000, static_cast<unsigned>(count));
        std::vector<std::byte> expected(200'000);
        CHECK(ok(world.nic(0).read(region, 0, expected.data(), expected.size())));
        std::vector<Segment> segments;
        std::size_t from = 0;
        for (std::size_t i = 0; i < count; ++i) {
          const auto bytes = static_cast<std::uint32_t>(count == 3 ? 20'000 + i : (i * 7) % 23);
          const std::uint64_t offset = count == 3 ? i * 30'001 : i * 61;
          segments.push_back({offset, data.data() + from, bytes});
          std::memcpy(expected.data() + offset, data.data() + from, bytes);
          from += bytes;
        }
        CHECK(ok(world.nic(0).write_vector(region, segments)));
        CHECK(std::memcmp(world.frame(1), expected.data(), expected.size()) == 0);
      }
      // One bad piece fails the whole request.
      const std::uint64_t value = 1;
      const auto* bytes = reinterpret_cast<const std::byte*>(&value);
      const std::vector<Segment> bad{{0, bytes, 8}, {region.length - 4, bytes, 8}, {16, bytes, 8}};
      CHECK(world.nic(0).write_vector(region, bad) == Status::range);
    });
    CHECK(world.nothing_dropped());
  });
}

TEST_CASE("pieces of one page land in their order, also where they overlap, beside pieces of several pages and of none") {
  on_every_world([](NicWorld& world) {
    const RemoteRegion region = world.whole(1);
    world.run([&] {
      std::vector<std::byte> data(3 * kPageSize);
      for (std::size_t i = 0; i < data.size(); ++i) data[i] = static_cast<std::byte>(i * 7 + i / 251);
      std::vector<std::byte> expected(4 * kPageSize);
      std::vector<Segment> segments;
      std::size_t from = 0;
      const auto add = [&](std::uint64_t offset, std::uint32_t bytes) {
        segments.push_back({offset, data.data() + from, bytes});
        std::memcpy(expected.data() + offset, data.data() + from, bytes);
        from += bytes;
      };
      for (std::uint64_t i = 0; i < 200; ++i) add(16 * i, 8);
      add(40, 100);  // over some of them
      add(44, 8);
      add(kPageSize - 8, 8);
      add(kPageSize, 0);
      add(kPageSize + 1, 3);
      add(2 * kPageSize - 20, kPageSize);  // no page of its own
      add(2 * kPageSize + 5, 1);
      add(0, 1);  // back in the first
      CHECK(ok(world.nic(0).write_vector(region, segments)));
      CHECK(std::memcmp(world.frame(1), expected.data(), expected.size()) == 0);
    });
    CHECK(world.nothing_dropped());
  });
}

TEST_CASE("many posted operations in flight each end once, with their own result") {
  on_every_world([](NicWorld& world) {
    const RemoteRegion region = world.whole(1);
    world.run([&] {
      constexpr std::size_t kCount = 300;
      std::vector<Completion> writes(kCount), reads(kCount), atomics(kCount);
      std::vector<std::uint64_t> values(kCount), back(kCount, 0);
      for (std::uint64_t i = 0; i < kCount; ++i) {
        values[i] = i * i + 1;
        std::uint64_t passing = values[i];  // the source may be reused at once
        world.nic(0).post_write(region, 100 + i * 8, &passing, 8, &writes[i]);
        passing = 0;
        world.nic(0).post_read(region, 100 + i * 8, &back[i], 8, &reads[i]);
        world.nic(0).post_atomic(region, 40'000, {AtomicOp::fetch_add, 1}, &atomics[i]);
      }
      for (std::size_t i = 0; i < kCount; ++i) {
        CHECK(ok(world.nic(0).wait(writes[i])));
        CHECK(ok(world.nic(0).wait(reads[i])));
        CHECK(ok(world.nic(0).wait(atomics[i])));
        CHECK(atomics[i].old_value() == i);  // in the order of posting
        CHECK(back[i] == values[i]);         // after the write before it
      }
    });
    CHECK(world.nothing_dropped());
  });
}

TEST_CASE("fetch_add from threads of all nodes loses nothing and gives each a value of its own") {
  NicWorldOptions options;
  options.nodes = 3;
  on_every_world(options, [](NicWorld& world) {
    const RemoteRegion region = world.whole(2);
    constexpr std::uint64_t kEach = 300;
    std::vector<std::vector<std::uint64_t>> seen(6);
    std::vector<NicWorld::Part> parts;
    for (std::uint32_t part = 0; part < 6; ++part) {
      parts.push_back({part % 3, [&, part] {
                         for (std::uint64_t i = 0; i < kEach; ++i) {
                           seen[part].push_back(world.nic(part % 3).atomic(region, 4096, {AtomicOp::fetch_add, 1}).value());
                         }
                       }});
    }
    world.run(std::move(parts));
    std::vector<std::uint64_t> all;
    for (const auto& values : seen) {
      CHECK(std::is_sorted(values.begin(), values.end()));
      all.insert(all.end(), values.begin(), values.end());
    }
    std::sort(all.begin(), all.end());
    std::vector<std::uint64_t> expected(6 * kEach);
    std::iota(expected.begin(), expected.end(), 0);
    CHECK(all == expected);
  });
}

TEST_CASE("completion hooks run once and may post the next operation") {
  on_every_world([](NicWorld& world) {
    const RemoteRegion region = world.whole(1);
    struct Chain {
      Nic* nic;
      RemoteRegion region;
      int left;
      std::atomic<int> ended{0};
      WaitWord word{};
      static void next(Completion& completion, void* context) {
        auto* chain = static_cast<Chain*>(context);
        CHECK(ok(completion.status()));
        delete &completion;
        Nic* nic = chain->nic;
        if (chain->left-- > 0) {
          nic->post_atomic(chain->region, 0, {AtomicOp::fetch_add, 1}, new Completion(&next, context));
          return;
        }
        chain->ended.fetch_add(1);
        chain->word.announce(nic->env());
      }
    };
    Chain chain{&world.nic(0), region, 200};
    world.run([&] {
      world.nic(0).post_atomic(region, 0, {AtomicOp::fetch_add, 1}, new Completion(&Chain::next, &chain));
      CHECK(ok(world.nic(0).wait_until(chain.word, [&] { return chain.ended.load() != 0; })));
      CHECK(world.nic(0).atomic(region, 0, {AtomicOp::fetch_or, 0}).value() == 201);
    });
    CHECK(chain.ended.load() == 1);
  });
}

TEST_CASE("requests work while revocations come and go: done, or refused as revoked, and nothing in between") {
  on_every_world([](NicWorld& world) {
    const RemoteRegion region = world.nic(1).region_create({PageId{3}, 2}, Rights::all).value();
    const std::vector<std::byte> data = pattern(2 * kPageSize, 3);
    world.run({{0,
                [&] {
                  for (int i = 0; i < 200; ++i) {
                    const Status status = world.nic(0).write(region, 0, data.data(), data.size());
                    CHECK((ok(status) || status == Status::revoked));
                  }
                }},
               {1, [&] {
                  for (int i = 0; i < 50; ++i) world.nic(1).env().relax();
                  CHECK(ok(world.nic(1).region_revoke(region)));
                  CHECK(world.nic(1).region_revoke(region) == Status::revoked);
                }}});
    world.run([&] { CHECK(world.nic(0).write(region, 0, data.data(), 8) == Status::revoked); });
    CHECK(world.nothing_dropped());
  });
}
