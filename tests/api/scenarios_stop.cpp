// Stop tokens on real processes: every wait that takes one comes back when it is asked to stop.
#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <fstream>
#include <memory>
#include <mutex>
#include <stop_token>
#include <string>
#include <thread>

#include "tests/api/scenario.hpp"

namespace netvm::test {

namespace {

using namespace std::chrono_literals;

bool stands_still(pid_t process) {
  std::ifstream file("/proc/" + std::to_string(process) + "/stat");
  std::string number, name, state;
  file >> number >> name >> state;
  return state == "T";
}

/// Node 1 has the queue of a condition variable and is stopped: node 0's wait comes back soon after the request all the same.
void stop_beside_a_stopped_node(Job& job) {
  struct Shared {
    condition_variable changed;
    mutex guard;
    pid_t process;
  };
  if (job.nodes() == 1) return;
  auto* all = job.allocate_all<Shared>(1, {.placement = Placement::at(0)});
  for (const bool timed : {false, true}) {
    if (job.node() == 1) {
      all->process = ::getpid();
      all->changed.notify_one();
    }
    job.barrier();
    if (job.node() == 0) {
      const pid_t process = all->process;
      std::unique_lock hold(all->guard);
      ::kill(process, SIGSTOP);
      while (!stands_still(process)) std::this_thread::sleep_for(1ms);
      std::stop_source stop;
      std::atomic<bool> is_back{false};
      std::atomic<bool> is_late{false};
      std::thread helper([&] {
        std::this_thread::sleep_for(5ms);
        stop.request_stop();
        for (int i = 0; i < 15'000 && !is_back.load(); ++i) std::this_thread::sleep_for(1ms);
        is_late.store(!is_back.load());
        ::kill(process, SIGCONT);
      });
      const auto never = [] { return false; };
      const bool got = timed ? all->changed.wait_for(hold, stop.get_token(), 1h, never) : all->changed.wait(hold, stop.get_token(), never);
      is_back.store(true);
      helper.join();
      EXPECT(!got);
      EXPECT(!is_late.load());
    }
    job.barrier();
  }
}

/// Every wait ends with false when a stop is requested, leaves nothing behind, and is not begun after it; a wait that has what it wants is true.
void stop_tokens(Job& job) {
  struct Objects {
    binary_semaphore permit;
    shared_mutex guard;
    wait_queue queue;
    barrier<> meeting;
    latch gate;
    flag go;
    once_flag setup;
  };
  auto* all = job.allocate_all<Objects>();
  if (job.node() == 0) {
    std::construct_at(&all->meeting, job.nodes() + 1);  // one of them never comes
    std::construct_at(&all->gate, 1);
    all->guard.lock();
  }
  std::thread runner;
  std::atomic<bool> runs{job.node() != 0};
  if (job.node() == 0) {
    runner = std::thread([&] {
      call_once(all->setup, [&] {
        runs.store(true);
        all->gate.wait();
      });
    });
  }
  while (!runs.load()) std::this_thread::sleep_for(1ms);
  job.barrier();
  const auto is_stopped = [](auto&& wait) {
    std::stop_source stop;
    std::thread stopper([&stop] {
      std::this_thread::sleep_for(5ms);
      stop.request_stop();
    });
    const bool got = wait(stop.get_token());
    stopper.join();
    return !got && !wait(stop.get_token());
  };
  EXPECT(is_stopped([&](std::stop_token stop) { return all->permit.acquire(std::move(stop)); }));
  if (job.node() != 0) {
    EXPECT(is_stopped([&](std::stop_token stop) { return all->guard.lock(std::move(stop)); }));
    EXPECT(is_stopped([&](std::stop_token stop) { return all->guard.lock_shared(std::move(stop)); }));
  }
  EXPECT(is_stopped([&](std::stop_token stop) { return all->queue.wait(all->queue.enqueue(), std::move(stop)); }));
  EXPECT(is_stopped([&](std::stop_token stop) { return all->gate.wait(std::move(stop)); }));
  EXPECT(is_stopped([&](std::stop_token stop) { return all->go.wait(std::move(stop)); }));
  EXPECT(is_stopped([&](std::stop_token stop) { return call_once(all->setup, std::move(stop), [] {}); }));
  const auto phase = all->meeting.arrive();
  EXPECT(is_stopped([&](std::stop_token stop) { return all->meeting.wait(phase, std::move(stop)); }));
  job.barrier();
  if (job.node() == 0) {
    all->guard.unlock();
    EXPECT(!all->queue.wake_one());  // nobody was left behind
    all->permit.release();
    all->gate.count_down();
    all->go.set();
    static_cast<void>(all->meeting.arrive());
    runner.join();
  }
  job.barrier();
  const std::stop_source never;
  EXPECT(call_once(all->setup, never.get_token(), [] { EXPECT(false); }));
  EXPECT(all->permit.acquire(never.get_token()));
  all->permit.release();
  EXPECT(all->guard.lock_shared(never.get_token()));
  all->guard.unlock_shared();
  EXPECT(all->gate.wait(never.get_token()));
  EXPECT(all->go.wait(never.get_token()));
  EXPECT(all->meeting.wait(phase, never.get_token()));
}

}  // namespace

std::vector<Scenario> stop_scenarios() {
  return {{"stop_tokens", stop_tokens}, {"stop_beside_a_stopped_node", stop_beside_a_stopped_node}};
}

}  // namespace netvm::test
