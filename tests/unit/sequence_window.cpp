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
        while (const HeldPacket* held = window.head()) {
          retired.push_back(held->header.sequence);
          window.advance();
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

TEST_CASE("pitfall 8: shuffled and doubled packets retire once and in order, also around the wrap") {
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
  CHECK(window.place(9 + SequenceWindow::kSpan) == SequenceWindow::Place::early);
  CHECK(window.place(10 + SequenceWindow::kSpan) == SequenceWindow::Place::outside);
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
  CHECK(window.head() == nullptr);
  window.advance();
  REQUIRE(window.head() != nullptr);
  CHECK(window.head()->payload == std::vector<std::byte>(5000, std::byte{42}));
}

TEST_CASE("numbers that have nothing to do in their turn hold nothing up, arrive once, and need no memory of their own") {
  std::mt19937 random(5);
  for (const std::uint32_t first : {0U, 0xffff'ff9cU, 0x7fff'ff9cU}) {
    for (int round = 0; round < 200; ++round) {
      constexpr std::uint32_t kNumbers = 400;
      std::vector<bool> answers(kNumbers);
      std::vector<std::uint32_t> arrivals(kNumbers), expected, retired;
      std::iota(arrivals.begin(), arrivals.end(), first);
      for (std::uint32_t i = 0; i < kNumbers; ++i) {
        answers[i] = random() % 2 == 0;
        if (!answers[i]) expected.push_back(first + i);
      }
      for (int i = 0; i < 100; ++i) arrivals.push_back(first + random() % kNumbers);
      std::shuffle(arrivals.begin(), arrivals.end(), random);
      SequenceWindow window(first);
      std::size_t fresh = 0;
      for (const std::uint32_t sequence : arrivals) {
        const auto place = window.place(sequence);
        if (place == SequenceWindow::Place::duplicate) continue;
        ++fresh;
        if (answers[sequence - first]) {
          window.skip(sequence);
        } else if (place == SequenceWindow::Place::early) {
          window.hold(packet(sequence));
        } else {
          retired.push_back(sequence);
          window.advance();
        }
        for (const HeldPacket* held = window.head(); held != nullptr; held = window.head()) {
          retired.push_back(held->header.sequence);
          window.advance();
        }
      }
      CHECK(fresh == kNumbers);
      CHECK(retired == expected);
      CHECK(window.next() == first + kNumbers);
    }
  }
}

TEST_CASE("a head that cannot retire yet stays, and what has nothing to do passes it by") {
  SequenceWindow window(7);
  window.hold(packet(7));
  window.skip(8);
  window.skip(10);
  CHECK(window.place(7) == SequenceWindow::Place::duplicate);
  CHECK(window.place(8) == SequenceWindow::Place::duplicate);
  CHECK(window.place(9) == SequenceWindow::Place::early);
  REQUIRE(window.head() != nullptr);
  CHECK(window.next() == 7);
  window.advance();
  CHECK(window.next() == 9);
  window.skip(9);
  CHECK(window.next() == 11);
}
