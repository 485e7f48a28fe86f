// netvm/sync.hpp on real processes: each object in its standard shape, and the memory that it carries.
#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <mutex>
#include <random>
#include <shared_mutex>
#include <stdexcept>
#include <stop_token>
#include <string>
#include <system_error>
#include <thread>

#include "tests/api/scenario.hpp"

namespace netvm::test {

namespace {

using namespace std::chrono_literals;

// Under these an object carries what was written, also through others.
bool carries(const Job& job) { return job.protocol() != "entry" && job.protocol() != "scope"; }

template <class F>
std::errc error_of(F&& f) {
  try {
    f();
  } catch (const std::system_error& error) {
    return static_cast<std::errc>(error.code().value());
  }
  return {};
}

/// A ring between producers and consumers, by two semaphores and two binary ones.
void semaphores(Job& job) {
  if (!carries(job)) return;
  struct Ring {
    counting_semaphore<8> free;
    counting_semaphore<8> full;
    binary_semaphore put;
    binary_semaphore take;
    std::int64_t slots[8];
    std::int64_t in, out, sum;
  };
  auto* ring = job.allocate_all<Ring>();
  if (job.node() == 0) {
    std::construct_at(&ring->free, 8);
    std::construct_at(&ring->put, 1);
    std::construct_at(&ring->take, 1);
  }
  job.barrier();
  constexpr std::int64_t kEach = 60;
  job.parallel([&](Thread& me) {
    for (std::int64_t i = 0; i < kEach; ++i) {
      // Everybody produces and consumes, in this order: somebody can always go on.
      ring->free.acquire();
      ring->put.acquire();
      ring->slots[ring->in++ % 8] = i + 1;
      ring->put.release();
      ring->full.release();
      EXPECT(ring->full.try_acquire_for(60s));
      ring->take.acquire();
      ring->sum += ring->slots[ring->out++ % 8];
      ring->take.release();
      ring->free.release();
    }
    me.barrier();
    EXPECT(ring->sum == me.count() * kEach * (kEach + 1) / 2);
    EXPECT(!ring->full.try_acquire());
    EXPECT(!ring->full.try_acquire_for(1ms));
  });
}

void readers_and_writers(Job& job) {
  if (!carries(job)) return;
  struct Table {
    shared_mutex guard;
    std::int64_t a;
    char elsewhere[5000];
    std::int64_t b;
  };
  auto* table = job.allocate_all<Table>();
  job.parallel([&](Thread& me) {
    for (int i = 0; i < 100; ++i) {
      if ((i + me.rank()) % 10 == 0) {
        const std::unique_lock alone(table->guard);
        table->a += 1;
        table->b -= 1;
      } else {
        const std::shared_lock shared(table->guard);
        EXPECT(table->a + table->b == 0);
      }
    }
    me.barrier();
    const std::shared_lock shared(table->guard);
    EXPECT(table->a == me.count() * 10);
    std::thread([&] { EXPECT(!table->guard.try_lock_for(1ms)); }).join();
  });
}

void condition_variables(Job& job) {
  if (!carries(job)) return;
  struct Queue {
    mutex guard;
    condition_variable changed;
    std::int64_t items, made, taken;
    bool stop;
  };
  auto* queue = job.allocate_all<Queue>();
  job.parallel([&](Thread& me) {
    constexpr std::int64_t kEach = 40;
    for (std::int64_t i = 0; i < kEach; ++i) {
      {
        const std::scoped_lock hold(queue->guard);
        ++queue->items;
        ++queue->made;
      }
      queue->changed.notify_one();
      std::unique_lock hold(queue->guard);
      queue->changed.wait(hold, [&] { return queue->items > 0; });
      --queue->items;
      if (++queue->taken == me.count() * kEach) {
        queue->stop = true;
        queue->changed.notify_all();
      }
    }
    std::unique_lock hold(queue->guard);
    EXPECT(queue->changed.wait_for(hold, 60s, [&] { return queue->stop; }));
    EXPECT(queue->taken == queue->made);
    EXPECT(queue->changed.wait_for(hold, 1ms) == std::cv_status::timeout);
    EXPECT(hold.owns_lock());
    std::stop_source source;
    std::thread stopper([&] {
      std::this_thread::sleep_for(5ms);
      source.request_stop();
    });
    EXPECT(!queue->changed.wait(hold, source.get_token(), [] { return false; }));
    EXPECT(hold.owns_lock());
    stopper.join();
  });
}

void wait_queues(Job& job) {
  auto* queue = job.allocate_all<wait_queue>();
  job.parallel([&](Thread& me) {
    const wait_queue::ticket place = queue->enqueue();
    me.barrier();  // all are in it
    if (me.rank() == 0) EXPECT(queue->wake_all() == static_cast<std::size_t>(me.count()));
    queue->wait(place);
    me.barrier();
    EXPECT(!queue->wake_one() || me.count() == 0);
    me.barrier();
    const wait_queue::ticket again = queue->enqueue();
    EXPECT(!queue->wait_for(again, 1ms));
    EXPECT(error_of([&] { queue->wait(again); }) == std::errc::invalid_argument);
    me.barrier();
  });
}

/// Half of the threads, with a completion function; split; re-initialised.
void barriers_of_some(Job& job) {
  struct Count {
    std::int64_t* phases;
    void operator()() const { ++*phases; }
  };
  struct Shared {
    barrier<> plain;
    barrier<> zeroed;
    alignas(barrier<Count>) std::byte counting[sizeof(barrier<Count>)];
    std::int64_t phases;
    std::int64_t values[64];
  };
  auto* shared = job.allocate_all<Shared>();
  auto* counting = reinterpret_cast<barrier<Count>*>(shared->counting);
  const int some = (job.nodes() * job.threads_per_node() + 1) / 2;
  if (job.node() == 0) {
    std::construct_at(&shared->plain, some);
    std::construct_at(counting, some, Count{&shared->phases});
  }
  job.barrier();
  const bool checks = carries(job);
  job.parallel([&](Thread& me) {
    // Every second thread.
    if (me.rank() % 2 == 0) {
      for (int round = 1; round <= 10; ++round) {
        shared->values[me.rank()] = round;
        shared->plain.arrive_and_wait();
        for (int other = 0; other < me.count() && checks; other += 2) EXPECT(shared->values[other] == round);
        if (checks) {
          auto token = counting->arrive();
          if (round % 2 == 0) static_cast<void>(counting->try_wait(token));
          counting->wait(std::move(token));
          EXPECT(shared->phases == round);
        }
        shared->zeroed.arrive_and_wait(some);
      }
    }
    me.barrier();
    if (me.rank() == 0) {
      EXPECT(error_of([&] { shared->zeroed.arrive_and_wait(some + 1); }) == std::errc::invalid_argument);
      shared->zeroed.init(1);
      shared->zeroed.arrive_and_wait();
      shared->zeroed.arrive_and_drop();
      EXPECT(error_of([&] { shared->zeroed.arrive_and_wait(); }) == std::errc::invalid_argument);
    }
  });
}

void latches_flags_and_once(Job& job) {
  struct Shared {
    latch ready;
    flag go;
    once_flag setup;
    std::int64_t made, runs, value;
  };
  auto* shared = job.allocate_all<Shared>();
  if (job.node() == 0) std::construct_at(&shared->ready, job.nodes() * job.threads_per_node());
  job.barrier();
  const bool checks = carries(job);
  job.parallel([&](Thread& me) {
    bool threw = false;
    try {
      call_once(
          shared->setup,
          [&](int by) {
            shared->runs += 1;
            if (checks && shared->runs == 1 && me.count() > 1) throw std::runtime_error("the first attempt fails");
            shared->made += by;
          },
          5);
    } catch (const std::runtime_error&) {
      threw = true;
    }
    if (checks && !threw) EXPECT(shared->made == 5);
    shared->ready.arrive_and_wait();
    EXPECT(shared->ready.try_wait());
    if (checks) EXPECT(shared->made == 5);
    if (me.rank() == me.count() - 1) {
      EXPECT(!shared->go.is_set());
      EXPECT(!shared->go.wait_for(1ms));
      shared->value = 7;
      shared->go.set();
    }
    shared->go.wait();
    if (checks) EXPECT(shared->value == 7);
    me.barrier();
    if (me.rank() == 0) {
      EXPECT(error_of([&] { shared->ready.count_down(); }) == std::errc::invalid_argument);
      shared->go.clear();
      EXPECT(!shared->go.is_set());
    }
  });
}

void misuse_of_objects(Job& job) {
  struct Shared {
    counting_semaphore<3> permits;
    shared_mutex guard;
    condition_variable changed;
    flag events[1000];
    wait_queue queues[2];
  };
  auto* shared = job.allocate_all<Shared>();
  flag elsewhere;
  EXPECT(error_of([&] { elsewhere.set(); }) == std::errc::operation_not_permitted);
  if (job.node() == 0) {
    std::construct_at(&shared->permits, 2);
    EXPECT(error_of([&] { shared->permits.release(2); }) == std::errc::invalid_argument);
    EXPECT(error_of([&] { shared->permits.release(-1); }) == std::errc::invalid_argument);
    EXPECT(error_of([&] { shared->permits.init(4); }) == std::errc::invalid_argument);
    shared->permits.release();
    auto* as_flag = reinterpret_cast<flag*>(&shared->permits);
    EXPECT(error_of([&] { as_flag->set(); }) == std::errc::invalid_argument);
    EXPECT(error_of([&] { shared->guard.unlock(); }) == std::errc::operation_not_permitted);
    EXPECT(error_of([&] { shared->guard.unlock_shared(); }) == std::errc::operation_not_permitted);
    shared->guard.lock();
    EXPECT(error_of([&] { shared->guard.lock_shared(); }) == std::errc::resource_deadlock_would_occur);
    EXPECT(error_of([&] { std::construct_at(&shared->guard), static_cast<void>(shared->guard.try_lock()); }) ==
           std::errc::resource_deadlock_would_occur);
    shared->guard.unlock();
    const wait_queue::ticket place = shared->queues[0].enqueue();
    EXPECT(error_of([&] { static_cast<void>(shared->queues[1].wait_for(place, 1ms)); }) == std::errc::invalid_argument);
    EXPECT(!shared->queues[0].wait_for(place, 1ms));
    for (flag& event : shared->events) event.set();
    for (flag& event : shared->events) EXPECT(event.is_set());
  }
  job.barrier();
  // What a thread of another node waits for cannot be freed; what was freed begins anew.
  auto* awaited = job.allocate_all<flag>();
  const int last = job.nodes() - 1;
  std::thread elsewhere_waits;
  if (job.node() == last) elsewhere_waits = std::thread([&] { awaited->wait(); });
  if (job.node() == 0) {
    const auto begins_anew = [&] { detail::object_init(awaited, detail::ObjectKind::flag, 0, 1); };
    while (error_of(begins_anew) != std::errc::device_or_resource_busy) std::this_thread::sleep_for(1ms);
    std::string words;
    try {
      job.free(awaited);
    } catch (const Error& error) {
      words = error.what();
    }
    EXPECT(words.find("holds, runs or waits for the flag at") != std::string::npos &&
           words.find("node " + std::to_string(last) + " says so") != std::string::npos);
    awaited->set();
  }
  if (elsewhere_waits.joinable()) elsewhere_waits.join();
  job.barrier();
  if (job.node() == 0) {
    job.free(awaited);
    auto* permits = job.allocate<counting_semaphore<>>();
    std::construct_at(permits, 3);
    EXPECT(permits->try_acquire());
    job.free(permits);
    auto* again = job.allocate<counting_semaphore<>>();
    EXPECT(!again->try_acquire());
    job.free(again);
  }
  job.barrier();
  // Threads wait for it: it cannot begin anew.
  auto* busy = job.allocate_all<binary_semaphore>();
  if (job.node() == 0) {
    std::thread waiter([&] { busy->acquire(); });
    while (error_of([&] { busy->init(0); }) != std::errc::device_or_resource_busy) std::this_thread::sleep_for(1ms);
    busy->release();
    waiter.join();
  }
  job.barrier();
}

/// Times and moments that nanoseconds cannot hold: a moment long past fails at once, one beyond all time waits.
void far_moments(Job& job) {
  struct Shared {
    mutex guard;
    shared_mutex shared;
    binary_semaphore permit;
    latch gate;
    condition_variable changed;
    once_flag once;
  };
  auto* all = job.allocate_all<Shared>();
  if (job.node() == 0) {
    std::construct_at(&all->permit, 0);
    std::construct_at(&all->gate, 1);
    all->guard.lock();
    all->shared.lock();
  }
  job.barrier();
  const auto past = std::chrono::steady_clock::time_point::min();
  const auto never = std::chrono::system_clock::time_point::max();
  const auto hours_past = std::chrono::time_point<std::chrono::system_clock, std::chrono::hours>::min();
  std::thread([&] {  // a thread that holds nothing
    EXPECT(!all->guard.try_lock_until(past));
    EXPECT(!all->guard.try_lock_until(hours_past));
    EXPECT(!all->shared.try_lock_until(past));
    EXPECT(!all->shared.try_lock_shared_until(hours_past));
    EXPECT(!all->permit.try_acquire_until(past));
    EXPECT(!all->gate.wait_until(past));
  })
      .join();
  job.barrier();
  std::thread waiter([&] {
    EXPECT(all->guard.try_lock_for(std::chrono::hours::max()));
    EXPECT(!all->changed.wait_until(all->guard, past, [] { return false; }));
    EXPECT(all->changed.wait_for(all->guard, std::chrono::hours::max(), [] { return true; }));
    all->guard.unlock();
    EXPECT(all->shared.try_lock_shared_until(never));
    all->shared.unlock_shared();
    EXPECT(all->gate.wait_until(never));
  });
  if (job.node() == 0) {
    std::this_thread::sleep_for(20ms);
    all->guard.unlock();
    all->shared.unlock();
    all->gate.count_down();
    const auto inside_itself = [&] { call_once(all->once, [&] { call_once(all->once, [] {}); }); };
    EXPECT(error_of(inside_itself) == std::errc::resource_deadlock_would_occur);
  }
  waiter.join();
  job.barrier();
}

/// All kinds at once, at random, with and without limits: exclusion, and that nobody is left behind.
void objects_under_stress(Job& job) {
  if (!carries(job)) return;
  struct Shared {
    binary_semaphore permit;
    shared_mutex guard;
    wait_queue queue;
    barrier<> meeting;
    std::int64_t permits_used, written, a, b;
  };
  auto* all = job.allocate_all<Shared>();
  if (job.node() == 0) {
    std::construct_at(&all->permit, 1);
    std::construct_at(&all->meeting, job.nodes() * job.threads_per_node());
  }
  job.barrier();
  job.parallel([&](Thread& me) {
    std::minstd_rand random(static_cast<unsigned>(me.rank() + 1));
    std::int64_t permits_used = 0;
    std::int64_t written = 0;
    for (int round = 1; round <= 60; ++round) {
      const auto limit = std::chrono::microseconds(random() % 2 == 0 ? 60'000'000 : random() % 200);
      if (all->permit.try_acquire_for(limit)) {
        ++permits_used;
        ++all->permits_used;
        all->permit.release();
      }
      if (random() % 3 == 0) {
        if (all->guard.try_lock_for(limit)) {
          ++written;
          ++all->written;
          ++all->a;
          --all->b;
          all->guard.unlock();
        }
      } else if (all->guard.try_lock_shared_for(limit)) {
        EXPECT(all->a + all->b == 0);
        all->guard.unlock_shared();
      }
      const wait_queue::ticket place = all->queue.enqueue();
      all->queue.wake_one();
      static_cast<void>(all->queue.wait_for(place, std::chrono::microseconds(random() % 200)));
      if (round % 20 == 0) all->meeting.arrive_and_wait();
    }
    const std::int64_t permits_of_all = me.sum(permits_used);
    const std::int64_t written_by_all = me.sum(written);
    EXPECT(all->permits_used == permits_of_all);
    EXPECT(all->written == written_by_all);
    EXPECT(!all->queue.wake_one());
  });
}

}  // namespace

/// Objects whose homes the program chooses, one by one, with their memory, or later; where that is not possible it is told.
void chosen_homes(Job& job) {
  constexpr std::size_t kLocks = 200;
  struct Bin {
    shared_mutex guard;
    binary_semaphore full;
    long items = 0;
  };
  auto* locks = job.allocate_all<mutex>(kLocks, {.placement = Placement::cyclic()});
  auto* bins = job.allocate_all<Bin>(8);
  if (job.node() == 0) place(bins, 8, Placement::block());
  auto* count = job.allocate_all<long>(kLocks);
  job.parallel([&](Thread& me) {
    for (std::size_t i = 0; i < kLocks; ++i) {
      const std::scoped_lock hold(locks[i]);
      ++count[i];
    }
    if (me.local() == 0) {  // of all that do, the last says where it lives; while it is on its way nobody can
      const std::errc error = error_of([&] { place(*locks, me.node()); });
      EXPECT(error == std::errc() || error == std::errc::device_or_resource_busy);
    }
    for (int i = 0; i < 16; ++i) {
      const std::scoped_lock hold(bins[i % 8].guard);
      ++bins[i % 8].items;
    }
    me.barrier();
    for (std::size_t i = 0; i < kLocks; ++i) {
      const std::scoped_lock hold(locks[i]);
      EXPECT(count[i] == me.count());
    }
    for (int i = 0; i < 8; ++i) EXPECT(bins[i].items == 2 * me.count());
  });
  mutex here;
  EXPECT(error_of([&] { place(here, 0); }) == std::errc::operation_not_permitted);
  EXPECT(error_of([&] { place(locks[1], job.nodes()); }) == std::errc::invalid_argument);
  EXPECT(error_of([&] { place(locks[1], -1); }) == std::errc::invalid_argument);
  EXPECT(!locks[1].recover());  // it is not lost
  job.barrier();
  if (job.node() == 0) job.free(locks);
}

std::vector<Scenario> object_scenarios() {
  return {{"semaphores", semaphores},
          {"readers_and_writers", readers_and_writers},
          {"condition_variables", condition_variables},
          {"wait_queues", wait_queues},
          {"barriers_of_some", barriers_of_some},
          {"latches_flags_and_once", latches_flags_and_once},
          {"objects_under_stress", objects_under_stress},
          {"misuse_of_objects", misuse_of_objects},
          {"far_moments", far_moments},
          {"chosen_homes", chosen_homes}};
}

}  // namespace netvm::test
