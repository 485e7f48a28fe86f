#include "apps/netvm-perf/thesis.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <optional>
#include <vector>

#include "apps/netvm-perf/hand_made_objects.hpp"
#include "apps/netvm-perf/in_flight.hpp"
#include "apps/netvm-perf/measurements.hpp"
#include "apps/netvm-perf/pin_cache.hpp"
#include "apps/netvm-perf/thesis_table.hpp"
#include "nic/direct_path.hpp"

namespace netvm::perf {
namespace {

/// The page locks that the product does not use: docs/decisions/0008-page-locks.md.
class CasTranslation final : public nic::CasPageLock::Locker {
 public:
  explicit CasTranslation(nic::Device& target) : Locker(nic::CasPageLock(target.shadow_entries())) {}
  static constexpr bool kPinned = false;
  class Usual {
   public:
    template <nic::LockFor kWhat>
    [[gnu::always_inline]] bool try_lock(const nic::DeviceView& target, PageId page) {
      locker_ = Locker(nic::CasPageLock(target.page_lock.entries));
      std::uint64_t frame = 0;
      return locker_.try_lock<kWhat>(page, &frame);  // a page's number is its frame's
    }
    template <nic::LockFor kWhat>
    static bool try_lock_run(const nic::DeviceView& /*target*/, PageId /*first*/, std::uint64_t /*pages*/) {
      return false;  // a count is taken page by page
    }
    void unlock() { locker_.unlock(); }

   private:
    Locker locker_{nic::CasPageLock(nullptr)};
  };
};

/// The verb over StaticPinning: the same engine with every page pinned, translation and locking compiled out. A function, as Nic::write() is one.
[[gnu::noinline]] Status pinned_write(nic::Nic& nic, const nic::RemoteRegion& to, std::uint64_t offset, const void* from,
                                      std::size_t bytes) {
  return nic::DirectPath<nic::StaticPinning>::write(nic, to, offset, from, bytes);
}

class PinnedPut {
 public:
  explicit PinnedPut(Session& session) : session_(session) {}
  void operator()(const std::byte* from, std::size_t bytes) {
    const Status status = pinned_write(session_.nic(), session_.peer(), session_.data_offset(), from, bytes);
    if (!ok(status)) [[unlikely]]
      session_.require(status, "a pinned put");
  }
  void finish() {}

 private:
  Session& session_;
};

/// The firmware's step alone, over a translation, and what the verb counts around it: no verb, no look at the channel, all inlined here.
template <class Translation>
class FirmwarePut {
 public:
  explicit FirmwarePut(Session& session)
      : session_(session),
        target_(*session.runtime().devices[session.peer().node.value]),
        view_(target_.view()),
        stats_(session.runtime().stats) {}
  void operator()(const std::byte* from, std::size_t bytes) { put(session_.data_offset(), from, bytes); }
  void finish() {}

