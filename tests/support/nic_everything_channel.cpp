#include "tests/support/nic_everything_channel.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cstring>

namespace netvm::test::everything {

// ---- the source -----------------------------------------------------------------------------------------------------------------------------

void Channel::make_free(const Place& place) {
  for (const auto& flight : flights_) {
    if (flight->first < place.at + place.bytes && place.at < flight->last) return settle();
  }
}

std::vector<std::byte> Channel::fresh(const Place& place) {
  std::vector<std::byte> bytes(place.bytes);
  const std::uint64_t start = random_();
  for (std::uint64_t i = 0; i < place.bytes; ++i) bytes[i] = static_cast<std::byte>((start + i * 7) >> (i % 5));
  std::copy(bytes.begin(), bytes.end(), shadow_.begin() + static_cast<std::ptrdiff_t>(place.at));
  return bytes;
}

void Channel::settle() {
  CHECK(ok(pair_->flush(kLimit)));
  poll();
  CHECK(pair_->in_flight() == 0);
  CHECK(pair_signalled_ == 0);  // each has had its completion
  pair_buffers_.clear();
  for (const auto& flight : flights_) {
    if (flight->completion == nullptr) continue;
    CHECK(ok(nic_.wait(*flight->completion, kLimit)));
    if (flight->then) flight->then(*flight->completion);
  }
  flights_.clear();
}

void Channel::write() {
  const Place place = some_place();
  make_free(place);
  const std::vector<std::byte> bytes = fresh(place);
  const std::uint64_t offset = area() + place.at;
  if (below(3) == 0) {
    const NotifyMode mode = below(2) == 0 ? NotifyMode::own : NotifyMode::ordered;
    Flight& flight = fly(place.at, place.at + place.bytes);
    nic_.post_write_notify(region_, offset, bytes.data(), bytes.size(), counter_, 1, mode, flight.completion.get());
    ++notified_;
  } else if (below(4) == 0) {
    CHECK(ok(nic_.write(region_, offset, bytes.data(), bytes.size())));
  } else {
    Flight& flight = fly(place.at, place.at + place.bytes);
    nic_.post_write(region_, offset, bytes.data(), bytes.size(), flight.completion.get());
  }
}

void Channel::write_vector() {
  std::vector<std::vector<std::byte>> bytes;
  std::vector<Segment> segments;
  std::uint64_t next = below(4'000);
  const std::uint64_t first = next;
  make_free({first, kAreaBytes - first});
  while (next + 700 < kAreaBytes && segments.size() < 12) {
    bytes.push_back(fresh({next, 1 + below(600)}));
    segments.push_back({area() + next, nullptr, static_cast<std::uint32_t>(bytes.back().size())});
    next += bytes.back().size() + below(3'000);
  }
  for (std::size_t i = 0; i < segments.size(); ++i) segments[i].data = bytes[i].data();
  nic_.post_write_vector(region_, segments, fly(first, std::min(next, kAreaBytes)).completion.get());
}

void Channel::read() {
  const Place place = some_place();
  // What a queue pair holds back may come after this.
  if (pair_->in_flight() != 0) settle();
  Flight& flight = fly(place.at, place.at + place.bytes);
  flight.bytes.resize(place.bytes);
  const std::vector<std::byte> expected(shadow_.begin() + static_cast<std::ptrdiff_t>(place.at),
                                        shadow_.begin() + static_cast<std::ptrdiff_t>(place.at + place.bytes));
  nic_.post_read(region_, area() + place.at, flight.bytes.data(), place.bytes, flight.completion.get());
  flight.then = [&flight, expected](const Completion&) { CHECK(flight.bytes == expected); };
  if (below(2) == 0) settle();
}

void Channel::atomic() {
  Atomics& atomics = all_.atomics[to_];
  Flight& flight = fly();
  const auto post = [&](std::uint64_t offset, const AtomicArgs& args) { nic_.post_atomic(region_, offset, args, flight.completion.get()); };
  switch (below(5)) {
    case 0: {
      const std::uint64_t operand = 1 + below(1000);
      flight.then = [&atomics, operand](const Completion& end) { atomics.additions.push_back({end.old_value(), operand}); };
      return post(kAddWord, {AtomicOp::fetch_add, operand});
    }
    case 1: {
      const std::uint64_t value = (std::uint64_t{from_} + 1) << 32 | ++swaps_;
      ++atomics.swapped;
      flight.then = [&atomics, value](const Completion& end) {
        CHECK(atomics.swaps.emplace(end.old_value(), value).second);  // nobody else has taken that value out
      };
      return post(kSwapWord, {AtomicOp::swap, value});
    }
    case 2: {
      const std::uint64_t guess = cas_guess_;
      flight.then = [this, &atomics, guess](const Completion& end) {
        const bool mine = end.old_value() == guess;
        atomics.compared += mine ? 1 : 0;
        cas_guess_ = end.old_value() + (mine ? 1 : 0);
      };
      post(kCasWord, {AtomicOp::compare_swap, guess + 1, guess});
      return settle();  // the next guess depends on it
    }
    case 3: {  // this channel's 16 bits of a word that all write
      const unsigned shift = 16 * from_;
      const std::uint64_t mask = std::uint64_t{0xffff} << shift, value = field_++;
      flight.then = [mask, shift, value](const Completion& end) { CHECK(((end.old_value() & mask) >> shift) == value); };
      return post(kFieldWord, {AtomicOp::masked_cas, (value + 1) << shift, value << shift, mask, mask});
    }
    default: {
      const std::uint64_t bit = or_bits_++;
      flight.then = [bit](const Completion& end) { CHECK(end.old_value() == (std::uint64_t{1} << bit) - 1); };
      return post(kOrWords + 8 * from_, {AtomicOp::fetch_or, std::uint64_t{1} << bit});
    }
  }
}

void Channel::notify() {
  ++notified_;
  if (below(2) == 0) {
    CHECK(ok(nic_.notify(counter_, 1)));
  } else {
    nic_.post_notify(counter_, 1, fly().completion.get());
  }
}

void Channel::message() {
  const std::vector<std::uint64_t> body(below(8) == 0 ? 4'000 : 1 + below(200), messages_++);
  nic_.send(NodeId{to_}, MessageKind::test, std::as_bytes(std::span(body)));
}

/// Writes the round's slot in pieces that land in any order, then notifies: who sees the notification must see all of them.
void Channel::ledger_round(std::uint64_t round) {
  const std::vector<std::byte> bytes(kSlotBytes, static_cast<std::byte>(round + 1));
  const std::uint64_t cut = 1 + below(kSlotBytes - 2);
  nic_.post_write(region_, slot(round), bytes.data(), cut, fly().completion.get());
  if (below(2) == 0) {
    const Segment rest{slot(round) + cut, bytes.data(), static_cast<std::uint32_t>(kSlotBytes - cut)};
    nic_.post_write_vector(region_, {&rest, 1}, fly().completion.get());
    nic_.post_notify(ledger_, 1, fly().completion.get());
  } else {
    nic_.post_write_notify(region_, slot(round) + cut, bytes.data(), kSlotBytes - cut, ledger_, 1, NotifyMode::ordered,
                           fly().completion.get());
  }
}

void Channel::trigger() {
  if (below(2) == 0 || armed_.size() == kMaxFired) {
    ++triggered_;
    CHECK(ok(nic_.notify(trigger_, 1)));
    return;
  }
  const std::uint64_t threshold = triggered_ + below(4), number = armed_.size();
  highest_ = std::max(highest_, threshold);
  Flight& flight = *armed_.emplace_back(std::make_unique<Flight>());
  flight.bytes.assign(8, static_cast<std::byte>(number + 1));
  Atomics& atomics = all_.atomics[to_];
  TriggeredOperation operation = TriggeredOperation::notify(counter_, 1);
  const std::uint64_t kind = below(4);
  const std::uint64_t word = kFired + (from_ * kMaxFired + number) * 8;
  if (kind == 0) operation = TriggeredOperation::write(region_, word, flight.bytes.data(), 8);
  if (kind == 1) operation = TriggeredOperation::write_notify(region_, word, flight.bytes.data(), 8, counter_, 1, NotifyMode::ordered);
  if (kind == 2) operation = TriggeredOperation::atomic(region_, kAddWord, {AtomicOp::fetch_add, 5});
  if (kind == 2) flight.then = [&atomics](const Completion& end) { atomics.additions.push_back({end.old_value(), 5}); };
  const Result<TriggeredId> id = nic_.post_triggered(trigger_, threshold, operation, flight.completion.get());
  REQUIRE(id.has_value());
  if (below(4) == 0 && nic_.cancel_triggered(trigger_, *id)) {
    flight.expected = Status::cancelled;
    return;
  }
  fired_[number] = kind < 2;
  if (kind == 1 || kind == 3) ++notified_;
}

void Channel::fire_the_rest() {
  if (triggered_ < highest_) CHECK(ok(nic_.notify(trigger_, highest_ - triggered_)));
  for (const auto& flight : armed_) {
    CHECK(nic_.wait(*flight->completion, kLimit) == flight->expected);
    if (flight->then && flight->expected == Status::ok) flight->then(*flight->completion);
  }
}

// ---- the source's queue pair ------------------------------------------------------------------------------------------------------------------

void Channel::poll() {
  std::array<QpCompletion, 4> ends{};
  for (std::size_t n = pair_->poll(ends); n != 0; n = pair_->poll(ends)) {
    for (std::size_t i = 0; i < n; ++i) {
      CHECK(ok(ends[i].status));
      const auto then = pair_then_.extract(ends[i].user_id);
      REQUIRE(!then.empty());  // exactly one for each that is signalled
      then.mapped()(ends[i]);
      --pair_signalled_;
    }
  }
}

void Channel::post(QpRequest request, PairThen then) {
  request.user_id = ++pair_id_;
  request.fence = below(6) == 0;
  request.try_only = below(4) == 0;
  QueuePair::Posted posted = pair_->post(request);
  if (posted.status == Status::no_credit) {  // nothing has happened
    request.try_only = false;
    posted = pair_->post(request);
  }
  CHECK(ok(posted.status));
  if (!request.signalled) return;
  ++pair_signalled_;
  pair_then_[request.user_id] = std::move(then);
}

void Channel::queue_pair() {
  if (pair_buffers_.size() == kDepth || pair_signalled_ == kDepth) settle();
  const Place place = some_place();
  make_free(place);
  const std::uint64_t kind = below(5), cut = below(place.bytes + 1);
  auto& bytes = pair_buffers_.emplace_back();
  std::array<Piece, 2> pieces{};  // read when the request is posted
  QpRequest request;
  PairThen then = [](const QpCompletion&) {};
  if (kind == 0) {
    request = QpRequest::atomic(region_, kAddWord, {AtomicOp::fetch_add, 3});
    then = [&atomics = all_.atomics[to_]](const QpCompletion& end) { atomics.additions.push_back({end.old_value, 3}); };
  } else if (kind == 1) {
    request = QpRequest::notify(counter_);
    ++notified_;
  } else {
    const bool reads = kind == 2;
    const std::vector<std::byte> wanted(shadow_.begin() + static_cast<std::ptrdiff_t>(place.at),
                                        shadow_.begin() + static_cast<std::ptrdiff_t>(place.at + place.bytes));
    bytes = reads ? std::vector<std::byte>(place.bytes) : fresh(place);
    pieces = {Piece{bytes.data(), cut}, Piece{bytes.data() + cut, place.bytes - cut}};
    if (reads) {
      request = QpRequest::read(region_, area() + place.at, pieces);
      then = [at = bytes.data(), wanted](const QpCompletion&) { CHECK(std::memcmp(at, wanted.data(), wanted.size()) == 0); };
    } else if (kind == 3) {
      request =
          QpRequest::write_notify(region_, area() + place.at, pieces, counter_, below(2) == 0 ? NotifyMode::own : NotifyMode::ordered);
      ++notified_;
    } else {
      request = QpRequest::write(region_, area() + place.at, pieces);
      request.inlined = place.bytes <= QueuePair::kMaxInline;
      if (below(3) == 0) request.level = CompletionLevel::local;
    }
    fly(place.at, place.at + place.bytes).completion = nullptr;  // the pair's flush() tells
    request.signalled = reads || below(2) == 0;
  }
  post(request, std::move(then));
}

void Channel::step() {
  switch (below(12)) {
    case 0:
    case 1:
      return write();
    case 2:
      return write_vector();
    case 3:
      return read();
    case 4:
    case 5:
      return atomic();
    case 6:
      return notify();
    case 7:
      return message();
    case 8:
    case 9:
      return queue_pair();
    case 10:
      return trigger();
    default:
      return settle();
  }
}

void Channel::send() {
  pair_ = QueuePair::create(nic_, {NodeId{to_}, kDepth}).value();
  for (int i = 0; i < kSteps; ++i) {
    step();
    if (i % (kSteps / kRounds) == 0) ledger_round(static_cast<std::uint64_t>(i) / (kSteps / kRounds));
    if (below(4) == 0) sleep_until(nic_.env(), nic_.env().now() + static_cast<Nanos>(below(10'000)));
  }
  settle();
  fire_the_rest();
  pair_.reset();
  --all_.sending;
}

// ---- the target -----------------------------------------------------------------------------------------------------------------------------

void Channel::receive() {
  Nic& nic = all_.world.nic(to_);
  for (std::uint64_t round = 0; round < kRounds; ++round) {
    CHECK(ok(nic.counter_wait(ledger_, round + 1, static_cast<WaitMode>(below(3)), kLimit)));
    const std::vector<std::byte> seen = all_.look(to_, slot(round), kSlotBytes);
    CHECK(std::all_of(seen.begin(), seen.end(), [&](std::byte b) { return b == static_cast<std::byte>(round + 1); }));
  }
  CHECK(all_.comes_true(to_, [&] { return all_.sending == 0; }));
  CHECK(ok(nic.counter_wait(counter_, notified_, WaitMode::adaptive, kLimit)));
  CHECK(all_.comes_true(to_, [&] { return handled_ == notified_ && all_.inboxes[to_].next[from_] == messages_; }));
  --all_.checking;
  CHECK(all_.comes_true(to_, [&] { return all_.checking == 0; }));
  sleep_until(nic.env(), nic.env().now() + 20 * kMillisecond);
  // Nothing comes twice, however late.
  CHECK(nic.counter_value(counter_) == notified_);
  CHECK(nic.counter_value(ledger_) == kRounds);
  CHECK(nic.counter_errors(counter_) + nic.counter_errors(ledger_) == 0);
  CHECK(all_.inboxes[to_].next[from_] == messages_);
  if (notified_ > 0) CHECK(handled_ == notified_);
  CHECK(ok(nic.clear_handler(counter_)));
  check_shadow(all_.look(to_, area(), kAreaBytes), 0);
  for (std::uint64_t i = 0; i < kMaxFired; ++i) {
    const std::uint64_t expected = fired_[i] ? 0x0101'0101'0101'0101 * (i + 1) : 0;
    CHECK(all_.word(to_, kFired + (from_ * kMaxFired + i) * 8) == expected);
  }
  CHECK(all_.word(to_, kOrWords + 8 * from_) == (std::uint64_t{1} << or_bits_) - 1);
  CHECK(((all_.word(to_, kFieldWord) >> (16 * from_)) & 0xffff) == field_);
}

}  // namespace netvm::test::everything
