// Channel: one source's program towards one target in tests/simulation/nic_everything.cpp, with every verb of the NIC, and what the target must look like.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <random>
#include <vector>

#include "nic/queue_pair.hpp"
#include "tests/support/nic_everything.hpp"

namespace netvm::test::everything {

class Channel {
 public:
  Channel(Everything& all, std::uint32_t from, std::uint32_t to)
      : all_(all), from_(from), to_(to), random_(all.seed * 100 + from * 10 + to), nic_(all.world.nic(from)), region_(all.regions[to]) {
    Nic& target = all.world.nic(to);
    ledger_ = target.counter_create().value();
    counter_ = target.counter_create().value();
    trigger_ = nic_.counter_create().value();
    CHECK(ok(target.set_handler(counter_, 1, [this](std::uint64_t value, std::uint64_t errors) {
      CHECK(errors == 0);
      CHECK(value > handled_);
      handled_ = value;
      return value + 1;
    })));
  }
  /// After a failure no fiber is left in which the pair could wait for its operations.
  ~Channel() { static_cast<void>(pair_.release()); }
  Channel(const Channel&) = delete;
  Channel& operator=(const Channel&) = delete;
  void send();     // on the source
  void receive();  // on the target
  [[nodiscard]] std::uint32_t from() const { return from_; }
  [[nodiscard]] std::uint32_t to() const { return to_; }

 private:
  /// A posted operation: its end, its buffers, and what is to be looked at then.
  struct Flight {
    std::uint64_t first = 0, last = 0;  // of the area; none if equal
    std::unique_ptr<Completion> completion = std::make_unique<Completion>();
    std::vector<std::byte> bytes{};
    std::function<void(const Completion&)> then = nullptr;
    Status expected = Status::ok;
  };
  struct Place {
    std::uint64_t at, bytes;
  };

  std::uint64_t below(std::uint64_t bound) { return random_() % bound; }
  Place some_place() {
    const std::uint64_t bytes = 1 + below(below(4) == 0 ? 6'000 : 300);
    return {below(kAreaBytes - bytes), bytes};
  }
  [[nodiscard]] std::uint64_t area() const { return kAreas + from_ * kAreaBytes; }
  [[nodiscard]] std::uint64_t slot(std::uint64_t round) const { return kLedgers + (from_ * kRounds + round) * kSlotBytes; }
  /// Nothing orders two writes of one place, or a write after a read, but an end in between.
  void make_free(const Place& place);
  std::vector<std::byte> fresh(const Place& place);  // new bytes for it, which the shadow has from now on
  Flight& fly(std::uint64_t first = 0, std::uint64_t last = 0) {
    flights_.push_back(std::make_unique<Flight>());
    flights_.back()->first = first;
    flights_.back()->last = last;
    return *flights_.back();
  }
  void settle();
  void check_shadow(const std::vector<std::byte>& seen, std::uint64_t at) {
    CHECK(std::memcmp(seen.data(), shadow_.data() + at, seen.size()) == 0);
  }

  void step();
  void write();
  void write_vector();
  void read();
  void atomic();
  void notify();
  void message();
  void ledger_round(std::uint64_t round);
  void trigger();
  void fire_the_rest();
  void queue_pair();
  using PairThen = std::function<void(const QpCompletion&)>;
  void post(QpRequest request, PairThen then);
  void poll();

  Everything& all_;
  std::uint32_t from_, to_;
  std::mt19937_64 random_;
  Nic& nic_;
  RemoteRegion region_;
  RemoteCounter ledger_, counter_, trigger_;
  std::vector<std::byte> shadow_ = std::vector<std::byte>(kAreaBytes);
  std::vector<std::unique_ptr<Flight>> flights_;
  std::uint64_t notified_ = 0, handled_ = 0, messages_ = 0, swaps_ = 0, cas_guess_ = 0, field_ = 0, or_bits_ = 0;
  std::vector<std::unique_ptr<Flight>> armed_;  // triggered operations
  std::uint64_t triggered_ = 0, highest_ = 0;   // increments of trigger_; the highest threshold
  std::vector<bool> fired_ = std::vector<bool>(kMaxFired);
  std::unique_ptr<QueuePair> pair_;
  std::vector<std::vector<std::byte>> pair_buffers_;
  std::uint64_t pair_id_ = 0, pair_signalled_ = 0;
  std::map<std::uint64_t, PairThen> pair_then_;
};

}  // namespace netvm::test::everything
