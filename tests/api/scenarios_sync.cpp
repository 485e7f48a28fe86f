#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdint>
#include <functional>
#include <mutex>
#include <numeric>
#include <stop_token>
#include <string_view>
#include <system_error>
#include <thread>

#include "tests/api/scenario.hpp"

namespace netvm::test {

namespace {

/// Lost updates show: everybody increments under one lock, and through several locks in one structure.
void mutual_exclusion(Job& job) {
  struct Account {
    mutex guard;
    std::int64_t balance;
  };
  constexpr int kAccounts = 5;
  constexpr int kRounds = 300;
  auto* accounts = job.allocate_all<Account>(kAccounts);
  job.parallel([&](Thread& me) {
    for (int i = 0; i < kRounds; ++i) {
      const int from = (i + me.rank()) % kAccounts;
      const int to = (i * 3 + 1 + me.rank()) % kAccounts;
      if (from == to) {
        const std::scoped_lock hold(accounts[from].guard);
        accounts[from].balance += 1;
        continue;
      }
      const std::scoped_lock hold(accounts[from].guard, accounts[to].guard);  // std's deadlock avoidance uses try_lock()
      accounts[from].balance -= 1;
      accounts[to].balance += 2;
    }
    me.barrier();
    std::int64_t total = 0;
    for (int a = 0; a < kAccounts; ++a) total += accounts[a].balance;
    EXPECT(total == std::int64_t{kRounds} * me.count());
  });
}

/// What is written before unlock() is visible after the next lock(), transitively, also for data outside of the lock's page.
void visibility(Job& job) {
  auto* guards = job.allocate_all<mutex>(2);
  auto* turn = job.allocate_all<int>(1024);
  auto* data = job.allocate_all<int>(8 * 1024, {.placement = Placement::cyclic()});
  job.parallel([&](Thread& me) {
    for (int round = 0; round < 20;) {
      const std::scoped_lock hold(guards[0]);
      if (turn[0] % me.count() != me.rank()) {
        if (turn[0] >= 20 * me.count()) break;
        continue;
      }
      for (int i = 0; i < 8 * 1024; i += 100) {
        EXPECT(data[i] == turn[0]);
        data[i] = turn[0] + 1;
      }
      ++turn[0];
      ++round;
    }
  });
}

void timed_and_try(Job& job) {
  using namespace std::chrono_literals;
  auto* guard = job.allocate_all<mutex>();
  if (job.node() == 0) guard->lock();
  job.barrier();
  if (job.node() != 0) {
    EXPECT(!guard->try_lock());
    EXPECT(!guard->try_lock_for(20ms));
    const std::unique_lock<mutex> held(*guard, 5ms);
    EXPECT(!held.owns_lock());
  }
  job.barrier();
  if (job.node() == 0) guard->unlock();
  job.barrier();
  EXPECT(guard->try_lock_for(5s));  // the withdrawn requests block nobody
  guard->unlock();
  job.barrier();
}

template <class F>
std::errc error_of(F&& f) {
  try {
    f();
  } catch (const std::system_error& error) {
    return static_cast<std::errc>(error.code().value());
  }
  return {};
}

void misuse_is_reported(Job& job) {
  auto* guard = job.allocate_all<mutex>();
  mutex elsewhere;
  EXPECT(error_of([&] { elsewhere.lock(); }) == std::errc::operation_not_permitted);
  if (job.node() == 0) {
    EXPECT(error_of([&] { guard->unlock(); }) == std::errc::operation_not_permitted);
    guard->lock();
    EXPECT(error_of([&] { guard->lock(); }) == std::errc::resource_deadlock_would_occur);
    std::thread([&] { EXPECT(error_of([&] { guard->unlock(); }) == std::errc::operation_not_permitted); }).join();
    guard->unlock();
  }
  const auto refused = [](auto&& f) {
    try {
      f();
    } catch (const Error&) {
      return true;
    }
    return false;
  };
  EXPECT(refused([&] { job.free(&elsewhere); }));
  std::uint64_t word = 0;
  EXPECT(refused([&] { put(0, &word, &word); }));
  auto* symmetric = job.symmetric_all<std::uint64_t>(1);
  EXPECT(refused([&] { put(job.nodes(), symmetric, &word); }));
  EXPECT(refused([&] { put(-1, symmetric, &word); }));
  EXPECT(refused([&] { job.touch(&word, 8, false); }));
  auto* const none = job.allocate<int>(0);
  EXPECT(none != nullptr);
  job.free(none);
  EXPECT(refused([&] { job.free(none); }));
  EXPECT(job.allocate_all<int>(0) != nullptr && job.symmetric_all<int>(0) != nullptr);
  EXPECT(refused([&] { static_cast<void>(job.allocate<int>(1, {.protocol = "nonsense"})); }));
  EXPECT(refused([&] { static_cast<void>(job.allocate<int>(1, {.placement = Placement::at(99)})); }));
  EXPECT(refused([&] { static_cast<void>(job.allocate<int>(1, {.alignment = 3})); }));
  EXPECT(refused([&] { const Job second; }));
  job.barrier();
  if (job.node() == 0) {
    auto* once = job.allocate<int>(1);
    job.free(once);
    EXPECT(refused([&] { job.free(once); }));
  }
  job.parallel([&](Thread&) { EXPECT(refused([&] { job.parallel([](Thread&) {}); })); });
}

/// A stop request ends a wait, here and at another node; what is in use cannot be freed.
void waits_can_be_ended(Job& job) {
  auto* guard = job.allocate_all<mutex>();
  for (int holder = 0; holder < job.nodes(); ++holder) {
    if (job.node() == holder) guard->lock();
    job.barrier();
    std::stop_source stop;
    std::thread waiter([&] { EXPECT(!guard->lock(stop.get_token())); });
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
    stop.request_stop();
    waiter.join();
    job.barrier();
    if (job.node() == holder) guard->unlock();
    job.barrier();
    EXPECT(guard->lock(std::stop_token()));
    guard->unlock();
    job.barrier();  // the next holder locks when all have been in
  }
  job.barrier();
  if (job.node() != 0) return;
  guard->lock();
  bool refused = false;
  try {
    job.free(guard);
  } catch (const Error&) {
    refused = true;
  }
  EXPECT(refused);
  guard->unlock();
  const std::uint64_t token = guard->fencing_token();
  EXPECT(token >= static_cast<std::uint64_t>(job.nodes() - 1));
  job.free(guard);
}

void barriers_and_reductions(Job& job) {
  auto* slots = job.allocate_all<std::int64_t>(1024);
  job.parallel([&](Thread& me) {
    for (std::int64_t round = 1; round <= 100; ++round) {
      slots[me.rank()] = round * (me.rank() + 1);
      me.barrier();
      std::int64_t sum = 0;
      for (int i = 0; i < me.count(); ++i) sum += slots[i];
      EXPECT(sum == round * me.count() * (me.count() + 1) / 2);
      EXPECT(me.sum(slots[me.rank()]) == sum);
    }
  });
}

/// Arrive, work on what nobody else needs, wait; some threads do both at once. And values from one thread to all.
void split_barriers_and_broadcasts(Job& job) {
  auto* slots = job.allocate_all<std::int64_t>(2 * 1024);
  auto* guard = job.allocate_all<mutex>();
  auto* total = job.allocate_all<std::int64_t>();
  guard->bind(total);
  struct Message {
    int round;
    double values[40];
  };
  constexpr int kRounds = 60;
  job.parallel([&](Thread& me) {
    for (std::int64_t round = 1; round <= kRounds; ++round) {
      std::int64_t* const shared = slots + round % 2 * 1024;
      shared[me.rank()] = round * (me.rank() + 1);
      if ((round + me.rank()) % 3 == 0) {
        me.arrive_and_wait();
      } else {
        Thread::arrival_token token = me.arrive();
        {
          const std::scoped_lock hold(*guard);
          *total += round;
        }
        EXPECT(error_of([&] { me.barrier(); }) == std::errc::operation_not_permitted);
        me.wait(std::move(token));
      }
      std::int64_t sum = 0;
      for (int i = 0; i < me.count(); ++i) sum += shared[i];
      EXPECT(sum == round * me.count() * (me.count() + 1) / 2);
      const int root = static_cast<int>(round) % me.count();
      Message mine{me.rank(), {static_cast<double>(round)}};
      mine = me.broadcast(mine, root);
      EXPECT(mine.round == root && mine.values[0] == static_cast<double>(round));
    }
    me.barrier();
    if (me.rank() == 0) {
      std::int64_t expected = 0;
      for (int rank = 0; rank < me.count(); ++rank) {
        for (std::int64_t round = 1; round <= kRounds; ++round) expected += (round + rank) % 3 == 0 ? 0 : round;
      }
      EXPECT(*total == expected);
    }
  });
  EXPECT(job.broadcast(job.node() * 10, job.nodes() - 1) == (job.nodes() - 1) * 10);
}

/// A child made by fork() is no node: what all nodes call together, it may not; its parent's job does not notice.
void forked_child(Job& job) {
  auto* words = job.allocate_all<std::int64_t>(1, {.placement = Placement::at(0)});
  job.barrier();
  if (job.node() == 0) {
    const pid_t child = fork();
    if (child == 0) {
      const auto refused = [](const std::function<void()>& call) {
        try {
          call();
        } catch (const Error& error) {
          return std::string_view(error.what()).find("a child made by fork() has none") != std::string_view::npos;
        }
        return false;
      };
      alarm(20);
      const bool right = refused([&] { job.barrier(); }) && refused([&] { (void)job.broadcast(1, 0); }) &&
                         refused([&] { job.parallel([](Thread& /*me*/) {}); }) && refused([&] { (void)job.allocate_all<int>(1); });
      _exit(right ? 0 : 1);
    }
    int status = -1;
    EXPECT(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
    words[0] = 1;
  }
  job.barrier();
  EXPECT(words[0] == 1);
  job.barrier();
}

}  // namespace

std::vector<Scenario> sync_scenarios() {
  return {{"mutual_exclusion", mutual_exclusion},
          {"visibility", visibility},
          {"timed_and_try", timed_and_try},
          {"misuse_is_reported", misuse_is_reported},
          {"waits_can_be_ended", waits_can_be_ended},
          {"barriers_and_reductions", barriers_and_reductions},
          {"split_barriers_and_broadcasts", split_barriers_and_broadcasts},
          {"forked_child", forked_child}};
}

}  // namespace netvm::test
