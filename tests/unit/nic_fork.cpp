// pitfall 15: a child made by fork() neither drives its parent's NIC nor changes anything that the parent shares with others.
#include <doctest/doctest.h>
#include <sys/wait.h>
#include <unistd.h>

#include "nic/queue_pair.hpp"
#include "runtime/fork_guard.hpp"
#include "tests/support/nic_processes.hpp"

using namespace netvm;
using namespace netvm::nic;
using netvm::test::NicProcesses;
using netvm::test::ProcessNode;

namespace {

constexpr Nanos kSecond = 1'000'000'000;

/// In the child: everything ends at once with Status::forked. Returns the number of the first thing that does not, 0 if all do.
int try_everything(Nic& nic, QueuePair& pair, Completion& of_parent, const RemoteRegion& there, const RemoteCounter& here,
                   const RemoteCounter& counter_there) {
  const auto refused = [](Status status) { return status == Status::forked; };
  std::uint64_t value = 7;
  int step = 0;
  ++step;
  if (!refused(nic.write(there, 0, &value, 8)) || !refused(nic.read(there, 0, &value, 8))) return step;
  ++step;
  if (!refused(nic.atomic(there, 0, {AtomicOp::fetch_add, 1}).status())) return step;
  ++step;
  if (!refused(nic.notify(counter_there, 1)) || !refused(nic.notify(here, 1))) return step;
  ++step;
  if (!refused(nic.write_notify(there, 0, &value, 8, counter_there, 1, NotifyMode::own))) return step;
  ++step;
  Completion posted;
  nic.post_write(there, 0, &value, 8, &posted);
  if (!posted.done() || !refused(posted.status())) return step;
  ++step;
  if (!refused(nic.wait(of_parent)) || !refused(nic.counter_wait(here, UINT64_MAX))) return step;
  ++step;
  if (!refused(nic.counter_create().status()) || !refused(nic.region_create({PageId{0}, 1}, Rights::all).status())) return step;
  ++step;
  if (!refused(nic.set_handler(here, 1, [](std::uint64_t v, std::uint64_t) { return v + 1; })) || !refused(nic.clear_handler(here)))
    return step;
  ++step;
  if (!refused(nic.post_triggered(here, 1, TriggeredOperation::notify(counter_there, 1), nullptr).status())) return step;
  ++step;
  const Piece piece = Piece::source(&value, 8);
  QpCompletion end;
  if (!ok(pair.post(QpRequest::write(there, 0, {&piece, 1})).status) || pair.poll({&end, 1}) != 1 || !refused(end.status)) return step;
  ++step;
  nic.send(NodeId{1}, MessageKind::test, {});
  nic.engine_turn(0, kForever);
  nic.shut_down();
  for (int i = 0; i < 100'000; ++i) {
    if (nic.drive()) return step;
  }
  return 0;
}

}  // namespace

TEST_CASE("pitfall 15: in a child made by fork() every verb ends with `forked`, and the parent's NIC goes on undisturbed") {
  for (const ShmMode mode : {ShmMode::direct, ShmMode::packet}) {
    CHECK(NicProcesses::run(2, mode, [](std::uint32_t node, ProcessNode& self, NicProcesses::Board& board) {
      constexpr std::uint64_t kCount = 20'000;
      Nic& nic = *self.nic;
      const RemoteRegion mine = nic.region_create({PageId{0}, 8}, Rights::all).value();
      const RemoteCounter here = nic.counter_create().value();
      board.words[4 * node] = mine.key;
      board.words[4 * node + 1] = mine.id.value;
      board.phase[2].fetch_add(1);
      while (board.phase[2].load() < 2) std::this_thread::yield();
      const RemoteCounter there{NodeId{1 - node}, here.id};
      RemoteRegion region = mine;
      region.node = NodeId{1 - node};
      region.key = board.words[4 * (1 - node)];
      region.id = RegionId{static_cast<std::uint32_t>(board.words[4 * (1 - node) + 1])};
      if (node == 1) {  // counts at node 0 all the while
        for (std::uint64_t i = 0; i < kCount; ++i) {
          if (!ok(nic.notify(there, 1))) return false;
        }
        return ok(nic.counter_wait(here, 1, WaitMode::block, nic.env().now() + 50 * kSecond)) && nic.counter_value(here) == 1;
      }
      const auto pair = QueuePair::create(nic, {NodeId{1}, 8}).value();
      bool good = true;
      for (int i = 0; i < 3; ++i) {
        Completion of_parent;
        const pid_t child = fork();
        if (child == 0) {
          alarm(20);
          _exit(try_everything(nic, *pair, of_parent, region, here, there));
        }
        int status = 0;
        good = waitpid(child, &status, 0) == child && WIFEXITED(status) && good;
        CHECK_MESSAGE((WIFEXITED(status) && WEXITSTATUS(status) == 0), "the child failed in step ", WEXITSTATUS(status), ", status ",
                      status);
      }
      good = ok(nic.counter_wait(here, kCount, WaitMode::block, nic.env().now() + 50 * kSecond)) && good;
      CHECK(nic.counter_value(here) == kCount);
      CHECK(nic.drops().duplicate + nic.drops().outside + nic.drops().malformed + nic.drops().unmatched == 0);
      std::uint64_t value = 1;
      good = ok(nic.read(region, 0, &value, 8)) && value == 0 && good;  // nobody has written there
      return ok(nic.notify(there, 1)) && good;
    }));
  }
}

TEST_CASE("a fork guard calls each object that lives, in the child alone") {
  int called[3] = {0, 0, 0};
  const auto note = [](void* context) noexcept { ++*static_cast<int*>(context); };
  const ForkGuard first(note, &called[0]);
  { const ForkGuard gone(note, &called[1]); }
  const ForkGuard third(note, &called[2]);
  const pid_t child = fork();
  if (child == 0) _exit(called[0] == 1 && called[1] == 0 && called[2] == 1 ? 0 : 1);
  int status = 0;
  waitpid(child, &status, 0);
  CHECK(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 0);
  CHECK(called[0] == 0);
}
