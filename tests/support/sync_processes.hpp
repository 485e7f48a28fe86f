// Processes that synchronise, one of which is killed with SIGKILL: what the tests of that share. No coherence layer; the lock tables lie in each process's frames.
#pragma once

#include <sys/wait.h>

#include <chrono>
#include <random>
#include <thread>

#include "sync/sync.hpp"
#include "tests/support/nic_processes.hpp"

namespace netvm::test {

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
inline sync::SyncConfig connect_tables(std::uint32_t node, std::uint32_t nodes, ProcessNode& self, NicProcesses::Board& board) {
  const nic::RemoteRegion mine = self.nic->region_create({PageId{0}, NicProcesses::kPages}, nic::Rights::all).value();
  board.words[2 * node].store(mine.id.value);
  board.words[2 * node + 1].store(mine.key);
  board.phase[2].fetch_add(1);
  while (board.phase[2].load() < nodes) std::this_thread::yield();
  sync::SyncConfig config;
  for (std::uint32_t i = 0; i < nodes; ++i) {
    nic::RemoteRegion region = mine;
    region.node = NodeId{i};
    region.id = RegionId{static_cast<RegionId::rep>(board.words[2 * i].load())};
    region.key = board.words[2 * i + 1].load();
    config.tables.push_back(region);
  }
  config.table_slots = 1024;
  return config;
}

/// Waits until all have come to that point. Each phase once.
inline void meet(NicProcesses::Board& board, std::size_t phase, std::uint32_t nodes) {
  board.phase[phase].fetch_add(1);
  while (board.phase[phase].load() < nodes) std::this_thread::yield();
}

/// Kills the victim a random while after word `entries` of the board has begun to count, and tells one Sync of it: the others learn from that.
inline void kill_and_tell(sync::Sync& sync, NicProcesses::Board& board, std::uint32_t victim, std::size_t entries,
                          std::minstd_rand& random) {
  while (board.words[entries].load() < 1 + random() % 50) std::this_thread::yield();
  std::this_thread::sleep_for(std::chrono::microseconds(random() % 2000));
  const pid_t process = board.pids[victim].load();
  ::kill(process, SIGKILL);
  siginfo_t info{};
  (void)::waitid(P_PID, static_cast<id_t>(process), &info, WEXITED | WNOWAIT);  // the memory of the others is safe from it now
  sync.declare_dead(NodeId{victim});
}

}  // namespace netvm::test
