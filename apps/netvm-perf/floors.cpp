#include "apps/netvm-perf/floors.hpp"

#include <linux/futex.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <climits>
#include <csignal>
#include <cstring>
#include <new>
#include <stdexcept>

#include "apps/netvm-perf/stats.hpp"
#include "runtime/ids.hpp"

namespace netvm::perf {

struct FloorPartner::Shared {
  alignas(64) std::atomic<std::uint32_t> task{0};  // what to do next; the partner sleeps on it
  std::uint64_t bytes = 0;
  std::uint64_t rounds = 0;
  std::uint64_t serial = 0;  // the flags of this task begin after it
  alignas(64) std::atomic<std::uint32_t> ping{0};
  alignas(64) std::atomic<std::uint32_t> pong{0};
  alignas(64) std::atomic<std::uint64_t> word{0};
};

namespace {

constexpr std::size_t kRingArea = nic::shm_ring::kDefaultAreaBytes;

void* map_shared(std::size_t bytes) {
  void* at = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
  if (at == MAP_FAILED) throw std::runtime_error("netvm-perf: the machine gives no memory for the floors");
  return at;
}

void futex(std::atomic<std::uint32_t>& word, int op, std::uint32_t value) { syscall(SYS_futex, &word, op, value, nullptr, nullptr, 0); }

std::size_t whole_pages(std::size_t bytes) { return (bytes + kPageSize - 1) / kPageSize * kPageSize; }

/// memcpy, and the last word of it as a flag.
void hand(std::byte* to, const std::byte* from, std::size_t bytes, std::uint64_t flag) {
  if (bytes > 8) std::memcpy(to, from, bytes - 8);
  std::atomic_ref<std::uint64_t>(*reinterpret_cast<std::uint64_t*>(to + bytes - 8))
      .store(flag, std::memory_order_release);  // release: partner is await_flag()'s acquire
}

void await_flag(std::byte* at, std::size_t bytes, std::uint64_t flag) {
  const std::atomic_ref<std::uint64_t> last(*reinterpret_cast<std::uint64_t*>(at + bytes - 8));
  spin_until([&] { return last.load(std::memory_order_acquire) == flag; });  // acquire: partner is hand()'s release
}

void await_futex(std::atomic<std::uint32_t>& word, std::uint32_t value) {
  for (std::uint32_t seen = word.load(); seen != value; seen = word.load()) futex(word, FUTEX_WAIT, seen);
}

void tell_futex(std::atomic<std::uint32_t>& word, std::uint32_t value) {
  word.store(value);
  futex(word, FUTEX_WAKE, 1);
}

}  // namespace

void yield_processor() { sched_yield(); }

FloorPartner::FloorPartner(std::size_t largest)
    : largest_(whole_pages(std::max<std::size_t>(largest, 64))),
      mapped_(kPageSize + 2 * largest_ + 2 * whole_pages(kRingArea)),
      shared_(new (map_shared(mapped_)) Shared),
      there_(reinterpret_cast<std::byte*>(shared_) + kPageSize),
      back_(there_ + largest_),
      rings_(back_ + largest_),
      private_(largest_, std::byte{7}) {
  static_assert(sizeof(Shared) <= kPageSize);
  CPU_ZERO(&allowed_);
  sched_getaffinity(0, sizeof allowed_, &allowed_);
  std::byte* const second = rings_ + whole_pages(kRingArea);
  const pid_t parent = getpid();
  partner_ = fork();
  if (partner_ < 0) throw std::runtime_error("netvm-perf: fork failed");
  if (partner_ == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    in_ = nic::RingConsumer(rings_, kRingArea);
    out_ = nic::RingProducer(second, kRingArea);
    if (getppid() == parent) serve();
    _exit(0);
  }
  out_ = nic::RingProducer(rings_, kRingArea);
  in_ = nic::RingConsumer(second, kRingArea);
}

FloorPartner::~FloorPartner() {
  start(Task::end, 0, 0);
  waitpid(partner_, nullptr, 0);
  munmap(static_cast<void*>(shared_), mapped_);
}

void FloorPartner::keep_apart() const {
  cpu_set_t others = allowed_;
  const int here = sched_getcpu();
  if (here < 0 || CPU_COUNT(&others) < 2) return;
  CPU_CLR(static_cast<std::size_t>(here), &others);
  sched_setaffinity(partner_, sizeof others, &others);
}

void FloorPartner::start(Task task, std::uint64_t bytes, std::uint64_t rounds) {
  keep_apart();
  shared_->bytes = bytes;
  shared_->rounds = rounds;
  shared_->ping.store(0);
  shared_->pong.store(0);
  shared_->task.store(static_cast<std::uint32_t>(task));
  futex(shared_->task, FUTEX_WAKE, INT_MAX);
}

void FloorPartner::finish() {
  spin_until([&] { return shared_->task.load() == 0; });
  shared_->serial += shared_->rounds;
}

void FloorPartner::serve() {
  for (;;) {
    switch (static_cast<Task>(shared_->task.load())) {
      case Task::idle:
        futex(shared_->task, FUTEX_WAIT, 0);
        continue;
      case Task::end:
        return;
      case Task::hand_over:
        serve_hand_over();
        break;
      case Task::futex:
        serve_futex();
        break;
      case Task::ring_echo:
        serve_ring(true);
        break;
      case Task::ring_drain:
        serve_ring(false);
        break;
    }
    shared_->task.store(0);
  }
}

void FloorPartner::serve_hand_over() {
  const std::uint64_t end = shared_->serial + shared_->rounds;
  for (std::uint64_t i = shared_->serial + 1; i <= end; ++i) {
    await_flag(there_, shared_->bytes, i);
    hand(back_, private_.data(), shared_->bytes, i);
  }
}

double FloorPartner::hand_over_ns(std::size_t bytes, int rounds, std::vector<double>* each) {
  start(Task::hand_over, bytes, static_cast<std::uint64_t>(rounds) + 1);
  std::uint64_t flag = shared_->serial;
  const auto round_trip = [&] {
    hand(there_, private_.data(), bytes, ++flag);
    await_flag(back_, bytes, flag);
  };
  round_trip();  // wakes the partner
  const std::int64_t begin = clock_ns();
  for (int i = 0; i < rounds; ++i) {
    const std::int64_t before = each != nullptr ? clock_ns() : 0;
    round_trip();
    if (each != nullptr) each->push_back(static_cast<double>(clock_ns() - before) / 2);
  }
  const double ns = static_cast<double>(clock_ns() - begin) / (2.0 * rounds);
  finish();
  return ns;
}

void FloorPartner::serve_futex() {
  for (std::uint32_t i = 1; i <= shared_->rounds; ++i) {
    await_futex(shared_->ping, i);
    tell_futex(shared_->pong, i);
  }
}

double FloorPartner::futex_hand_over_ns(int rounds) {
  start(Task::futex, 0, static_cast<std::uint64_t>(rounds) + 1);
  std::int64_t begin = 0;
  for (std::uint32_t i = 1; i <= static_cast<std::uint32_t>(rounds) + 1; ++i) {
    tell_futex(shared_->ping, i);
    await_futex(shared_->pong, i);
    if (i == 1) begin = clock_ns();  // the first round trip woke the partner
  }
  const double ns = static_cast<double>(clock_ns() - begin) / (2.0 * rounds);
  finish();
  return ns;
}

void FloorPartner::push(std::size_t bytes) {
  const std::size_t largest = nic::shm_ring::max_record(nic::shm_ring::capacity_of(kRingArea));
  for (std::size_t done = 0; done < bytes;) {
    const std::size_t n = std::min(bytes - done, largest);
    const std::span<const std::byte> piece(private_.data() + done, n);
    spin_until([&] { return out_.push(piece, {}) == nic::RingProducer::Push::done; });
    done += n;
  }
}

void FloorPartner::take(std::size_t bytes) {
  for (std::size_t done = 0; done < bytes;) {
    std::span<const std::byte> record;
    spin_until([&] { return !(record = in_.front()).empty(); });
    std::memcpy(private_.data() + done, record.data(), record.size());
    done += record.size();
    in_.pop();
    static_cast<void>(in_.publish());  // the producer spins: nobody waits to be rung
  }
}

void FloorPartner::serve_ring(bool echo) {
  if (!echo) {
    take(8);
    push(8);  // awake
  }
  for (std::uint64_t i = 0; i < shared_->rounds; ++i) {
    take(shared_->bytes);
    if (echo) push(shared_->bytes);
  }
  if (!echo) push(8);
}

double FloorPartner::ring_one_way_ns(std::size_t bytes, int rounds) {
  start(Task::ring_echo, bytes, static_cast<std::uint64_t>(rounds) + 1);
  std::int64_t begin = 0;
  for (int i = 0; i <= rounds; ++i) {
    push(bytes);
    take(bytes);
    if (i == 0) begin = clock_ns();  // the first round trip woke the partner
  }
  const double ns = static_cast<double>(clock_ns() - begin) / (2.0 * rounds);
  finish();
  return ns;
}

double FloorPartner::ring_stream_ns(std::size_t bytes, int messages) {
  start(Task::ring_drain, bytes, static_cast<std::uint64_t>(messages));
  push(8);
  take(8);  // the partner is awake
  const std::int64_t begin = clock_ns();
  for (int i = 0; i < messages; ++i) push(bytes);
  take(8);
  const double ns = static_cast<double>(clock_ns() - begin) / messages;
  finish();
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
