// The page locks between two processes: the kernel's fence for other processes has a hole, which the host closes by waiting (AsymmetricFence, invariant 3).
// That it waits is shown by the clock, from below, which no load can disturb. The hole itself shows within one process (page_lock_fences); between two it
// needs a processor on which nothing else runs, and did not show in 100,000 rounds of a host that left the waiting out.
#include <doctest/doctest.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <ctime>
#include <new>
#include <thread>
#include <vector>

#include "nic/shadow_page_table.hpp"
#include "runtime/asymmetric_fence.hpp"
#include "runtime/sanitizers.hpp"
#include "tests/unit/page_lock_fixture.hpp"

using namespace netvm;
using namespace netvm::nic;
using netvm::test::let_a_thread_exit_on;
using netvm::test::lock_and_look;
using netvm::test::SlowStores;

namespace {

std::int64_t now_ns() {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return std::int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec;
}

/// What the host and the initiator, a child of it, share.
struct Board {
  std::atomic<std::uint64_t> entries[1];
  AnnouncementUse used;
  AnnouncementArea area;
  alignas(kCacheLine) std::atomic<bool> gone;
  std::atomic<bool> caught;  // the page was locked while it was gone
  std::atomic<bool> stop;
  std::atomic<std::uint64_t> locked;

  [[nodiscard]] AnnouncedPageLock lock() {
    return {entries, AnnouncedPageLock::Memory{&used, &area, 1}, NodeId{0}, AnnouncedPageLock::Fence::light};
  }
};

/// The initiator: locks the page again and again. Now and then a thread exits on its processor, which is what the kernel's fence takes amiss.
int initiate(Board& board) {
  if (!AsymmetricFence::enrol()) return 1;
  const ShadowPageTable table(board.entries, 1, board.lock());
  SlowStores slow;
  for (std::uint64_t round = 0; !board.stop.load() && !board.caught.load(); ++round) {
    if (round % 4096 == 0) {
      const int here = sched_getcpu();
      (void)bind_this_thread(here);
      let_a_thread_exit_on(here);
    }
    if (lock_and_look(table.locker(), slow, board.gone, board.caught)) board.locked.fetch_add(1);
  }
  return 0;
}

/// A host against an initiator in another process.
class Duel {
 public:
  Duel() : board_(new (::mmap(nullptr, sizeof(Board), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0)) Board{}) {
    child_ = ::fork();
    if (child_ == 0) {
      ::alarm(60);
      ::_exit(initiate(*board_));
    }
    table_.on_map({PageId{0}, 1});
    while (board_->locked.load() == 0 && ::waitpid(child_, nullptr, WNOHANG) == 0) std::this_thread::yield();
  }
  ~Duel() {
    board_->stop.store(true);
    (void)::waitpid(child_, nullptr, 0);
    ::munmap(static_cast<void*>(board_), sizeof(Board));
  }
  Duel(const Duel&) = delete;
  Duel& operator=(const Duel&) = delete;

  [[nodiscard]] bool works() const { return board_->locked.load() != 0; }
  [[nodiscard]] bool caught() const { return board_->caught.load(); }

  /// One round with the product's unmap. Returns how long that took.
  std::int64_t unmap() {
    const std::int64_t begin = now_ns();
    table_.on_unmap({PageId{0}, 1});
    const std::int64_t end = now_ns();
    look();
    table_.on_map({PageId{0}, 1});
    return end - begin;
  }

 private:
  void look() {
    board_->gone.store(true);
    for (int i = 0; i < 500; ++i) std::atomic_signal_fence(std::memory_order_seq_cst);
    board_->gone.store(false);
  }

  Board* board_;
  ShadowPageTable table_{board_->entries, 1, board_->lock()};
  pid_t child_ = -1;
};

}  // namespace

TEST_CASE("pitfall 2: an unmap waits for stores of other processes that the kernel's fence may have missed") {
  if (NETVM_TSAN || !AsymmetricFence::enrol() || !AsymmetricFence::available()) {
    MESSAGE("SKIPPED: no membarrier here, or ThreadSanitizer, whose builds have no asymmetric fences");
    return;
  }
  Duel duel;
  REQUIRE(duel.works());
  for (int round = 0; round < 2'000; ++round) {
    REQUIRE_MESSAGE(duel.unmap() >= AsymmetricFence::kSettle, "round ", round, ": the host has not waited");
    REQUIRE_MESSAGE(!duel.caught(), "a page went while another process had it locked, in round ", round);
  }
}