 private:
  void put(std::uint64_t offset, const std::byte* from, std::size_t bytes) {
    using Step = nic::BasicFirmware<Translation>;
    const nic::RemoteRegion& to = session_.peer();
    auto* const source = const_cast<std::byte*>(from);  // only read
    if (!Step::template try_short<nic::LockFor::write>(view_, to, offset, source, bytes) &&
        !Step::template try_long<nic::LockFor::write>(view_, to, offset, source, bytes)) {
      const nic::Outcome outcome = Step::execute(target_, nic::write_request(to, offset, from, bytes));
      if (!ok(outcome.status) || !outcome.resident) session_.require(ok(outcome.status) ? Status::unmapped : outcome.status, "a bare put");
    }
    stats_.add_one_sided(bytes);
  }
  Session& session_;
  nic::Device& target_;
  nic::DeviceView view_;
  Stats& stats_;
};

double call_time(Session& session, std::size_t bytes, int rounds, auto&& put) {
  return time_batch(rounds, [&](int) { put(session.source(), bytes); });
}

/// Write latency over static pinning, seen by the target and as the time of the call.
void measure_static_pinning(Session& session, Table& table) {
  for (const std::size_t bytes : {8UL, 64UL, 512UL, 4096UL, 32768UL, 262144UL, 1048576UL}) {
    session.say(fmt::format("static pinning, {} bytes", size_text(bytes)));
    QuickPut ours(session);
    PinnedPut pinned(session);
    Arms arms(session);
    const std::size_t seen = arms.add_pair([&](int n) { return ping_pong(session, ours, bytes, n); });
    const std::size_t seen_pinned = arms.add_pair([&](int n) { return ping_pong(session, pinned, bytes, n); });
    const std::size_t call = arms.add_local([&](int n) { return call_time(session, bytes, n, ours); });
    const std::size_t call_pinned = arms.add_local([&](int n) { return call_time(session, bytes, n, pinned); });
    FirmwarePut<nic::ShadowTranslation> announced(session);
    FirmwarePut<CasTranslation> counted(session);
    FirmwarePut<nic::StaticPinning> free(session);
    const std::size_t lock_announced = arms.add_local([&](int n) { return call_time(session, bytes, n, announced); });
    const std::size_t lock_counted = arms.add_local([&](int n) { return call_time(session, bytes, n, counted); });
    const std::size_t lock_free = arms.add_local([&](int n) { return call_time(session, bytes, n, free); });
    arms.run();
    if (!session.measures()) continue;
    add_figure(table, fmt::format("write over static pinning, {}", size_text(bytes)), "<= 1.050",
               paired_ratio(arms.values(seen), arms.values(seen_pinned)), {1.05, 1.01});
    add_figure(table, fmt::format("the call alone over static pinning, {}", size_text(bytes)), "-",
               paired_ratio(arms.values(call), arms.values(call_pinned)), {});
    add_figure(table, fmt::format("its step over the same with locks by compare-and-swap, {}", size_text(bytes)), "-",
               paired_ratio(arms.values(lock_announced), arms.values(lock_counted)), {});
    add_figure(table, fmt::format("its step over the bare step with static pinning, {}", size_text(bytes)), "-",
               paired_ratio(arms.values(lock_announced), arms.values(lock_free)), {});
  }
}

// ---- dynamic pinning --------------------------------------------------------------------------------------------------------------------

constexpr std::array<double, 6> kHitRates = {0.80, 0.90, 0.95, 0.98, 0.99, 1.00};
constexpr std::size_t kCacheBlocks = 64;
constexpr std::size_t kHot = 8;     // blocks that stay in the cache
constexpr std::size_t kCold = 256;  // blocks that come round long after they were evicted

/// Blocks in the order in which a program with this hit rate uses them.
class AccessPattern {
 public:
  explicit AccessPattern(double hit_rate) : threshold_(static_cast<std::uint64_t>(hit_rate * 1e6)), random_(7) {}
  std::size_t next() {
    const std::uint64_t draw = random_.next();
    if (draw % 1'000'000 < threshold_) return (draw >> 32) % kHot;
    return kHot + cold_++ % kCold;
  }

