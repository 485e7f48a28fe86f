// A process that is stopped (SIGSTOP) with all tokens and half of the tails: the others' try_ forms and waits with a time come back, and when it goes on nothing has
// been lost.
#include <doctest/doctest.h>

#include <chrono>
#include <functional>
#include <memory>
#include <thread>

#include "sync/objects.hpp"
#include "sync/sync.hpp"
#include "tests/support/sync_processes.hpp"

namespace netvm::test {
namespace {

using namespace std::chrono_literals;

constexpr std::uint32_t kNodes = 2, kStopped = 1;
constexpr std::uint64_t kLocks = 6, kLock = 0x1000, kPermits = 0x2000, kHeld = 0x3000, kReaders = 0x4000, kFlag = 0x5000, kMe = 1;
constexpr Nanos kShort = 20'000'000;

std::uint64_t none() { return 0; }
std::uint64_t one() { return 1; }

/// Stops the process, and lets it go on.
class Stop {
 public:
  explicit Stop(pid_t process) : process_(process) {
    ::kill(process_, SIGSTOP);
    siginfo_t info{};
    (void)::waitid(P_PID, static_cast<id_t>(process_), &info, WSTOPPED | WNOWAIT);
  }
  Stop(const Stop&) = delete;
  Stop& operator=(const Stop&) = delete;
  ~Stop() { ::kill(process_, SIGCONT); }

 private:
  pid_t process_;
};

/// Nothing more than a try, or a wait of kShort, and what tasks on a busy machine may add.
bool in_time(const char* what, const std::function<Status()>& call) {
  const auto began = std::chrono::steady_clock::now();
  const Status status = call();
  const auto took = std::chrono::steady_clock::now() - began;
  CAPTURE(what);
  CHECK(status == Status::timeout);
  CHECK(took < std::chrono::nanoseconds(sync::kPatience + kShort) + 5s);
  return status == Status::timeout;
}

// It uses everything, so that all tokens are there, and goes on when it has been stopped.
bool use_all(sync::Sync& sync, NicProcesses::Board& board) {
  sync::Objects& objects = sync.objects();
  bool good = objects.acquire(kHeld, kMe, one) == Status::ok;  // for who queues up behind it
  meet(board, 4, kNodes);
  while (board.words[20].load() == 0) std::this_thread::sleep_for(1ms);  // somebody stands there
  std::this_thread::sleep_for(20ms);
  good = objects.permits(kHeld, kMe, one).value() == 0 && good;
  for (std::uint64_t i = 0; i < kLocks; ++i)
    good = sync.lock(kLock + 8 * i, kMe) == Status::ok && sync.unlock(kLock + 8 * i, kMe) == Status::ok && good;
  good = objects.permits(kPermits, kMe, none).value() == 0 && good;
  good = objects.lock(kReaders, kMe) == Status::ok && objects.unlock(kReaders, kMe) == Status::ok && good;
  good = objects.set_flag(kFlag, kMe, true) == Status::ok && good;
  meet(board, 5, kNodes);
  while (board.words[21].load() == 0) std::this_thread::sleep_for(1ms);  // it is stopped in here
  return objects.release(kHeld, kMe, 1, 1, one) == Status::ok && good;
}

bool try_all(sync::Sync& sync, Env& env, NicProcesses::Board& board) {
  sync::Objects& objects = sync.objects();
  meet(board, 4, kNodes);
  bool good = true;
  std::atomic<bool> gives_up{false};
  Status queued = Status::invalid;
  std::thread queues_up([&] {
    board.words[20].store(1);
    queued = objects.acquire(kHeld, kMe + 1, one, kForever, &gives_up);
  });
  meet(board, 5, kNodes);
  {
    const Stop stop(board.pids[kStopped].load());
    const auto soon = [&env] { return env.now() + kShort; };
    bool came_back = in_time("try_lock", [&] {
      const Result<bool> got = sync.try_lock(kLock, kMe);
      return !got ? got.status() : *got ? Status::ok : Status::timeout;
    });
    for (std::uint64_t i = 0; i < kLocks; ++i)
      came_back = in_time("try_lock_for", [&] { return sync.lock(kLock + 8 * i, kMe, soon()); }) && came_back;
    came_back = in_time("try_acquire", [&] { return objects.acquire(kPermits, kMe, none, 1); }) && came_back;
    came_back = in_time("try_acquire_for", [&] { return objects.acquire(kPermits, kMe, none, soon()); }) && came_back;
    came_back = in_time("try_lock of a writer", [&] { return objects.lock(kReaders, kMe, 1); }) && came_back;
    came_back = in_time("try_lock_shared_for", [&] { return objects.lock_shared(kReaders, kMe, soon()); }) && came_back;
    came_back = in_time("is_set", [&] { return objects.await_flag(kFlag, kMe, 1); }) && came_back;
    came_back = in_time("a stop request",
                        [&] {
                          gives_up.store(true);
                          objects.look_again(kHeld);
                          queues_up.join();
                          return queued;
                        }) &&
                came_back;
    good = came_back && good;
  }
  board.words[21].store(1);
  for (std::uint64_t i = 0; i < kLocks; ++i)
    good = sync.lock(kLock + 8 * i, kMe) == Status::ok && sync.unlock(kLock + 8 * i, kMe) == Status::ok && good;
  good = objects.acquire(kHeld, kMe, one) == Status::ok && good;  // what was released for the thread that had given up
  good = objects.lock(kReaders, kMe) == Status::ok && objects.unlock(kReaders, kMe) == Status::ok && good;
  return objects.await_flag(kFlag, kMe) == Status::ok && good;
}

TEST_CASE("a process that is stopped keeps nobody who tries, or whose time is over") {
  for (const ShmMode mode : {ShmMode::packet, ShmMode::direct}) {
    const auto body = [](std::uint32_t node, ProcessNode& self, NicProcesses::Board& board) {
      NoCoherence hook;
      auto sync = std::make_unique<sync::Sync>(connect_tables(node, kNodes, self, board), *self.nic, hook, self.stats);
      meet(board, 3, kNodes);  // nobody sends before everybody's handlers stand
      const bool good = node == kStopped ? use_all(*sync, board) : try_all(*sync, self.env, board);
      meet(board, 6, kNodes);
      return good;
    };
    CHECK(NicProcesses::run(kNodes, mode, body));
  }
}

}  // namespace
}  // namespace netvm::test
