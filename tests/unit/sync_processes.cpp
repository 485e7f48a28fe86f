// Mutexes between processes of which one is killed with SIGKILL, wherever it is: holding, waiting, asking, handing over. The others exclude each other and go
// on, or are told; those that nobody tells learn of the death from the others.
#include <doctest/doctest.h>
#include <sys/wait.h>

#include <chrono>
#include <memory>
#include <random>
#include <thread>

#include "sync/sync.hpp"
#include "tests/support/nic_processes.hpp"

namespace netvm::test {
namespace {

constexpr std::uint32_t kNodes = 4, kVictim = 1, kLocks = 5;
constexpr std::uint64_t kLock = 0x1000, kSlots = 1024;
constexpr std::size_t kInside = 20, kEntries = 30, kGot = 40, kRefused = 50;  // words of the board, a word for each mutex

class NoCoherence final : public sync::CoherenceHook {
 public:
  void on_release(sync::SyncId) override {}
  void append_acquire_request(sync::SyncId, sync::Bytes&) override {}
  void append_grant(sync::SyncId, NodeId, std::span<const std::byte>, sync::Bytes&) override {}
  void on_acquire(sync::SyncId, NodeId, std::span<const std::byte>) override {}
  void on_barrier_arrive(sync::Bytes&) override {}
  void on_barrier_merge(sync::Bytes&, std::span<const std::byte>) override {}
  void on_barrier_leave(std::span<const std::byte>) override {}
};

/// The processes' tables are made alike, so each knows how the others' regions are named once it has been told their keys.
sync::SyncConfig connect(std::uint32_t node, ProcessNode& self, NicProcesses::Board& board) {
  const nic::RemoteRegion mine = self.nic->region_create({PageId{0}, NicProcesses::kPages}, nic::Rights::all).value();
  board.words[2 * node].store(mine.id.value);
  board.words[2 * node + 1].store(mine.key);
  board.phase[2].fetch_add(1);
  while (board.phase[2].load() < kNodes) std::this_thread::yield();
  sync::SyncConfig config;
  for (std::uint32_t i = 0; i < kNodes; ++i) {
    nic::RemoteRegion region = mine;
    region.node = NodeId{i};
    region.id = RegionId{static_cast<RegionId::rep>(board.words[2 * i].load())};
    region.key = board.words[2 * i + 1].load();
    config.tables.push_back(region);
  }
  config.table_slots = kSlots;
  return config;
}

/// Locks, looks that it is alone, unlocks. False: something is wrong.
bool visit(sync::Sync& sync, NicProcesses::Board& board, std::uint32_t node, std::uint64_t which, Status* status) {
  *status = sync.lock(kLock + which, 1);
  if (*status != Status::ok) return *status == Status::owner_dead;
  bool good = board.words[kInside + which].exchange(node + 1) == 0;
  board.words[kEntries + which].fetch_add(1);
  good = board.words[kInside + which].exchange(0) == node + 1 && good;
  return sync.unlock(kLock + which, 1) == Status::ok && good;
}

void kill_and_tell(ProcessNode& self, sync::Sync& sync, NicProcesses::Board& board, std::minstd_rand& random) {
  while (board.words[kEntries].load() < 1 + random() % 50) std::this_thread::yield();
  std::this_thread::sleep_for(std::chrono::microseconds(random() % 2000));
  const pid_t victim = board.pids[kVictim].load();
  ::kill(victim, SIGKILL);
  siginfo_t info{};
  (void)::waitid(P_PID, static_cast<id_t>(victim), &info, WEXITED | WNOWAIT);  // the memory of the others is safe from it now
  sync.declare_dead(NodeId{kVictim});
  (void)self;
}

bool contend(std::uint32_t node, ProcessNode& self, NicProcesses::Board& board, unsigned seed) {
  NoCoherence hook;
  std::unique_ptr<sync::Sync> sync = std::make_unique<sync::Sync>(connect(node, self, board), *self.nic, hook, self.stats);
  board.phase[3].fetch_add(1);
  while (board.phase[3].load() < kNodes) std::this_thread::yield();  // nobody sends before everybody's handlers stand
  std::minstd_rand random(seed * 10 + node);
  std::thread killer;
  if (node == 0) killer = std::thread([&, mine = std::minstd_rand(seed)]() mutable { kill_and_tell(self, *sync, board, mine); });
  bool good = true;
  const auto until = std::chrono::steady_clock::now() + std::chrono::milliseconds(30);
  while (node == kVictim || std::chrono::steady_clock::now() < until) {
    Status status = Status::ok;
    good = visit(*sync, board, node, random() % kLocks, &status) && good;
  }
  if (killer.joinable()) killer.join();
  board.phase[4].fetch_add(1);
  while (board.phase[4].load() < kNodes - 1) std::this_thread::yield();
  // The death is known to one at least: all see each mutex the same way.
  for (std::uint64_t which = 0; which < kLocks; ++which) {
    Status status = Status::ok;
    good = visit(*sync, board, node, which, &status) && good;
    board.words[(ok(status) ? kGot : kRefused) + which].fetch_add(1);
  }
  board.phase[5].fetch_add(1);
  while (board.phase[5].load() < kNodes - 1) std::this_thread::yield();
  for (std::uint64_t which = 0; which < kLocks; ++which) {
    good = good && (board.words[kGot + which].load() == 0 || board.words[kRefused + which].load() == 0);
    good = good && !(board.words[kInside + which].load() != 0 && board.words[kGot + which].load() != 0);  // it was killed inside
  }
  board.phase[6].fetch_add(1);
  while (board.phase[6].load() < kNodes - 1) std::this_thread::yield();
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
