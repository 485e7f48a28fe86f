// Event counters between processes: increments made by other processes, directly in the owner's device memory or through its rings.
#include <doctest/doctest.h>

#include "tests/support/nic_processes.hpp"

using namespace netvm;
using namespace netvm::nic;
using netvm::test::NicProcesses;
using netvm::test::ProcessNode;

namespace {

constexpr Nanos kSecond = 1'000'000'000;
constexpr std::uint64_t kEach = 3000, kNodes = 3, kTotal = (kNodes - 1) * kEach, kOperations = 200;

}  // namespace

TEST_CASE("handlers and triggered operations against increments from other processes: none lost, none doubled") {
  for (const ShmMode mode : {ShmMode::direct, ShmMode::packet}) {
    CHECK(NicProcesses::run(kNodes, mode, [](std::uint32_t node, ProcessNode& self, NicProcesses::Board& board) {
      Nic& nic = *self.nic;
      const Nanos deadline = nic.env().now() + 50 * kSecond;
      // Every process makes its counters in the same order: the ids are the same everywhere.
      const RemoteCounter hit = nic.counter_create().value(), back = nic.counter_create().value();
      const RemoteCounter target{NodeId{0}, hit.id};
      board.phase[2].fetch_add(1);
      while (board.phase[2].load() < kNodes) std::this_thread::yield();
      if (node != 0) {
        for (std::uint64_t i = 0; i < kEach; ++i) {
          if (!ok(nic.notify(target, 1))) return false;
          if (i % 64 == 0) std::this_thread::yield();
        }
        return ok(nic.counter_wait(back, kOperations, WaitMode::block, deadline));  // while this one sleeps
      }
      std::atomic<int> inside{0};
      std::atomic<std::uint64_t> last{0}, runs{0};
      bool good = ok(nic.set_handler(hit, 1, [&](std::uint64_t value, std::uint64_t) {
        if (inside.fetch_add(1) != 0 || value <= last.load()) runs.store(UINT64_MAX / 2);
        last.store(value);
        runs.fetch_add(1);
        inside.fetch_sub(1);
        return value + 1;
      }));
      std::vector<Completion> completions(2 * kOperations);
      for (std::uint64_t i = 0; i < kOperations; ++i) {
        for (std::uint32_t to = 1; to < kNodes; ++to) {
          good = nic.post_triggered(hit, 1 + i * (kTotal - 1) / kOperations, TriggeredOperation::notify({NodeId{to}, back.id}, 1),
                                    &completions[2 * i + to - 1])
                     .has_value() &&
                 good;
        }
      }
      good = ok(nic.counter_wait(hit, kTotal, WaitMode::block, deadline)) && good;
      for (Completion& completion : completions) good = ok(nic.wait(completion, deadline)) && good;
      while (last.load() < kTotal && nic.env().now() < deadline) std::this_thread::yield();
      good = ok(nic.clear_handler(hit)) && good;
      CHECK(last.load() == kTotal);
      CHECK(runs.load() <= kTotal);
      return good;
    }));
  }
}
