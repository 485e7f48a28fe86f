// Posting and polling on the direct way allocate nothing and make no system call: allocations are counted, and system calls kill (seccomp).
#include <doctest/doctest.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstddef>
#include <cstdlib>
#include <new>

#include "nic/queue_pair.hpp"
#include "tests/support/nic_world.hpp"

using namespace netvm;
using namespace netvm::nic;

namespace {
std::atomic<std::uint64_t> g_allocations{0};
}

void* operator new(std::size_t bytes) {
  g_allocations.fetch_add(1);
  void* memory = std::malloc(bytes == 0 ? 1 : bytes);
  if (memory == nullptr) std::abort();
  return memory;
}
void* operator new(std::size_t bytes, std::align_val_t alignment) {
  g_allocations.fetch_add(1);
  const auto a = static_cast<std::size_t>(alignment);
  void* memory = std::aligned_alloc(a, (bytes + a - 1) / a * a);
  if (memory == nullptr) std::abort();
  return memory;
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
void operator delete(void* memory, std::align_val_t) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t, std::align_val_t) noexcept { std::free(memory); }

namespace {

/// A pair from node 0 to node 1 on the direct way, and one round of everything that has a hot path.
struct Bench {
  test::ThreadNicWorld world;
  RemoteRegion region;
  RemoteCounter counter;
  std::unique_ptr<QueuePair> pair;
  std::uint64_t words[4] = {1, 2, 3, 4};
  std::uint64_t landed[2] = {0, 0};
  std::uint64_t failures = 0;
  std::uint64_t ends = 0;

  static test::NicWorldOptions options() {
    test::NicWorldOptions made;
    made.engines = false;
    return made;
  }
  Bench() : world(test::WorldKind::direct, options()) {
    region = world.whole(1);
    counter = world.nic(1).counter_create().value();
    CHECK(ok(world.vm(1).make_resident({PageId{0}, world.vm(1).pages()})));
    pair = QueuePair::create(world.nic(0), {NodeId{1}, 16}).value();
  }
  void round() {
    const Piece gather[] = {Piece::source(&words[0], 8), Piece::source(&words[1], 24)};
    const Piece scatter[] = {Piece::landing(&landed[0], 8), Piece::landing(&landed[1], 8)};
    QpRequest requests[6] = {QpRequest::write(region, 4090, gather, 1),
                             QpRequest::write_notify(region, 64, gather, counter, NotifyMode::ordered, 2),
                             QpRequest::read(region, 4090, scatter, 3),
                             QpRequest::notify(counter, 4),
                             QpRequest::atomic(region, 128, {AtomicOp::fetch_add, 1}, 5),
                             QpRequest::write(region, 256, gather, 6)};
    requests[5].signalled = false;
    requests[0].level = CompletionLevel::local;
    requests[3].fence = requests[1].inlined = true;
    const QueuePair::Posted posted = pair->post(requests);
    if (posted.count != 6 || !ok(posted.status)) ++failures;
    QpCompletion got[8];
    for (std::size_t n = 0; (n = pair->poll(got)) > 0;) {
      for (std::size_t i = 0; i < n; ++i) failures += ok(got[i].status) ? 0 : 1;
      ends += n;
    }
    if (pair->poll(got) != 0 || !ok(pair->flush())) ++failures;  // the empty poll drives
  }
};

/// From here on the calling thread may do nothing but end its process.
bool forbid_system_calls() {
  sock_filter program[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_exit_group, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
  };
  const sock_fprog filter{sizeof program / sizeof program[0], program};
  return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) == 0;
}

/// How a child ends that forbids itself system calls and then runs the body: its exit status, or minus the signal that killed it. 77: no seccomp here.
template <class Body>
int in_cage(Body&& body) {
  const pid_t child = fork();
  if (child == 0) body();
  int status = 0;
  waitpid(child, &status, 0);
  return WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
}

constexpr int kNoSeccomp = 77;

}  // namespace

TEST_CASE("posting and polling on the direct way allocate nothing") {
  Bench bench;
  for (int i = 0; i < 100; ++i) bench.round();
  const std::uint64_t before = g_allocations.load();
  const std::uint64_t ends_before = bench.ends;
  for (int i = 0; i < 100'000; ++i) bench.round();
  CHECK(g_allocations.load() == before);
  CHECK(bench.ends - ends_before == 500'000);
  CHECK(bench.failures == 0);
  int* volatile one = new int(1);
  delete one;
  CHECK(g_allocations.load() == before + 1);  // the counter counts
}

TEST_CASE("posting and polling on the direct way make no system call") {
  const int canary = in_cage([] {
    if (!forbid_system_calls()) _exit(kNoSeccomp);
    (void)syscall(SYS_getppid);
    _exit(0);
  });
  if (canary == kNoSeccomp) {
    MESSAGE("left out: this system has no seccomp filters");
    return;
  }
  CHECK(canary == -SIGSYS);  // the cage holds
  const int ended = in_cage([] {
    Bench bench;
    for (int i = 0; i < 100; ++i) bench.round();
    if (!forbid_system_calls()) _exit(kNoSeccomp);
    for (int i = 0; i < 100'000; ++i) bench.round();
    _exit(bench.failures == 0 && bench.ends == 100'100 * 5 ? 0 : 1);
  });
  CHECK(ended == 0);
}
