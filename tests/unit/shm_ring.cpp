// ShmRing: records come out as they went in, whatever their sizes; a full ring says so; a peer's nonsense closes the ring and nothing else.
#include "nic/shm_ring.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <thread>
#include <vector>

#include "runtime/random.hpp"

namespace netvm::nic {
namespace {

constexpr std::size_t kCapacity = 8192;

// A ring's memory, zeroed and aligned, with both ends.
struct Pair {
  explicit Pair(std::size_t capacity = kCapacity) : lines(shm_ring::area_bytes(capacity) / kCacheLine), capacity_bytes(capacity) {
    producer = RingProducer(area(), area_bytes());
    consumer = RingConsumer(area(), area_bytes());
  }
  std::byte* area() { return lines[0].bytes; }
  [[nodiscard]] std::size_t area_bytes() const { return lines.size() * kCacheLine; }
  ShmRingHeader& header() { return *reinterpret_cast<ShmRingHeader*>(area()); }
  std::byte* data() { return area() + sizeof(ShmRingHeader); }

  struct alignas(kCacheLine) Line {
    std::byte bytes[kCacheLine] = {};
  };
  std::vector<Line> lines;
  std::size_t capacity_bytes;
  RingProducer producer;
  RingConsumer consumer;
};

// A record whose every byte follows from its number.
std::vector<std::byte> record(std::uint64_t number, std::size_t length) {
  std::vector<std::byte> bytes(length);
  SplitMix64 random(number);
  for (std::byte& b : bytes) b = static_cast<std::byte>(random.next());
  return bytes;
}

bool equal(std::span<const std::byte> a, std::span<const std::byte> b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size()) == 0;
}

// Takes the oldest record out, if there is one.
std::vector<std::byte> take(RingConsumer& consumer) {
  const auto front = consumer.front();
  std::vector<std::byte> copy(front.begin(), front.end());
  if (!copy.empty()) {
    consumer.pop();
    (void)consumer.publish();
  }
  return copy;
}

TEST_CASE("ring: what goes in comes out, in order, whatever the sizes and the split") {
  Pair ring;
  SplitMix64 random(7);
  std::vector<std::vector<std::byte>> inside;
  std::size_t out = 0;
  for (std::uint64_t number = 0; number < 20'000; ++number) {
    const std::size_t longest = random.below(4) == 0 ? shm_ring::max_record(kCapacity) : 64;
    const auto bytes = record(number, 1 + random.below(longest));
    const std::size_t split = random.below(bytes.size() + 1);
    const std::span<const std::byte> all(bytes);
    while (ring.producer.push(all.first(split), all.subspan(split)) == RingProducer::Push::full) {
      REQUIRE(out < inside.size());
      REQUIRE(equal(take(ring.consumer), inside[out++]));
    }
    inside.push_back(bytes);
    if (random.below(2) == 0 && out < inside.size()) REQUIRE(equal(take(ring.consumer), inside[out++]));
  }
  while (out < inside.size()) REQUIRE(equal(take(ring.consumer), inside[out++]));
  CHECK(take(ring.consumer).empty());
  CHECK_FALSE(ring.consumer.broken());
}

TEST_CASE("ring: the longest record fits an empty ring wherever it begins") {
  const auto longest = record(1, shm_ring::max_record(kCapacity));
  for (std::size_t start = 0; start < kCapacity; start += 16) {
    Pair ring;
    for (std::size_t at = 0; at < start; at += 16) {  // 16 bytes each
      REQUIRE(ring.producer.push(record(at, 8), {}) == RingProducer::Push::done);
      REQUIRE(take(ring.consumer).size() == 8);
    }
    REQUIRE(ring.producer.push(longest, {}) == RingProducer::Push::done);
    REQUIRE(equal(take(ring.consumer), longest));
  }
}

TEST_CASE("ring: a full ring takes nothing until the consumer has published, and the producer that waits is reported once") {
  Pair ring;
  const auto bytes = record(3, 100);
  std::size_t pushed = 0;
  while (ring.producer.push(bytes, {}) == RingProducer::Push::done) ++pushed;
  CHECK(pushed == kCapacity / (8 + 104));
  CHECK(ring.producer.wait_for_room());
  CHECK_FALSE(ring.consumer.front().empty());
  ring.consumer.pop();
  CHECK(ring.producer.push(bytes, {}) == RingProducer::Push::full);  // popped, not published
  CHECK(ring.consumer.publish());                                    // the producer waits
  CHECK_FALSE(ring.consumer.publish());
  CHECK(ring.producer.push(bytes, {}) == RingProducer::Push::done);
}

TEST_CASE("ring: room that appears between full and waiting is not missed") {
  Pair ring;
  const auto bytes = record(3, 1000);
  while (ring.producer.push(bytes, {}) == RingProducer::Push::done) {
  }
  CHECK_FALSE(take(ring.consumer).empty());
  CHECK_FALSE(ring.producer.wait_for_room());
  CHECK(ring.producer.push(bytes, {}) == RingProducer::Push::done);
}

// The consumer stores its head, a producer that finds no room sees it and asks for more, and only then the consumer looks whether anybody asks.
TEST_CASE("ring: a producer that waits for more than the head it knows is told of the next one, not of that one") {
  Pair ring;
  const auto bytes = record(3, 1000);
  const auto fill = [&] {
    while (ring.producer.push(bytes, {}) == RingProducer::Push::done) {
    }
  };
  fill();
  REQUIRE(ring.producer.wait_for_room());
  CHECK_FALSE(ring.consumer.front().empty());
  ring.consumer.pop();
  // The first half of publish(), by hand; the producer between the halves; then the second half.
  ring.header().head.store(ring.consumer.position());
  fill();
  REQUIRE(ring.producer.wait_for_room());
  CHECK_FALSE(ring.consumer.publish());
  CHECK_FALSE(ring.consumer.front().empty());
  ring.consumer.pop();
  CHECK(ring.consumer.publish());
}

// RingConsumer::due(): what is not published is never what a producer waits for.
TEST_CASE("ring: a consumer that publishes only what is due tells every producer that waits") {
  Pair ring;
  SplitMix64 random(7);
  int waited = 0;
  for (std::uint64_t number = 0; waited < 2000; ++number) {
    const std::size_t most = number % 3 == 0 ? shm_ring::max_record(kCapacity) : 200;
    const auto bytes = record(number, 1 + random.next() % most);
    while (ring.producer.push(bytes, {}) == RingProducer::Push::full) {
      if (!ring.producer.wait_for_room()) continue;
      ++waited;
      bool told = false;
      while (!ring.consumer.front().empty()) {
        ring.consumer.pop();
        if (ring.consumer.due()) told = ring.consumer.publish() || told;
      }
      REQUIRE(told);
    }
    // Some are taken before the ring is full, so that what is due comes at any place.
    if (random.next() % 4 != 0 || ring.consumer.front().empty()) continue;
    ring.consumer.pop();
    if (ring.consumer.due()) (void)ring.consumer.publish();
  }
}

TEST_CASE("ring: nonsense from the producer's side closes the ring for the consumer, without a crash") {
  const auto expect_broken = [](Pair& ring) {
    CHECK(ring.consumer.front().empty());
    CHECK(ring.consumer.broken());
    CHECK(ring.consumer.front().empty());
  };
  const auto with_header = [&](std::uint64_t header) {
    Pair ring;
    REQUIRE(ring.producer.push(record(1, 100), {}) == RingProducer::Push::done);
    std::memcpy(ring.data(), &header, sizeof header);
    expect_broken(ring);
  };
  constexpr std::uint64_t kDataMark = std::uint64_t{0x4e564d52} << 32;
  constexpr std::uint64_t kSkipMark = std::uint64_t{0x4e564d53} << 32;
  with_header(0);
  with_header(~std::uint64_t{0});
  with_header(kDataMark);                                          // no length
  with_header(kDataMark | UINT32_MAX);                             // longer than anything
  with_header(kDataMark | (shm_ring::max_record(kCapacity) + 1));  // longer than a record may be
  with_header(kDataMark | 113);                                    // longer than what is there
  with_header(kSkipMark);                                          // a skip with nothing behind it
  with_header(kSkipMark | 8);                                      // a skip with a length
  {
    Pair ring;
    ring.header().tail.store(kCapacity + 8);  // more than fits
    expect_broken(ring);
  }
  {
    Pair ring;
    ring.header().tail.store(12);  // no record ends there
    expect_broken(ring);
  }
  {
    Pair ring;
    REQUIRE(ring.producer.push(record(1, 100), {}) == RingProducer::Push::done);
    REQUIRE(take(ring.consumer).size() == 100);
    ring.header().tail.store(0);  // backwards
    expect_broken(ring);
  }
}

TEST_CASE("ring: nonsense from the consumer's side closes the ring for the producer") {
  for (const std::uint64_t head : {std::uint64_t{1} << 40, ~std::uint64_t{0}, std::uint64_t{kCapacity * 2}}) {
    Pair ring;
    const auto bytes = record(3, 1000);
    while (ring.producer.push(bytes, {}) == RingProducer::Push::done) {
    }
    ring.header().head.store(head);
    CHECK(ring.producer.push(bytes, {}) == RingProducer::Push::broken);
    CHECK(ring.producer.push(bytes, {}) == RingProducer::Push::broken);
  }
}

TEST_CASE("ring: a producer whose consumer closed the ring learns it when it needs room") {
  Pair ring;
  ring.header().tail.store(12);
  CHECK(ring.consumer.front().empty());
  const auto bytes = record(3, 1000);
  RingProducer::Push last = RingProducer::Push::done;
  for (int i = 0; i < 100 && last == RingProducer::Push::done; ++i) last = ring.producer.push(bytes, {});
  CHECK(last == RingProducer::Push::broken);
}

TEST_CASE("ring: random corruption never crashes the consumer, nor hands out bytes beyond the ring") {
  for (std::uint64_t seed = 1; seed <= 2'000; ++seed) {
    Pair ring;
    SplitMix64 random(seed);
    for (std::uint64_t i = random.below(20); i > 0; --i) (void)ring.producer.push(record(i, 1 + random.below(500)), {});
    for (std::uint64_t i = 1 + random.below(8); i > 0; --i)
      ring.data()[random.below(random.below(2) == 0 ? 64 : kCapacity)] = static_cast<std::byte>(random.next());
    if (random.below(4) == 0) ring.header().tail.store(random.below(2) == 0 ? random.next() : random.below(kCapacity) & ~std::uint64_t{7});
    for (int i = 0; i < 3'000; ++i) {
      const auto front = ring.consumer.front();
      if (front.empty()) break;
      REQUIRE(front.data() >= ring.data());
      REQUIRE(front.data() + front.size() <= ring.data() + kCapacity);
      ring.consumer.pop();
    }
  }
}

TEST_CASE("ring: two threads, every record arrives whole and in order") {
  Pair ring(std::size_t{16} << 10);
  constexpr std::uint64_t kRecords = 30'000;
  const auto length_of = [](std::uint64_t number) { return 1 + mix64(number) % 300; };
  std::thread producer([&] {
    for (std::uint64_t number = 0; number < kRecords; ++number) {
      const auto bytes = record(number, length_of(number));
      while (ring.producer.push(bytes, {}) == RingProducer::Push::full) std::this_thread::yield();
    }
  });
  std::uint64_t wrong = 0;
  for (std::uint64_t number = 0; number < kRecords;) {
    const auto front = ring.consumer.front();
    if (front.empty()) {
      (void)ring.consumer.publish();
      std::this_thread::yield();
      continue;
    }
    wrong += equal(front, record(number, length_of(number))) ? 0 : 1;
    ring.consumer.pop();
    ++number;
    if (number % 7 == 0) (void)ring.consumer.publish();
  }
  producer.join();
  CHECK(wrong == 0);
  CHECK_FALSE(ring.consumer.broken());
}

// A page may be on its way to a node that will make no use of it while its owner writes it again: ThreadSanitizer must have nothing to say.
TEST_CASE("ring: a payload may be written while it is copied in, and arrives as a mixture of whole words") {
  Pair pair;
  alignas(8) std::uint64_t words[32] = {};
  std::atomic<bool> stop{false};
  std::thread writer([&] {
    for (std::uint64_t value = 1; !stop.load(); value = value % 255 + 1) {
      for (std::uint64_t& word : words)
        __atomic_store_n(&word, value * 0x0101010101010101, __ATOMIC_RELAXED);  // relaxed: the race that is meant
    }
  });
  const std::vector<std::byte> header = record(1, 16);
  for (int i = 0; i < 2000; ++i) {
    REQUIRE(pair.producer.push(header, std::as_bytes(std::span(words))) == RingProducer::Push::done);
    const std::vector<std::byte> got = take(pair.consumer);
    REQUIRE(got.size() == header.size() + sizeof words);
    CHECK(equal(std::span(got).first(16), header));
    for (std::size_t at = 16; at < got.size(); at += 8) {
      CHECK(std::count(got.begin() + static_cast<std::ptrdiff_t>(at), got.begin() + static_cast<std::ptrdiff_t>(at + 8), got[at]) == 8);
    }
  }
  stop = true;
  writer.join();
}

}  // namespace
}  // namespace netvm::nic
