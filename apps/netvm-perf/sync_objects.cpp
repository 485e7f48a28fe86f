#include <fmt/format.h>

#include <algorithm>
#include <semaphore>
#include <shared_mutex>

#include "apps/netvm-perf/contest.hpp"
#include "apps/netvm-perf/hand_made_objects.hpp"
#include "apps/netvm-perf/stats.hpp"
#include "apps/netvm-perf/sync.hpp"

namespace netvm::perf {

namespace {

/// By one thread, and nobody else wants it.
void measure_alone(Job& job, const Options& options, std::vector<Row>& rows) {
  const std::vector<ObjectArm> arms = {netvm_semaphore(job), semaphore_by_hand(job), process_shared_semaphore(job)};
  auto* queue = job.allocate_all<wait_queue>();
  PlacesByHand places(job);
  auto* guard = job.allocate_all<shared_mutex>();
  job.barrier();
  if (job.node() == 0) {
    constexpr int kRounds = 10'000;
    std::shared_mutex local;
    std::vector<Series> series(arms.size());
    Series woken, woken_by_hand, cycle, cycle_by_hand, shared, local_shared;
    const auto pair = [&](auto&& first, auto&& second) {
      return time_batch(kRounds, [&](int) {
        first();
        second();
      });
    };
    for (int b = 0; b < options.batches; ++b) {
      for (std::size_t a = 0; a < arms.size(); ++a) series[a].add(pair(arms[a].acquire, arms[a].release));
      woken.add(time_batch(kRounds, [&](int) { queue->wake_one(); }));
      woken_by_hand.add(time_batch(kRounds, [&](int) {
        if (places.anybody()) places.serve();
      }));
      cycle.add(time_batch(kRounds, [&](int) {
        const wait_queue::ticket place = queue->enqueue();
        queue->wake_one();
        queue->wait(place);
      }));
      cycle_by_hand.add(time_batch(kRounds, [&](int) {
        const bool waits = places.come();
        if (places.anybody()) places.serve();
        if (waits) places.wait();
      }));
      shared.add(pair([&] { guard->lock_shared(); }, [&] { guard->unlock_shared(); }));
      local_shared.add(pair([&] { local.lock_shared(); }, [&] { local.unlock_shared(); }));
    }
    rows.push_back(make_row("semaphore, alone: acquire + release", series[0], arms[1].name, series[1], 1.03));
    rows.push_back(make_row("semaphore, alone: acquire + release", series[0], arms[2].name, series[2], 0));
    rows.push_back(make_row("wait queue, alone: wake of nobody", woken, "by hand on the NIC", woken_by_hand, 1.05));
    rows.push_back(make_row("wait queue, alone: enqueue, wake, wait", cycle, "by hand on the NIC", cycle_by_hand, 1.05));
    rows.push_back(make_row("reader-writer lock, alone: lock_shared + unlock_shared", shared, "std::shared_mutex", local_shared, 0));
  }
  job.barrier();
}

/// Node 1 waits, node 0 lets it go on: nanoseconds from the one call until the other has returned (one host, one clock). `takes_first`: node 0 must
/// have the permit that it gives.
void measure_let_go(Job& job, const Options& options, const std::vector<ObjectArm>& arms, bool takes_first, const char* what,
                    std::vector<Row>& rows) {
  auto* began = job.symmetric_all<std::uint64_t>(8);
  auto* returned = job.symmetric_all<std::int64_t>(8);
  const int rounds = options.quick ? 10 : 100;
  std::vector<Series> latency(arms.size());
  for (int b = 0; b < options.batches; ++b) {
    for (std::size_t a = 0; a < arms.size(); ++a) {
      Series batch;
      for (int i = 0; i < rounds; ++i) {
        if (job.node() == 0) {
          if (takes_first) arms[a].acquire();
          *began = 0;
          *returned = 0;
        }
        job.barrier();
        if (job.node() == 1) {
          constexpr std::uint64_t kBegan = 1;
          put(0, began, &kBegan);
          arms[a].acquire();
          const std::int64_t now = clock_ns();
          put(0, returned, &now);
          if (takes_first) arms[a].release();
        } else {
          spin_until([&] { return look(began) != 0; });
          const std::int64_t queued = clock_ns() + 20'000;  // until the other must be queued
          while (clock_ns() < queued) (void)look(began);
          const std::int64_t now = clock_ns();
          arms[a].release();
          spin_until([&] { return look(reinterpret_cast<std::uint64_t*>(returned)) != 0; });
          batch.add(static_cast<double>(*returned - now));
        }
        job.barrier();
      }
      if (job.node() == 0) latency[a].add(batch.median());
    }
  }
  if (job.node() != 0) return;
  for (std::size_t a = 1; a < arms.size(); ++a) rows.push_back(make_row(what, latency[0], arms[a].name, latency[a], 0));
}

void measure_contended(Job& job, const Options& options, const std::vector<ObjectArm>& objects, std::vector<Row>& rows) {
  std::vector<Contender> arms;
  arms.reserve(objects.size());
  for (const ObjectArm& arm : objects) arms.push_back({arm.name, arm.acquire, arm.release});
  const std::vector<Contest> contests = contend(job, options, arms);
  if (job.node() != 0) return;
  for (std::size_t a = 1; a < arms.size(); ++a) {
    rows.push_back(make_row("semaphore, one permit, both nodes at once: an acquisition", contests[0].per_entry, arms[a].name,
                            contests[a].per_entry, a == 1 ? 1.0 : 0));
    rows.back().note = fmt::format("{}, {:.2f} messages an acquisition; {}: {}", fairness_note(contests[0], true),
                                   contests[0].messages.median(), arms[a].name, fairness_note(contests[a], false));
  }
}

/// Of the two nodes, beside the host's own and beside the barrier of all.
void measure_barrier_of_some(Job& job, const Options& options, FloorPartner* partner, std::vector<Row>& rows) {
  auto* some = job.allocate_all<barrier<>>();
  auto* const shared = shared_by_processes<pthread_barrier_t>(job);
  if (job.node() == 0) {
    pthread_barrierattr_t attributes;
    pthread_barrierattr_init(&attributes);
    pthread_barrierattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
    pthread_barrier_init(shared, &attributes, 2);
  }
  job.barrier();
  const int rounds = options.quick ? 50 : 500;
  Series ours, everybody, host, bare;
  for (int b = 0; b < options.batches; ++b) {
    if (job.node() == 0) bare.add(partner->flag_hand_over_ns(1000));
    job.barrier();
    ours.add(time_batch(rounds, [&](int) { some->arrive_and_wait(2); }));
    job.barrier();
    everybody.add(time_batch(rounds, [&](int) { job.barrier(); }));
    host.add(time_batch(rounds, [&](int) { pthread_barrier_wait(shared); }));
  }
  if (job.node() != 0) return;
  rows.push_back(make_row("the job's barrier, of two", everybody, "bare flag hand-over", bare, 2.0));
  rows.push_back(make_row("netvm::barrier of two nodes' threads", ours, "bare flag hand-over", bare, 0));
  rows.push_back(make_row("netvm::barrier of two nodes' threads", ours, "pthread barrier shared by processes", host, 0));
}

}  // namespace

void measure_objects(Job& job, const Options& options, FloorPartner* partner, std::vector<Row>& rows) {
  measure_alone(job, options, rows);
  const std::vector<ObjectArm> semaphores = {netvm_semaphore(job), semaphore_by_hand(job), process_shared_semaphore(job)};
  measure_let_go(job, options, semaphores, true, "semaphore, handed over: release -> acquire returns", rows);
  measure_contended(job, options, semaphores, rows);
  measure_let_go(job, options, {netvm_wait_queue(job), wait_queue_by_hand(job)}, false, "wait queue: wake -> wait returns", rows);
  measure_barrier_of_some(job, options, partner, rows);
}

}  // namespace netvm::perf
