// The sequence window: any arrival order retires once, in sequence.
#include "nic/sequence_window.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <numeric>
#include <random>
#include <vector>

using namespace netvm::nic;

namespace {

HeldPacket packet(std::uint32_t sequence) {
  HeldPacket held;
  held.header.sequence = sequence;
  return held;
}

/// Lets the numbers arrive in the given order and returns those that retire, in the order in which they do.
std::vector<std::uint32_t> feed(SequenceWindow& window, const std::vector<std::uint32_t>& arrivals, int* dropped) {
  std::vector<std::uint32_t> retired;
  for (const std::uint32_t sequence : arrivals) {
    switch (window.place(sequence)) {
      case SequenceWindow::Place::next:
        window.advance();
        retired.push_back(sequence);
        while (auto held = window.take_next()) {
          window.advance();
          retired.push_back(held->header.sequence);
        }
        break;
      case SequenceWindow::Place::early:
        window.hold(packet(sequence));
        break;
      case SequenceWindow::Place::duplicate:
      case SequenceWindow::Place::outside:
        ++*dropped;
        break;
    }
  }
  return retired;
}

}  // namespace

TEST_CASE("shuffled and doubled packets retire once and in order, also around the wrap") {
  std::mt19937 random(3);
  for (const std::uint32_t first : {0U, 1000U, 0xffff'ff9cU, 0x7fff'ff9cU}) {
    for (int round = 0; round < 200; ++round) {
      std::vector<std::uint32_t> expected(300);
      std::iota(expected.begin(), expected.end(), first);
      std::vector<std::uint32_t> arrivals = expected;
      for (int i = 0; i < 60; ++i) arrivals.push_back(expected[random() % expected.size()]);
      std::shuffle(arrivals.begin(), arrivals.end(), random);
      SequenceWindow window(first);
      int dropped = 0;
      CHECK(feed(window, arrivals, &dropped) == expected);
      CHECK(dropped == 60);
      CHECK(window.held() == 0);
      CHECK(window.next() == first + 300);
    }
  }
}

TEST_CASE("a number beyond the window is refused and changes nothing") {
  SequenceWindow window(10);
  CHECK(window.place(10 + SequenceWindow::kSpan) == SequenceWindow::Place::early);
  CHECK(window.place(11 + SequenceWindow::kSpan) == SequenceWindow::Place::outside);
  CHECK(window.place(10 + 0x7fff'ffffU) == SequenceWindow::Place::outside);
  CHECK(window.place(9) == SequenceWindow::Place::duplicate);
  CHECK(window.place(10) == SequenceWindow::Place::next);
  CHECK(window.held() == 0);
}

TEST_CASE("what is held keeps its payload until its turn") {
  SequenceWindow window(0);
  HeldPacket held = packet(1);
  held.payload.assign(5000, std::byte{42});
  window.hold(std::move(held));
  CHECK_FALSE(window.take_next().has_value());
  window.advance();
  const auto out = window.take_next();
  REQUIRE(out.has_value());
  CHECK(out->payload == std::vector<std::byte>(5000, std::byte{42}));
}
