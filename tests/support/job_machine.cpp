#include "tests/support/job_machine.hpp"

#include <time.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <optional>
#include <thread>
#include <utility>

#include "dsm/api/job_runtime.hpp"

namespace netvm::test {

namespace {

Nanos now() {
  timespec time{};
  clock_gettime(CLOCK_MONOTONIC, &time);
  return Nanos{time.tv_sec} * 1'000'000'000 + time.tv_nsec;
}

bool fits(Place place, std::size_t bytes) { return (bytes == 1 || bytes == 2 || bytes == 4 || bytes == 8) && place % bytes == 0; }

// Litmus tests ask for the memory's order, not for the compiler's or the store buffer's: aligned words are sequentially consistent atomics.
template <class T>
void load_word(Place from, void* to) {
  const T value = std::atomic_ref<T>(*reinterpret_cast<T*>(from)).load();
  std::memcpy(to, &value, sizeof value);
}
template <class T>
void store_word(Place to, const void* from) {
  T value;
  std::memcpy(&value, from, sizeof value);
  std::atomic_ref<T>(*reinterpret_cast<T*>(to)).store(value);
}

Placement placement_of(const dsm::AllocOptions& options) {
  switch (options.placement) {
    case dsm::Placement::block:
      return Placement::block();
    case dsm::Placement::cyclic:
      return Placement::cyclic();
    case dsm::Placement::at_node:
      return Placement::at(static_cast<int>(options.home.value));
    case dsm::Placement::first_touch:
      break;
  }
  return Placement::first_touch();
}

AllocationOptions options_of(const dsm::AllocOptions& options) {
  AllocationOptions same;
  same.placement = placement_of(options);
  same.protocol = options.protocol;
  same.alignment = options.alignment;
  same.granularity = options.granularity;
  return same;
}

class JobWorker final : public Worker {
 public:
  /// `thread`: null for one beside the section.
  JobWorker(Job& job, Thread* thread, bool checked)
      : Worker(static_cast<std::uint32_t>(job.node()), static_cast<std::uint32_t>(job.nodes()),
               static_cast<std::uint32_t>(thread == nullptr ? job.threads_per_node() : thread->local()),
               static_cast<std::uint32_t>(job.threads_per_node())),
        job_(job),
        thread_(thread),
        checked_(checked) {}

  void load_bytes(Place from, void* to, std::size_t bytes) override {
    if (checked_) return detail::checked_load(reinterpret_cast<const void*>(from), to, bytes);
    if (!fits(from, bytes)) return copy(to, reinterpret_cast<const void*>(from), bytes);
    if (bytes == 1) return load_word<std::uint8_t>(from, to);
    if (bytes == 2) return load_word<std::uint16_t>(from, to);
    if (bytes == 4) return load_word<std::uint32_t>(from, to);
    load_word<std::uint64_t>(from, to);
  }
  void store_bytes(Place to, const void* from, std::size_t bytes) override {
    if (checked_) return detail::checked_store(reinterpret_cast<void*>(to), from, bytes);
    if (!fits(to, bytes)) return copy(reinterpret_cast<void*>(to), from, bytes);
    if (bytes == 1) return store_word<std::uint8_t>(to, from);
    if (bytes == 2) return store_word<std::uint16_t>(to, from);
    if (bytes == 4) return store_word<std::uint32_t>(to, from);
    store_word<std::uint64_t>(to, from);
  }
  void lock(Place place) override { reinterpret_cast<mutex*>(place)->lock(); }
  void unlock(Place place) override { reinterpret_cast<mutex*>(place)->unlock(); }
  void barrier() override { thread_->barrier(); }
  void arrive() override { arrived_ = thread_->arrive(); }
  void wait() override { thread_->wait(std::move(*std::exchange(arrived_, std::nullopt))); }
  void bind(Place place, Place data, std::uint64_t bytes) override {
    reinterpret_cast<mutex*>(place)->bind(reinterpret_cast<const std::byte*>(data), bytes);
  }
  void bind_rwlock(Place place, Place data, std::uint64_t bytes) override {
    reinterpret_cast<shared_mutex*>(place)->bind(reinterpret_cast<const std::byte*>(data), bytes);
  }
  [[nodiscard]] Place allocate(std::uint64_t bytes, const dsm::AllocOptions& options) override {
    return reinterpret_cast<Place>(job_.allocate<std::byte>(bytes, options_of(options)));
  }
  void free(Place memory) override { job_.free(reinterpret_cast<void*>(memory)); }
  sync::Sync& sync() override { return *detail::Runtime::current("a test").sync; }
  [[nodiscard]] std::uint64_t sync_offset(Place place) const override { return place - detail::kRangeBase; }
  [[nodiscard]] std::uint64_t who() const override { return detail::this_thread_id(); }
  [[nodiscard]] Nanos now() const override { return test::now(); }
  void pause(Nanos time) override {
    const Nanos until = now() + time;
    while (now() < until) __builtin_ia32_pause();
  }

 private:
  // Byte by byte and as written: no wider access than asked for, whatever the library's memcpy would do.
  static void copy(void* to, const void* from, std::size_t bytes) {
    auto* out = static_cast<volatile std::byte*>(to);
    const auto* in = static_cast<const volatile std::byte*>(from);
    for (std::size_t i = 0; i < bytes; ++i) out[i] = in[i];
  }

  Job& job_;
  Thread* thread_;
  bool checked_;
  std::optional<Thread::arrival_token> arrived_;
};

// At node 0, by one-sided operations.
class SymmetricLedger final : public Ledger {
 public:
  explicit SymmetricLedger(std::byte* memory) : memory_(memory) {}
  void read(std::size_t at, void* to, std::size_t bytes) override { get(0, memory_ + at, static_cast<std::byte*>(to), bytes); }
  void write(std::size_t at, const void* from, std::size_t bytes) override {
    put(0, memory_ + at, static_cast<const std::byte*>(from), bytes);
  }

 private:
  std::byte* memory_;
};

}  // namespace

Place JobMachine::allocate(std::uint64_t bytes, const dsm::AllocOptions& options) {
  return reinterpret_cast<Place>(job_.allocate_all<std::byte>(bytes, options_of(options)));
}

void JobMachine::free(Place memory) {
  job_.barrier();
  if (job_.node() == 0) job_.free(reinterpret_cast<void*>(memory));
}

std::unique_ptr<Ledger> JobMachine::make_ledger(std::size_t bytes) {
  if (bytes > ledger_bytes_) {
    ledger_bytes_ = std::max<std::size_t>(bytes, std::size_t{64} << 10);
    ledger_ = job_.symmetric_all<std::byte>(ledger_bytes_);
  }
  if (job_.node() == 0) {
    const std::vector<std::byte> zeros(bytes);
    put(0, ledger_, zeros.data(), bytes);
  }
  job_.barrier();
  return std::make_unique<SymmetricLedger>(ledger_);
}

Ending JobMachine::run_with(const Program& program, const Program& beside) {
  std::thread other;
  if (beside) {
    other = std::thread([&] {
      JobWorker worker(job_, nullptr, checked_);
      beside(worker);
    });
  }
  job_.parallel([&](Thread& thread) {
    JobWorker worker(job_, &thread, checked_);
    program(worker);
  });
  if (other.joinable()) other.join();
  return {};
}

}  // namespace netvm::test
