// The transmitter by itself: lanes, credits, windows, and against a model of a network that loses, doubles and reorders.
#include "nic/transmitter.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "nic/acknowledger.hpp"

using namespace netvm;
using namespace netvm::nic;

namespace {

PacketHeader header_of(Opcode opcode, std::uint64_t tag = 1) {
  PacketHeader header;
  header.opcode = opcode;
  header.request = tag;
  return header;
}

Transmitter::Options options(bool keeps, std::uint32_t credits = 100, std::uint32_t first = 0) {
  Transmitter::Options made;
  made.first_sequence = made.first_credit = first;
  made.initial_credits = credits;
  made.max_payload = 1000;
  made.keeps = keeps;
  made.reliability.window = 64;
  return made;
}

/// Sends at once if it may, else queues: what the NIC does.
bool post(Transmitter& transmitter, Opcode opcode, std::uint64_t tag, Nanos now = 0, std::vector<std::byte> payload = {}) {
  PacketHeader header = header_of(opcode, tag);
  if (transmitter.may_send(opcode)) {
    transmitter.number(header, payload, now);
    return true;
  }
  transmitter.queue(header, std::move(payload), now);
  return false;
}

/// Tags of what may leave now.
std::vector<std::uint64_t> leaving(Transmitter& transmitter, Nanos now = 0) {
  std::vector<std::uint64_t> tags;
  Transmitter::View view;
  while (transmitter.next(now, &view)) tags.push_back(view.header->request);
  return tags;
}

}  // namespace

