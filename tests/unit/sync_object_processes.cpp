// Objects of every kind between processes of which one is killed with SIGKILL at a random moment. The others go on or are told, nobody waits for ever, and what is
// lost or broken can be made again. NETVM_DEATHS=1000 kills so many of each kind.
#include <doctest/doctest.h>

#include <chrono>
#include <cstdlib>
#include <memory>
#include <random>
#include <thread>

#include "sync/objects.hpp"
#include "sync/sync.hpp"
#include "tests/support/sync_processes.hpp"

namespace netvm::test {
namespace {

using sync::ObjectKind;
using sync::Objects;

constexpr std::uint32_t kNodes = 4, kVictim = 1;
constexpr std::uint64_t kAt = 0x1000, kThread = 1, kWaker = 2, kOnces = 8;
constexpr std::size_t kWriter = 20, kReaders = 21, kEntries = 30, kRuns = 40;  // words of the board

std::uint64_t one() { return 1; }
std::uint64_t all() { return kNodes; }
std::uint64_t many() { return std::uint64_t{1} << 40; }

struct Player {
  std::uint32_t node;
  Objects& objects;
  NicProcesses::Board& board;
  std::minstd_rand random;
  bool good = true;

  /// What may come of an operation that waits, and whether it was done.
  bool done(Status status) {
    good = good && (status == Status::ok || status == Status::owner_dead);
    return status == Status::ok;
  }
  /// Between these two no other survivor is alone in there, or, if this one is, in there at all.
  void go_in(bool alone) {
    for (std::uint32_t n = 0; n < kNodes && alone; ++n) good = good && (n == kVictim || board.words[kReaders + n].load() == 0);
    const std::uint64_t writer = alone ? board.words[kWriter].exchange(node + 1) : board.words[kWriter].load();
    good = good && (writer == 0 || writer == kVictim + 1);
    if (!alone) board.words[kReaders + node].store(1);
  }
  void go_out(bool alone) { board.words[alone ? kWriter : kReaders + node].store(0); }
};

/// One operation of the thread that plays. False: it came to nothing.
bool play(ObjectKind kind, Player& me) {
  Objects& objects = me.objects;
  switch (kind) {
    case ObjectKind::semaphore:
      if (!me.done(objects.acquire(kAt, kThread, one))) return false;
      me.go_in(true);
      me.go_out(true);
      return me.done(objects.release(kAt, kThread, 1, 1, one));
    case ObjectKind::rwlock: {
      const bool alone = me.random() % 2 == 0;
      if (!me.done(alone ? objects.lock(kAt, kThread) : objects.lock_shared(kAt, kThread))) return false;
      me.go_in(alone);
      me.go_out(alone);
      return me.done(alone ? objects.unlock(kAt, kThread) : objects.unlock_shared(kAt, kThread));
    }
    case ObjectKind::wait_queue: {
      const auto ticket = objects.enqueue(kAt, kThread);
      if (!me.done(ticket.status())) return false;
      const auto woken = objects.wake(kAt, kThread, 1 + me.random() % 2);
      return me.done(objects.wait(kAt, kThread, *ticket)) && me.done(woken.status());
    }
    case ObjectKind::barrier:
      return me.done(objects.arrive_and_wait(kAt, kThread, all, {}));
    case ObjectKind::latch:
      return me.done(objects.count_down(kAt, kThread, many, 1));
    case ObjectKind::flag:
      if (me.random() % 2 == 0) return me.done(objects.set_flag(kAt, kThread, me.node != kVictim || me.random() % 2 == 0));
      return me.done(objects.await_flag(kAt, kThread));
    case ObjectKind::once: {
      const std::uint64_t which = me.random() % kOnces;
      const auto must = objects.begin_once(kAt + 8 * which, kThread);
      if (!me.done(must.status()) || !*must) return me.good;
      me.board.words[kRuns + which].fetch_add(1);
      return me.done(objects.end_once(kAt + 8 * which, kThread, me.random() % 4 == 0)) || me.good;
    }
    case ObjectKind::none:
      break;
  }
  return false;
}

/// Lets those go on that wait for nothing but this.
void nudge(ObjectKind kind, Objects& objects) {
  if (kind == ObjectKind::wait_queue) (void)objects.wake(kAt, kWaker, UINT64_MAX);
  if (kind == ObjectKind::flag) (void)objects.set_flag(kAt, kWaker, true);
}

/// Of survivors: whatever it has become, a new one serves them all.
void play_again(ObjectKind kind, Player& me, std::uint32_t survivors) {
  Objects& objects = me.objects;
  const bool counts = kind == ObjectKind::barrier || kind == ObjectKind::latch;
  const std::uint64_t count = counts ? survivors : kind == ObjectKind::semaphore ? 1 : 0;
  if (me.node == 0) me.good = objects.init(kAt, kThread, kind, count) == Status::ok && me.good;
  meet(me.board, 6, survivors);
  me.board.words[kWriter].store(0);
  meet(me.board, 7, survivors);
  if (kind == ObjectKind::latch) {
    me.good = objects.count_down(kAt, kThread, many, 1) == Status::ok && objects.await_latch(kAt, kThread, many) == Status::ok && me.good;
  } else if (kind == ObjectKind::wait_queue) {
    const auto ticket = objects.enqueue(kAt, kThread);
    me.good = ticket && objects.wake(kAt, kThread, 1).has_value() && objects.wait(kAt, kThread, *ticket) == Status::ok && me.good;
  } else if (kind == ObjectKind::flag) {
    me.good = objects.set_flag(kAt, kThread, true) == Status::ok && objects.await_flag(kAt, kThread) == Status::ok && me.good;
  } else if (kind == ObjectKind::barrier) {
    me.good = objects.arrive_and_wait(kAt, kThread, all, {}) == Status::ok && me.good;
  } else {
    me.good = play(kind, me) && me.good;
  }
}

bool outlive(ObjectKind kind, std::uint32_t node, ProcessNode& self, NicProcesses::Board& board, unsigned seed) {
  NoCoherence hook;
  auto sync = std::make_unique<sync::Sync>(connect_tables(node, kNodes, self, board), *self.nic, hook, self.stats);
  meet(board, 3, kNodes);  // nobody sends before everybody's handlers stand
  Player me{node, sync->objects(), board, std::minstd_rand(seed * 10 + node)};
  std::atomic<bool> played{false};
  std::thread killer;
  if (node == 0) {
    killer = std::thread([&, mine = std::minstd_rand(seed)]() mutable {
      std::thread nudger([&] {
        for (; !played.load() || board.phase[4].load() < kNodes - 1; std::this_thread::sleep_for(std::chrono::microseconds(200)))
          nudge(kind, me.objects);
      });
      kill_and_tell(*sync, board, kVictim, kEntries, mine);
      board.words[kEntries + 1].store(1);
      nudger.join();
    });
  }
  // Who has seen the death plays on for a while: what is not broken goes on. A barrier of which one is dead goes on for nobody.
  for (int after = 0; node == kVictim || after < 20;) {
    (void)play(kind, me);
    if (node == kVictim) board.words[kEntries].fetch_add(1);  // the others know that it has used the object
    if (board.words[kEntries + 1].load() != 0) ++after;
  }
  if (kind == ObjectKind::latch && node != kVictim) {  // its count says that somebody would have come
    me.good = me.objects.await_latch(kAt, kThread, many) == Status::owner_dead && me.good;
  }
  played.store(true);
  meet(board, 4, kNodes - 1);
  if (killer.joinable()) killer.join();
  meet(board, 5, kNodes - 1);
  play_again(kind, me, kNodes - 1);
  meet(board, 8, kNodes - 1);
  return me.good;
}

unsigned deaths() {
  const char* const said = std::getenv("NETVM_DEATHS");
  return said == nullptr ? 1U : static_cast<unsigned>(std::strtoul(said, nullptr, 10));
}

TEST_CASE("pitfall 13: a process that is killed among others that use an object, of every kind") {
  for (const ObjectKind kind : {ObjectKind::semaphore, ObjectKind::rwlock, ObjectKind::wait_queue, ObjectKind::barrier, ObjectKind::latch,
                                ObjectKind::flag, ObjectKind::once}) {
    for (unsigned round = 1; round <= deaths(); ++round) {
      for (const ShmMode mode : {ShmMode::packet, ShmMode::direct}) {
        CAPTURE(sync::to_string(kind));
        CAPTURE(round);
        const auto body = [&](std::uint32_t node, ProcessNode& self, NicProcesses::Board& board) {
          return outlive(kind, node, self, board, round);
        };
        CHECK(NicProcesses::run(kNodes, mode, body, kVictim));
      }
    }
  }
}

}  // namespace
}  // namespace netvm::test