 private:
  std::uint64_t threshold_;
  Mixer random_;
  std::size_t cold_ = 0;
};

/// From the batch's times: the hit rate at which dynamic pinning costs what NetVM costs. 1: it never does.
double break_even(const std::array<double, kHitRates.size()>& excess) {
  if (excess.back() >= 0) return 1;
  for (std::size_t i = kHitRates.size() - 1; i > 0; --i) {
    if (excess[i - 1] < 0) continue;
    return kHitRates[i - 1] + (kHitRates[i] - kHitRates[i - 1]) * excess[i - 1] / (excess[i - 1] - excess[i]);
  }
  return kHitRates.front();
}

void measure_dynamic_pinning(Session& session, std::size_t bytes, Table& table) {
  session.say(fmt::format("dynamic pinning, {} bytes", size_text(bytes)));
  const std::size_t block = std::max<std::size_t>(bytes, kPageSize);
  std::vector<std::byte> memory((kHot + kCold + 1) * block, std::byte{7});
  const auto begin = (reinterpret_cast<std::uintptr_t>(memory.data()) + block - 1) / block * block;
  const std::byte* const blocks = memory.data() + (begin - reinterpret_cast<std::uintptr_t>(memory.data()));
  QuickPut ours(session);
  PinnedPut pinned(session);
  PinCache cache(kCacheBlocks, block);
  std::array<std::size_t, kHitRates.size()> dynamic{};
  std::array<std::size_t, kHitRates.size()> netvm{};
  Arms arms(session);
  for (std::size_t i = 0; i < kHitRates.size(); ++i) {
    dynamic[i] = arms.add_local([&, pattern = AccessPattern(kHitRates[i])](int n) mutable {
      return time_batch(n, [&](int) {
        const std::byte* from = blocks + pattern.next() * block;
        cache.pin(from, bytes);
        pinned(from, bytes);
      });
    });
    netvm[i] = arms.add_local([&, pattern = AccessPattern(kHitRates[i])](int n) mutable {
      return time_batch(n, [&](int) { ours(blocks + pattern.next() * block, bytes); });
    });
  }
  arms.run();
  if (!session.measures()) return;
  std::vector<double> rates;
  for (std::size_t batch = 0; batch < arms.values(dynamic[0]).size(); ++batch) {
    std::array<double, kHitRates.size()> excess{};
    for (std::size_t i = 0; i < excess.size(); ++i) excess[i] = arms.values(dynamic[i])[batch] - arms.values(netvm[i])[batch];
    rates.push_back(break_even(excess));
  }
  add_figure(table, fmt::format("hit rate above which dynamic pinning wins, {}", size_text(bytes)), "0.945", bootstrap_median(rates),
             {0.945, 0.995, true});
}

void measure_dynamic_pinning_sizes(Session& session, Table& table) {
  constexpr std::array<std::size_t, 3> kSizes = {8, 4096, 65536};
  // Asked at A and followed by B, for both must run the same arms.
  const std::string why_not = session.measures() ? cannot_pin(kCacheBlocks * kSizes.back()) : std::string();
  if (session.agree(why_not.empty() ? 1 : 0) == 0) {
    if (session.measures()) table.notes.push_back("no figure for dynamic pinning: " + why_not);
    return;
  }
  for (const std::size_t bytes : kSizes) measure_dynamic_pinning(session, bytes, table);
}

// ---- the bare fabric, notifications --------------------------------------------------------------------------------------------------------

void measure_bare_fabric(Session& session, Table& table) {
  session.say("minimum write over the bare fabric");
  QuickPut ours(session);
  Arms arms(session);
  const std::size_t write = arms.add_pair([&](int n) { return ping_pong(session, ours, 8, n); });
  const std::size_t bare = arms.add_local(
      [&](int n) { return session.packet() ? session.floor().ring_one_way_ns(8, n) : session.floor().flag_hand_over_ns(n); });
  arms.run();
  if (!session.measures()) return;
  add_figure(table, fmt::format("minimum write over the bare {}", session.packet() ? "ring (packets)" : "store and flag (direct)"), "-",
             paired_ratio(arms.values(write), arms.values(bare)), {1.5, 1.2});
}

/// A stream of posted puts over the bare fabric's.
void measure_goodput(Session& session, std::size_t bytes, Table& table) {
  session.say(fmt::format("goodput, {} bytes", size_text(bytes)));
  constexpr int kWindow = 16;
  SharedBuffer shared(bytes);
  InFlight flight(session, kWindow);
  const auto stream = [&](int rounds) {
    double ns = 0;
    if (session.measures()) {
      ns = time_batch(1, [&](int) {
        for (int i = 0; i < rounds; ++i) flight.post(true, bytes);
        flight.finish_all();
      });
      ns /= rounds;
    }
    if (session.packet()) session.meet(nic::WaitMode::spin);  // until here B serves
    return ns;
  };
  Arms arms(session);
  const std::size_t ours = session.packet() ? arms.add_pair(stream) : arms.add_local(stream);
  const std::size_t bare = arms.add_local([&](int n) {
    if (session.packet()) return session.floor().ring_stream_ns(bytes, n);
    return time_batch(n, [&](int) {
      std::memcpy(shared.data(), session.source(), bytes);
      std::atomic_signal_fence(std::memory_order_seq_cst);
    });
  });
  arms.run();
  if (!session.measures()) return;
  add_figure(table,
             fmt::format("goodput over {}, {}", session.packet() ? "the bare ring's (packets)" : "memcpy's (direct)", size_text(bytes)),
             "0.972", paired_ratio(arms.values(bare), arms.values(ours)), {0.972, 0.985, true});
}

void measure_notifications(Session& session, Table& table) {
  session.say("notifications");
  QuickPut put(session);
  Arms arms(session);
  const std::size_t base = arms.add_pair([&](int n) { return ping_pong(session, put, 8, n); });
  const auto notified = [&](nic::WaitMode wait) {
    return arms.add_pair([&session, wait](int n) { return notify_ping_pong(session, wait, nic::NotifyMode::ordered, 8, n); });
  };
  const std::size_t spin = notified(nic::WaitMode::spin);
  const std::size_t block = notified(nic::WaitMode::block);
  const std::size_t handler = arms.add_pair([&](int n) { return handler_ping_pong(session, 8, n); });
  const std::size_t futex = arms.add_local([&](int n) { return session.floor().futex_hand_over_ns(n); });
  arms.run();
  if (!session.measures()) return;
  const auto added = [&](std::size_t arm) {
    const Interval whole = paired_ratio(arms.values(arm), arms.values(base));
    return Interval{whole.value - 1, whole.low - 1, whole.high - 1};
  };
  add_figure(table, "notification over the minimum write, spin", "0.53 to 3.15", added(spin), {0.53, 0.10});
  add_figure(table, "notification over the minimum write, block", "0.53 to 3.15", added(block), {3.15, {}});
  add_figure(table, "notification over the minimum write, handler", "0.53 to 3.15", added(handler), {3.15, 1.0});
  add_figure(table, "a bare futex wake over the minimum write", "-", added(futex), {});
  add_figure(table, "the same put and wait over a bare futex wake", "-", paired_ratio(arms.values(block), arms.values(futex)), {{}, 1.2});
}

/// The thesis's synchronisation over bare atomics, by one node; A keeps the words of what is made by hand.
void measure_objects_alone(Session& session, Table& table) {
  session.say("wait queue and semaphore");
  const ObjectArm semaphore = netvm_semaphore(session.job());
  const ObjectArm by_hand = semaphore_by_hand(session.job());
  auto* queue = session.job().allocate_all<wait_queue>();
  PlacesByHand places(session.job());
  session.job().barrier();
  Arms arms(session);
  const auto add_cycle = [&arms](auto&& step) { return arms.add_local([step](int n) { return time_batch(n, [&](int) { step(); }); }); };
  const std::size_t p_and_v = add_cycle([&] {
    semaphore.acquire();
    semaphore.release();
  });
  const std::size_t bare_p_and_v = add_cycle([&] {
    by_hand.acquire();
    by_hand.release();
  });
  const std::size_t wait = add_cycle([&] {
    const wait_queue::ticket place = queue->enqueue();
    queue->wake_one();
    queue->wait(place);
  });
  const std::size_t bare_wait = add_cycle([&] {
    const bool waits = places.come();
    if (places.anybody()) places.serve();
    if (waits) places.wait();
  });
  arms.run();
  if (!session.measures()) return;
  add_figure(table, "wait queue over bare atomics: enqueue, wake, wait, alone", "1.182",
             paired_ratio(arms.values(wait), arms.values(bare_wait)), {1.182, 1.05});
  add_figure(table, "semaphore over bare atomics: P and V, alone", "1.126", paired_ratio(arms.values(p_and_v), arms.values(bare_p_and_v)),
             {1.126, 1.03});
}

/// Over the bare fault and one memcpy.
void measure_ladder(Session& session, Table& table) {
  for (const LadderStep& step : run_fault_ladder(session, kPageSize)) {
    if (step.fault == "-") continue;
    add_figure(table, fmt::format("put with a {} fault at the {}, over the bare fault and memcpy", step.fault, step.missing), "-",
               step.ratio, {2.0, 1.3});
    if (!step.meets) continue;
    add_figure(table, fmt::format("the same at the {} ({}), over that and a bare hand-over there and back", step.missing, step.fault), "-",
               step.met, {{}, 1.3});
  }
}

}  // namespace

Table measure_thesis(Session& session) {
  Table table = make_thesis_table();
  const Options& options = session.options();
  const bool packet = session.packet();
  if (session.runtime().vm->has_budget()) {  // a job for faults: other figures would see pages go
    if (session.job().nodes() == 2 && wants(options, "faults")) measure_ladder(session, table);
    return table;
  }
  if (!packet && wants(options, "pinning")) measure_static_pinning(session, table);
  if (!packet && wants(options, "dynamic")) measure_dynamic_pinning_sizes(session, table);
  if (wants(options, "minimum")) measure_bare_fabric(session, table);
  if (wants(options, "goodput")) {
    for (const std::size_t bytes : {65536UL, 1048576UL}) measure_goodput(session, bytes, table);
  }
  if (!packet && wants(options, "sync")) measure_objects_alone(session, table);
  if (!packet && wants(options, "notify")) measure_notifications(session, table);
  return table;
}

void add_figures_of_many(Session& session, Table& table) {
  if (!wants(session.options(), "peer")) return;
  const std::optional<Interval> ratio = measure_faulting_peer(session);
  if (!ratio) return;
  add_figure(table, fmt::format("p99 of a put while another peer faults all the time ({})", session.packet() ? "packets" : "direct"), "-",
             *ratio, {1.2, {}});
}

}  // namespace netvm::perf
