#include "apps/netvm-perf/sync.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <mutex>
#include <thread>

#include "apps/netvm-perf/contest.hpp"
#include "apps/netvm-perf/hand_made_locks.hpp"
#include "apps/netvm-perf/stats.hpp"

namespace netvm::perf {

namespace {

constexpr double kFreeAimNs = 100;

/// Lock and unlock of what nobody else wants, by one thread.
void measure_free(Job& job, const Options& options, std::vector<Row>& rows) {
  auto* guard = job.allocate_all<mutex>();
  const LockArm shared = process_shared_lock(job);
  if (job.node() == 0) {
    constexpr int kRounds = 20'000;
    detail::Runtime& runtime = detail::Runtime::current("netvm-perf");
    std::uint64_t offset = 0;
    (void)runtime.offset_of(guard, &offset);
    std::mutex local;
    Series bare, pthread_shared, inner, whole;
    for (int b = 0; b < options.batches; ++b) {
      bare.add(time_batch(kRounds, [&](int) {
        local.lock();
        local.unlock();
      }));
      pthread_shared.add(time_batch(kRounds, [&](int) {
        shared.lock();
        shared.unlock();
      }));
      inner.add(time_batch(kRounds, [&](int) {
        (void)runtime.sync->lock(offset, 1);
        (void)runtime.sync->unlock(offset, 1);
      }));
      whole.add(time_batch(kRounds, [&](int) {
        guard->lock();
        guard->unlock();
      }));
    }
    rows.push_back(make_row("mutex, free: sync::Sync lock + unlock", inner, "std::mutex lock + unlock", bare, 0));
    rows.push_back(make_row("mutex, free: netvm::mutex lock + unlock", whole, "std::mutex lock + unlock", bare, 0));
    rows.back().note =
        fmt::format("at most {:.0f} ns: {}", kFreeAimNs, verdict(whole.quantile(0.25), whole.quantile(0.75), kFreeAimNs, false));
    rows.push_back(make_row("pthread mutex shared by processes, free", pthread_shared, "std::mutex lock + unlock", bare, 0));
  }
  job.barrier();
}

/// One thread takes the other's turn: nanoseconds from an unlock until the other's lock() has returned, while both always want it. `told`: where the
/// other finds the time of the unlock; `tell(now)` writes it there.
template <class Tell>
void alternate(const LockArm& arm, int rounds, const volatile std::int64_t* told, Tell&& tell, Series& latencies) {
  for (int i = 0; i < rounds; ++i) {
    arm.lock();
    const std::int64_t now = clock_ns();
    const std::int64_t then = *told;
    if (then != 0) latencies.add(static_cast<double>(now - then));
    while (clock_ns() < now + 20'000) __builtin_ia32_pause();  // until the other must be queued
    tell(clock_ns());
    arm.unlock();
  }
}

/// Threads of one node: 0 and a second one.
void measure_same_node(Job& job, const Options& options, FloorPartner* partner, std::vector<Row>& rows) {
  auto* guard = job.allocate_all<mutex>();
  if (job.node() == 0) {
    const int rounds = options.quick ? 20 : 200;
    std::mutex local;
    const LockArm ours{"", [&] { guard->lock(); }, [&] { guard->unlock(); }};
    const LockArm theirs{"", [&] { local.lock(); }, [&] { local.unlock(); }};
    Series own, standard, bare;
    const auto turn = [&](const LockArm& arm) {
      std::int64_t told[2] = {0, 0};
      Series first, second;
      std::thread other([&] {
        alternate(
            arm, rounds, &told[1], [&](std::int64_t now) { told[0] = now, told[1] = 0; }, second);
      });
      alternate(
          arm, rounds, &told[0], [&](std::int64_t now) { told[1] = now, told[0] = 0; }, first);
      other.join();
      for (const double ns : second.values()) first.add(ns);
      return first.empty() ? 0.0 : first.median();
    };
    for (int b = 0; b < options.batches; ++b) {
      bare.add(partner->flag_hand_over_ns(1000));
      own.add(turn(ours));
      standard.add(turn(theirs));
    }
    rows.push_back(make_row("mutex, handed to a thread of the node", own, "bare flag hand-over", bare, 0));
    rows.push_back(make_row("std::mutex, handed to a thread", standard, "bare flag hand-over", bare, 0));
  }
  job.barrier();
}

std::vector<LockArm> all_arms(Job& job) {
  return {netvm_lock(job), mcs_lock(job), ticket_lock(job), cas_lock(job), process_shared_lock(job)};
}

/// Between two nodes that both always want it.
void measure_hand_over(Job& job, const Options& options, FloorPartner* partner, std::vector<Row>& rows) {
  const std::vector<LockArm> arms = all_arms(job);
  auto* told = job.symmetric_all<std::int64_t>(8);
  const int rounds = options.quick ? 20 : 200;
  Series bare;
  std::vector<Series> handed(arms.size());
  for (int b = 0; b < options.batches; ++b) {
    if (job.node() == 0) bare.add(partner->flag_hand_over_ns(1000));
    for (std::size_t a = 0; a < arms.size(); ++a) {
      *told = 0;
      job.barrier();
      Series latencies;
      const auto tell = [&](std::int64_t now) {
        *told = 0;
        put(1 - job.node(), told, &now);
      };
      alternate(arms[a], rounds, told, tell, latencies);
      if (!latencies.empty()) handed[a].add(latencies.median());
      job.barrier();
    }
  }
  if (job.node() != 0) return;
  for (std::size_t a = 0; a < arms.size(); ++a) {
    rows.push_back(make_row(arms[a].name + ", handed to another node", handed[a], "bare flag hand-over", bare, a == 0 ? 2.0 : 0));
  }
}

/// A token that lies idle at node 0, asked for by node 1.
void measure_fetch(Job& job, const Options& options, FloorPartner* partner, std::vector<Row>& rows) {
  auto* guard = job.allocate_all<mutex>();
  auto* took = job.symmetric_all<double>(1);
  Series fetched, bare;
  const int rounds = options.quick ? 10 : 50;
  for (int b = 0; b < options.batches; ++b) {
    if (job.node() == 0) bare.add(partner->flag_hand_over_ns(1000));
    Series batch;
    for (int i = 0; i < rounds; ++i) {
      if (job.node() == 0) {
        guard->lock();
        guard->unlock();
      }
      job.barrier();
      if (job.node() == 1) {
        batch.add(time_batch(1, [&](int) { guard->lock(); }));
        guard->unlock();
      }
      job.barrier();
    }
    if (job.node() == 1) {
      const double ns = batch.median();
      put(0, took, &ns);
    }
    job.barrier();
    if (job.node() == 0) fetched.add(*took);
  }
  if (job.node() == 0)
    rows.push_back(make_row("netvm::mutex, lock of one that lies idle elsewhere", fetched, "bare flag hand-over", bare, 0));
}

void measure_contended(Job& job, const Options& options, std::vector<Row>& rows) {
  std::vector<Contender> arms;
  for (const LockArm& arm : all_arms(job)) arms.push_back({arm.name, arm.lock, arm.unlock});
  const std::vector<Contest> contests = contend(job, options, arms);
  if (job.node() != 0) return;
  const std::size_t host = arms.size() - 1;
  for (std::size_t a = 0; a < arms.size(); ++a) {
    Row row = make_row(arms[a].name + ", both nodes at once: an acquisition", contests[a].per_entry, arms[host].name + ", the same",
                       contests[host].per_entry, 0);
    row.note = fairness_note(contests[a], a == 0);
    if (a == 0) row.note += fmt::format(", {:.2f} messages an acquisition", contests[a].messages.median());
    rows.push_back(row);
  }
}

}  // namespace

void measure_mutexes(Job& job, const Options& options, FloorPartner* partner, std::vector<Row>& rows) {
  measure_free(job, options, rows);
  measure_same_node(job, options, partner, rows);
  measure_hand_over(job, options, partner, rows);
  measure_fetch(job, options, partner, rows);
  measure_contended(job, options, rows);
}

std::vector<Row> measure_sync(Job& job, const Options& options, FloorPartner* partner, ProgressPipe& progress) {
  std::vector<Row> rows;
  progress.say("mutexes");
  measure_mutexes(job, options, partner, rows);
  progress.say("other objects");
  measure_objects(job, options, partner, rows);
  return rows;
}

}  // namespace netvm::perf