TEST_CASE("without credit requests wait, in order, and answers go past them") {
  for (const bool keeps : {false, true}) {
    Transmitter transmitter(options(keeps, 2, 0xffff'ffff));
    CHECK(post(transmitter, Opcode::write, 1));
    CHECK(post(transmitter, Opcode::message, 2));
    CHECK_FALSE(post(transmitter, Opcode::write, 3));
    CHECK_FALSE(post(transmitter, Opcode::atomic, 4));
    CHECK(post(transmitter, Opcode::done, 5));
    CHECK(leaving(transmitter).empty());
    transmitter.on_credits(0xffff'ffff + 3);
    CHECK(leaving(transmitter) == std::vector<std::uint64_t>{3});
    transmitter.on_credits(0xffff'ffff + 2);  // an older word
    CHECK(leaving(transmitter).empty());
    CHECK_FALSE(post(transmitter, Opcode::read, 6));
    transmitter.on_credits(0xffff'ffff + 50);
    CHECK(leaving(transmitter) == std::vector<std::uint64_t>{4, 6});
    CHECK(transmitter.credits() == 45);
    CHECK(transmitter.waiting() == 0);
  }
}

TEST_CASE("a long message leaves piece by piece as credits come, and what is posted after it leaves after it") {
  Transmitter transmitter(options(false, 0));
  std::vector<std::byte> body(3500);
  for (std::size_t i = 0; i < body.size(); ++i) body[i] = static_cast<std::byte>(i * 7);
  PacketHeader header = header_of(Opcode::message, 0);
  header.total = body.size();
  transmitter.queue(header, body, 0);
  CHECK_FALSE(post(transmitter, Opcode::write, 9));
  std::vector<std::byte> got;
  Transmitter::View view;
  for (std::uint32_t credit = 1; credit <= 4; ++credit) {
    CHECK_FALSE(transmitter.next(0, &view));
    transmitter.on_credits(credit);
    REQUIRE(transmitter.next(0, &view));
    CHECK(view.header->offset == got.size());
    CHECK(view.header->bytes == view.payload.size());
    CHECK(view.header->sequence == credit - 1);
    got.insert(got.end(), view.payload.begin(), view.payload.end());
  }
  CHECK(got == body);
  transmitter.on_credits(5);
  CHECK(leaving(transmitter) == std::vector<std::uint64_t>{9});
}

TEST_CASE("credits are given back only when nothing needs them, and never the last") {
  Transmitter transmitter(options(false, 10));
  CHECK(transmitter.give_back(4) == 4);
  CHECK(transmitter.credits() == 6);
  CHECK(transmitter.give_back(100) == 5);
  CHECK(transmitter.give_back(100) == 0);
  CHECK(post(transmitter, Opcode::write, 1));
  CHECK_FALSE(post(transmitter, Opcode::write, 2));
  transmitter.on_credits(11);
  CHECK(transmitter.give_back(1) == 0);
}

TEST_CASE("at most a window is unacknowledged, and it opens as acknowledgements come; answers go first") {
  for (const std::uint32_t first : {0U, 0xffff'ffe0U}) {
    Transmitter transmitter(options(true, 1000, first));
    // Everything arrives but the first packet, so that the window fills although the path is free.
    for (std::uint64_t i = 0; i < 64; ++i) {
      CHECK(post(transmitter, Opcode::write, i));
      const std::uint64_t bitmap = i == 0 ? 0 : ~std::uint64_t{0} >> (64 - i);
      transmitter.on_acknowledged(first, std::as_bytes(std::span(&bitmap, 1)), 0);
    }
    CHECK_FALSE(post(transmitter, Opcode::write, 64));
    CHECK_FALSE(post(transmitter, Opcode::done, 65));
    CHECK(transmitter.unacknowledged() == 64);
    transmitter.on_acknowledged(first + 65, {}, 0);  // of what was never sent
    transmitter.on_acknowledged(first - 1, {}, 0);
    CHECK(transmitter.unacknowledged() == 64);
    transmitter.on_acknowledged(first + 1, {}, 0);
    CHECK(leaving(transmitter, 0) == std::vector<std::uint64_t>{65});
    transmitter.on_acknowledged(first + 2, {}, 0);
    CHECK(leaving(transmitter, 0) == std::vector<std::uint64_t>{64});
    transmitter.on_acknowledged(first + 66, {}, 0);
    CHECK(transmitter.idle());
    CHECK(transmitter.deadline() == kForever);
  }
}

TEST_CASE("as many are under way as the path takes: more while it is fast, fewer once packets queue in it") {
  Transmitter::Options made = options(true, 1'000'000);
  made.reliability.window = 1024;
  Transmitter transmitter(made);
  Nanos now = 0;
  std::uint32_t acknowledged = 0;
  const auto round = [&](Nanos trip) {
    std::uint32_t sent = 0;
    for (; transmitter.may_send(Opcode::write); ++sent) post(transmitter, Opcode::write, 1, now);
    now += trip;
    transmitter.on_acknowledged(acknowledged += sent, {}, now);
    return sent;
  };
  CHECK(round(10'000) == 32);
  CHECK(round(10'000) == 64);
  CHECK(round(10'000) == 128);
  for (int i = 0; i < 6; ++i) round(10'000);
  CHECK(round(10'000) == 1024);
  round(80'000);  // twice the shortest and the delay of acknowledgements are 40'000
  CHECK(round(10'000) == 512);
  CHECK(round(10'000) == 576);  // from now on it feels its way
  for (int i = 0; i < 10; ++i) round(1'000'000);
  CHECK(round(10'000) == 32);
}

TEST_CASE("one packet of many that is missing is sent again soon, alone; the last one after a timeout") {
  Transmitter transmitter(options(true, 1000));
  Nanos now = 0;
  for (std::uint32_t i = 0; i < 40; ++i) {  // the round trip becomes known: 1000 ns
    now += 2000;
    CHECK(post(transmitter, Opcode::write, i, now));
    transmitter.on_acknowledged(i + 1, {}, now + 1000);
  }
  now += 10'000;
  for (std::uint32_t i = 40; i < 50; ++i) CHECK(post(transmitter, Opcode::write, i, now + i));
  const std::uint64_t bitmap = 0xff;  // 42 .. 49 have arrived, 40 has, 41 has not
  transmitter.on_acknowledged(41, std::as_bytes(std::span(&bitmap, 1)), now + 1100);
  Nanos due = transmitter.deadline();
  CHECK(due > now + 1041);
  CHECK(due < now + 2500);
  CHECK(transmitter.on_time(due, 0) == Transmitter::Alarm::none);
  CHECK(leaving(transmitter, due) == std::vector<std::uint64_t>{41});
  CHECK(transmitter.retransmitted() == 1);
  transmitter.on_acknowledged(50, {}, due + 1000);
  CHECK(transmitter.idle());

  now = due + 10'000;
  CHECK(post(transmitter, Opcode::write, 50, now));
  Nanos last = 0;
  for (int round = 0; round < 4; ++round) {
    due = transmitter.deadline();
    CHECK(due >= now + 50'000);
    CHECK(due - now >= last * 3 / 2);  // doubles, with some play
    last = due - now;
    now = due;
    CHECK(transmitter.on_time(now, 0) == Transmitter::Alarm::none);
    CHECK(leaving(transmitter, now) == std::vector<std::uint64_t>{50});
  }
}

TEST_CASE("a peer that says nothing is given up after the peer timeout, one that says anything is not") {
  for (const bool starved : {false, true}) {
    for (const bool lives : {false, true}) {
      Transmitter::Options made = options(true, starved ? 0 : 10);
      made.reliability.peer_timeout = 1'000'000'000;
      Transmitter transmitter(made);
      Nanos now = 5'000'000'000;  // long after the start
      post(transmitter, Opcode::write, 1, now);
      bool dead = false, probed = false;
      while (now < 9'000'000'000 && !dead) {
        const Nanos due = transmitter.deadline();
        REQUIRE(due != kForever);
        REQUIRE(due > now);
        now = due;
        const Transmitter::Alarm alarm = transmitter.on_time(now, 12345);
        dead = alarm == Transmitter::Alarm::dead;
        probed = probed || alarm == Transmitter::Alarm::probe;
        leaving(transmitter, now);
        if (lives) transmitter.on_heard(now);
      }
      CHECK(dead == !lives);
      CHECK(probed == starved);
      if (dead) {
        CHECK(now >= 6'000'000'000);
        CHECK(now < 6'300'000'000);
        transmitter.clear();
        CHECK(transmitter.deadline() == kForever);
        CHECK(transmitter.idle());
      }
    }
  }
}

TEST_CASE("over any network everything arrives, and little is sent twice for nothing") {
  for (unsigned seed = 1; seed <= 60; ++seed) {
    std::mt19937 random(seed);
    const std::uint32_t first = seed % 3 == 0 ? 0xffff'ff9c : 0;
    const unsigned loss = seed % 4 == 0 ? 0 : 10 * (seed % 4);  // in a thousand
    const bool reorders = seed % 2 == 0;
    Transmitter transmitter(options(true, 1'000'000, first));
    Acknowledger acknowledger(first, {});
    std::multimap<Nanos, std::uint32_t> forward;  // arrival -> number
    struct Ack {
      std::uint32_t acknowledged;
      std::vector<std::byte> bitmap;
    };
    std::multimap<Nanos, Ack> back;
    std::map<std::uint32_t, int> arrived;
    constexpr std::uint32_t kPackets = 3000;
    std::uint32_t posted = 0;
    Nanos now = 0;
    const auto trip = [&] { return 5000 + (reorders ? static_cast<Nanos>(random() % 4000) : 0); };
    const auto fly = [&](std::uint32_t number) {
      if (random() % 1000 >= loss) forward.emplace(now + trip(), number);
      if (random() % 50 == 0) forward.emplace(now + trip(), number);
    };
    const auto acknowledge = [&] {
      if (acknowledger.deadline() > now) return;
      std::array<std::byte, kMaxAckBitmap> bitmap;
      const std::size_t bytes = acknowledger.bitmap(bitmap);
      acknowledger.reported(true);
      if (random() % 1000 >= loss) back.emplace(now + trip(), Ack{acknowledger.acknowledged(), {bitmap.begin(), bitmap.begin() + bytes}});
    };
    std::uint64_t steps = 0;
    while (posted < kPackets || !transmitter.idle()) {
      REQUIRE(++steps < 1'000'000);
      while (posted < kPackets && transmitter.may_send(Opcode::write)) {
        PacketHeader header = header_of(Opcode::write, ++posted);
        transmitter.number(header, {}, now);
        fly(header.sequence);
        now += 10;
      }
      Nanos next = std::min(transmitter.deadline(), acknowledger.deadline());
      if (!forward.empty()) next = std::min(next, forward.begin()->first);
      if (!back.empty()) next = std::min(next, back.begin()->first);
      REQUIRE(next != kForever);
      now = std::max(now, next);
      for (; !forward.empty() && forward.begin()->first <= now; forward.erase(forward.begin())) {
        ++arrived[forward.begin()->second];
        acknowledger.note(forward.begin()->second, now);
        acknowledge();
      }
      acknowledge();
      for (; !back.empty() && back.begin()->first <= now; back.erase(back.begin())) {
        transmitter.on_acknowledged(back.begin()->second.acknowledged, back.begin()->second.bitmap, now);
      }
      if (now >= transmitter.deadline()) CHECK(transmitter.on_time(now, random()) == Transmitter::Alarm::none);
      Transmitter::View view;
      while (transmitter.next(now, &view)) fly(view.header->sequence);
    }
    CHECK(arrived.size() == kPackets);
    CHECK(acknowledger.acknowledged() == first + kPackets);
    INFO("seed ", seed, " loss ", loss, " reorders ", reorders, " sent again ", transmitter.retransmitted());
    CHECK(transmitter.retransmitted() <= kPackets * loss / 1000 * 3 / 2 + kPackets / 20);
  }
}
