// The acknowledger: what it says has arrived is exactly what has, around the wrap, and it says so in time.
#include "nic/acknowledger.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <random>
#include <set>
#include <vector>

using namespace netvm;
using namespace netvm::nic;

namespace {

/// The numbers beyond acknowledged() that the bitmap names, as distances from it.
std::set<std::uint32_t> beyond(const Acknowledger& acknowledger) {
  std::array<std::byte, kMaxAckBitmap> bitmap;
  const std::size_t bytes = acknowledger.bitmap(bitmap);
  CHECK(bytes % 8 == 0);
  std::set<std::uint32_t> found;
  for (std::size_t bit = 0; bit < bytes * 8; ++bit) {
    if ((bitmap[bit / 8] >> (bit % 8) & std::byte{1}) != std::byte{0}) found.insert(static_cast<std::uint32_t>(bit) + 1);
  }
  return found;
}

}  // namespace

TEST_CASE("acknowledged() and the bitmap together are what has arrived, whatever the order, around the wrap") {
  for (const std::uint32_t first : {0U, 77U, 0xffff'ff9cU, 0x7fff'ff9cU}) {
    for (unsigned seed = 1; seed <= 40; ++seed) {
      std::mt19937 random(seed);
      Acknowledger acknowledger(first, {});
      std::set<std::uint32_t> arrived;  // distances from first
      std::uint32_t low = 0;
      for (int step = 0; step < 2000; ++step) {
        const std::uint32_t at = low + random() % (seed % 2 == 0 ? 20 : 2000);
        if (random() % 4 == 0) {
          acknowledger.note(first + low, 0);
          arrived.insert(low);
        } else {
          acknowledger.note(first + at, 0);
          arrived.insert(at);
        }
        while (arrived.contains(low)) ++low;
        REQUIRE(acknowledger.acknowledged() == first + low);
        if (step % 50 != 0) continue;
        std::set<std::uint32_t> expected;
        for (const std::uint32_t number : arrived) {
          if (number > low) expected.insert(number - low);
        }
        REQUIRE(beyond(acknowledger) == expected);
      }
    }
  }
}

TEST_CASE("the farthest number that may be noted fits the bitmap; the next one is refused") {
  Acknowledger acknowledger(0xffff'fff0, {});
  CHECK(acknowledger.within(0xffff'fff0 + Acknowledger::kSpan - 1));
  CHECK_FALSE(acknowledger.within(0xffff'fff0 + Acknowledger::kSpan));
  CHECK(acknowledger.within(0xffff'0000));  // long ago
  acknowledger.note(0xffff'fff0 + Acknowledger::kSpan - 1, 0);
  CHECK(beyond(acknowledger) == std::set<std::uint32_t>{Acknowledger::kSpan - 1});
}

TEST_CASE("an ack is due after some packets or a while, at once for a gap or a duplicate, and not when it has been told") {
  Reliability r;
  r.packets_per_ack = 4;
  r.ack_delay = 100;
  Acknowledger acknowledger(0, r);
  CHECK(acknowledger.deadline() == kForever);
  acknowledger.note(0, 1000);
  CHECK(acknowledger.deadline() == 1100);
  acknowledger.note(1, 1050);
  CHECK(acknowledger.deadline() == 1100);  // the first one has waited longest
  acknowledger.reported(false);
  CHECK(acknowledger.deadline() == kForever);
  for (std::uint32_t i = 2; i < 5; ++i) acknowledger.note(i, 2000);
  CHECK(acknowledger.deadline() == 2100);
  acknowledger.note(5, 2001);
  CHECK(acknowledger.deadline() == 2001);
  acknowledger.reported(true);
  acknowledger.note(7, 3000);  // 6 is missing
  CHECK(acknowledger.deadline() == 3000);
  acknowledger.reported(false);  // that did not tell of 7
  CHECK(acknowledger.deadline() == 3000);
  acknowledger.reported(true);
  CHECK(acknowledger.deadline() == kForever);
  acknowledger.note(6, 4000);
  CHECK(acknowledger.deadline() == 4100);
  acknowledger.reported(false);
  acknowledger.note(3, 5000);  // again: the sender has not heard
  CHECK(acknowledger.deadline() == 5000);
}
