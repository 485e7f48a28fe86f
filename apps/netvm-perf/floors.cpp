#include "apps/netvm-perf/floors.hpp"

#include <linux/futex.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <climits>
#include <csignal>
#include <cstring>
#include <new>
#include <stdexcept>

#include "apps/netvm-perf/rows.hpp"

namespace netvm::perf {

struct FloorPartner::Shared {
  alignas(64) std::atomic<std::uint32_t> rounds{0};  // what to do next; the partner sleeps on it; UINT32_MAX: end
  alignas(64) std::atomic<std::uint32_t> ping{0};
  alignas(64) std::atomic<std::uint32_t> pong{0};
  alignas(64) std::atomic<std::uint64_t> word{0};
};

namespace {

void* map_shared(std::size_t bytes) {
  void* at = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
  if (at == MAP_FAILED) throw std::runtime_error("netvm-perf: the machine gives no memory for the floors");
  return at;
}

void futex(std::atomic<std::uint32_t>& word, int op, std::uint32_t value) { syscall(SYS_futex, &word, op, value, nullptr, nullptr, 0); }

}  // namespace

FloorPartner::FloorPartner() : shared_(new (map_shared(sizeof(Shared))) Shared) {
  const pid_t parent = getpid();
  partner_ = fork();
  if (partner_ < 0) throw std::runtime_error("netvm-perf: fork failed");
  if (partner_ == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() == parent) serve();
    _exit(0);
  }
}

FloorPartner::~FloorPartner() {
  shared_->rounds.store(UINT32_MAX);
  futex(shared_->rounds, FUTEX_WAKE, INT_MAX);
  waitpid(partner_, nullptr, 0);
  munmap(shared_, sizeof(Shared));
}

void FloorPartner::serve() {
  for (;;) {
    const std::uint32_t rounds = shared_->rounds.load();
    if (rounds == UINT32_MAX) return;
    if (rounds == 0) {
      futex(shared_->rounds, FUTEX_WAIT, 0);
      continue;
    }
    for (std::uint32_t i = 1; i <= rounds; ++i) {
      while (shared_->ping.load(std::memory_order_acquire) != i) __builtin_ia32_pause();  // acquire: partner is the caller's release
      shared_->pong.store(i, std::memory_order_release);                                  // release: partner is the caller's acquire
    }
    shared_->rounds.store(0);
    futex(shared_->rounds, FUTEX_WAKE, INT_MAX);
  }
}

double FloorPartner::flag_hand_over_ns(int rounds) {
  shared_->ping.store(0);
  shared_->pong.store(0);
  const auto n = static_cast<std::uint32_t>(rounds) + 1;
  shared_->rounds.store(n);
  futex(shared_->rounds, FUTEX_WAKE, INT_MAX);
  std::int64_t begin = 0;
  for (std::uint32_t i = 1; i <= n; ++i) {
    shared_->ping.store(i, std::memory_order_release);                                  // release: partner is serve()'s acquire
    while (shared_->pong.load(std::memory_order_acquire) != i) __builtin_ia32_pause();  // acquire: partner is serve()'s release
    if (i == 1) begin = clock_ns();                                                     // the first round trip woke the partner
  }
  const double ns = static_cast<double>(clock_ns() - begin) / (2.0 * rounds);
  while (shared_->rounds.load() != 0) __builtin_ia32_pause();
  return ns;
}

double FloorPartner::store_ns(int stores) {
  const auto store = [this](int i) {
    // release: what a put promises its reader
    shared_->word.store(static_cast<std::uint64_t>(i), std::memory_order_release);
  };
  return time_batch(stores, store);
}

SharedBuffer::SharedBuffer(std::size_t bytes) : data_(static_cast<std::byte*>(map_shared(bytes))), bytes_(bytes) {
  std::memset(data_, 1, bytes_);
}
SharedBuffer::~SharedBuffer() { munmap(data_, bytes_); }

}  // namespace netvm::perf
