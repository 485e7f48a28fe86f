// Mutexes between processes of which one is killed with SIGKILL, wherever it is: holding, waiting, asking, handing over. The others exclude each other and go
// on, or are told; those that nobody tells learn of the death from the others.
#include <doctest/doctest.h>

#include <chrono>
#include <memory>
#include <random>
#include <thread>

#include "sync/sync.hpp"
#include "tests/support/sync_processes.hpp"

namespace netvm::test {
namespace {

constexpr std::uint32_t kNodes = 4, kVictim = 1, kLocks = 5;
constexpr std::uint64_t kLock = 0x1000;
constexpr std::size_t kInside = 20, kEntries = 30, kGot = 40, kRefused = 50;  // words of the board, a word for each mutex

/// Locks, looks that it is alone, unlocks. False: something is wrong.
bool visit(sync::Sync& sync, NicProcesses::Board& board, std::uint32_t node, std::uint64_t which, Status* status) {
  *status = sync.lock(kLock + which, 1);
  if (*status != Status::ok) return *status == Status::owner_dead;
  bool good = board.words[kInside + which].exchange(node + 1) == 0;
  board.words[kEntries + which].fetch_add(1);
  good = board.words[kInside + which].exchange(0) == node + 1 && good;
  return sync.unlock(kLock + which, 1) == Status::ok && good;
}

bool contend(std::uint32_t node, ProcessNode& self, NicProcesses::Board& board, unsigned seed) {
  NoCoherence hook;
  std::unique_ptr<sync::Sync> sync = std::make_unique<sync::Sync>(connect_tables(node, kNodes, self, board), *self.nic, hook, self.stats);
  meet(board, 3, kNodes);  // nobody sends before everybody's handlers stand
  std::minstd_rand random(seed * 10 + node);
  std::thread killer;
  if (node == 0)
    killer = std::thread([&, mine = std::minstd_rand(seed)]() mutable { kill_and_tell(*sync, board, kVictim, kEntries, mine); });
  bool good = true;
  const auto until = std::chrono::steady_clock::now() + std::chrono::milliseconds(30);
  while (node == kVictim || std::chrono::steady_clock::now() < until) {
    Status status = Status::ok;
    good = visit(*sync, board, node, random() % kLocks, &status) && good;
  }
  if (killer.joinable()) killer.join();
  meet(board, 4, kNodes - 1);
  // The death is known to one at least: all see each mutex the same way.
  for (std::uint64_t which = 0; which < kLocks; ++which) {
    Status status = Status::ok;
    good = visit(*sync, board, node, which, &status) && good;
    board.words[(ok(status) ? kGot : kRefused) + which].fetch_add(1);
  }
  meet(board, 5, kNodes - 1);
  for (std::uint64_t which = 0; which < kLocks; ++which) {
    good = good && (board.words[kGot + which].load() == 0 || board.words[kRefused + which].load() == 0);
    good = good && !(board.words[kInside + which].load() != 0 && board.words[kGot + which].load() != 0);  // it was killed inside
  }
  meet(board, 6, kNodes - 1);
  return good;
}

TEST_CASE("pitfall 13: a process that is killed among others that contend for mutexes") {
  for (const ShmMode mode : {ShmMode::packet, ShmMode::direct}) {
    for (unsigned round = 1; round <= (NETVM_TSAN || NETVM_ASAN ? 3U : 8U); ++round) {
      CAPTURE(round);
      const auto body = [round](std::uint32_t node, ProcessNode& self, NicProcesses::Board& board) {
        return contend(node, self, board, round);
      };
      CHECK(NicProcesses::run(kNodes, mode, body, kVictim));
    }
  }
}

}  // namespace
}  // namespace netvm::test
