// HostVm::set_access and faults: every transition, several threads, revocation, blocking handlers. On every trap that this machine has.
#include <sys/mman.h>

#include <array>
#include <chrono>
#include <condition_variable>
#include <random>
#include <thread>

#include "host_vm_fixture.hpp"

using namespace netvm;
using namespace netvm::test;

namespace {

constexpr std::array kRights{Access::none, Access::read, Access::write};

#if NETVM_TSAN
constexpr int kRounds = 20;
#else
constexpr int kRounds = 100;
#endif

/// Remembers the fault, then gives write access so that the access can end.
struct ProbingHandler final : FaultHandler {
  explicit ProbingHandler(HostVm& host_vm) : vm(&host_vm) { host_vm.set_fault_handler(this); }
  bool on_fault(PageId page, bool write) noexcept override {
    faults.push_back({page, write});
    vm->set_access({page, 1}, access, Access::write);
    access = Access::write;
    return true;
  }
  HostVm* vm;
  Access access = Access::none;
  std::vector<std::pair<PageId, bool>> faults;
};

void sleep_us(int us) { std::this_thread::sleep_for(std::chrono::microseconds(us)); }

}  // namespace

TEST_CASE("host_vm: after each transition exactly the rights given hold, and a fault tells read from write") {
  RealEnv env;
  for (const TrapKind kind : usable_traps()) {
    for (const Access from : kRights) {
      for (const Access to : kRights) {
        for (const bool write : {false, true}) {
          CAPTURE(to_string(kind));
          CAPTURE(static_cast<int>(from));
          CAPTURE(static_cast<int>(to));
          CAPTURE(write);
          auto vm = make_vm(kind, 8, env);
          ProbingHandler handler(*vm);
          Application app(*vm);
          constexpr PageId kPage{5};
          vm->set_access({kPage, 1}, Access::none, from);
          vm->set_access({kPage, 1}, from, to);
          handler.access = to;
          frame_word(*vm, kPage.value * kPageSize + 24).store(99);
          if (write) {
            app.store(kPage.value * kPageSize + 24, 100);
          } else {
            CHECK(app.load(kPage.value * kPageSize + 24) == 99);
          }
          CHECK(frame_word(*vm, kPage.value * kPageSize + 24).load() == (write ? 100 : 99));
          const bool must_fault = to == Access::none || (write && to == Access::read);
          REQUIRE(handler.faults.size() == (must_fault ? 1 : 0));
          if (must_fault) CHECK(handler.faults[0] == std::pair{kPage, write});
        }
      }
    }
  }
}

TEST_CASE("host_vm: a range changes as a whole") {
  RealEnv env;
  for (const TrapKind kind : usable_traps()) {
    CAPTURE(to_string(kind));
    auto vm = make_vm(kind, 128, env);
    GrantingHandler handler(*vm);
    Application app(*vm);
    const PageRange pages{PageId{10}, 100};
    Access now = Access::none;
    std::minstd_rand random(1);
    for (int step = 0; step < 200; ++step) {
      const Access next = kRights[random() % 3];
      vm->set_access(pages, now, next);
      now = next;
      const std::uint64_t p = 10 + random() % 100;
      if (now == Access::write) app.store(p * kPageSize, p);
      if (now != Access::none) (void)app.load(p * kPageSize);
    }
    CHECK(handler.faults() == 0);
  }
}

TEST_CASE("host_vm: single pages and ranges mix") {
  RealEnv env;
  for (const TrapKind kind : usable_traps()) {
    CAPTURE(to_string(kind));
    auto vm = make_vm(kind, 64, env);
    Application app(*vm);
    // Every third page has been written and lost its rights again; then the whole range gets them at once.
    for (std::uint64_t p = 0; p < 64; p += 3) {
      vm->set_access({PageId{p}, 1}, Access::none, Access::write);
      app.store(p * kPageSize, p + 1);
      vm->set_access({PageId{p}, 1}, Access::write, p % 2 == 0 ? Access::read : Access::none);
      if (p % 2 == 0) vm->set_access({PageId{p}, 1}, Access::read, Access::none);
    }
    vm->set_access({PageId{0}, 64}, Access::none, Access::read);
    for (std::uint64_t p = 0; p < 64; ++p) CHECK(app.load(p * kPageSize) == (p % 3 == 0 ? p + 1 : 0));
    vm->set_access({PageId{0}, 64}, Access::read, Access::write);
    for (std::uint64_t p = 0; p < 64; ++p) app.store(p * kPageSize, p);
    for (std::uint64_t p = 0; p < 64; ++p) CHECK(frame_word(*vm, p * kPageSize).load() == p);
  }
}

TEST_CASE("host_vm: several threads fault, revoke and count without losing an increment") {
  RealEnv env({.crowded = true});
  for (const TrapKind kind : usable_traps()) {
    CAPTURE(to_string(kind));
    constexpr std::uint64_t kPages = 24;
    constexpr int kThreads = 4;
    auto vm = make_vm(kind, kPages, env);
    GrantingHandler handler(*vm);
    std::vector<std::thread> threads;
    for (int t = 0; t < kThreads; ++t) {
      threads.emplace_back([&, t] {
        Application app(*vm);
        std::minstd_rand random(static_cast<unsigned>(t + 1));
        std::array<std::uint64_t, kPages> mine{};
        for (int step = 0; step < kRounds * 30; ++step) {
          const std::uint64_t page = random() % kPages;
          const std::uint64_t at = page * kPageSize + static_cast<std::uint64_t>(t) * 64;
          switch (random() % 4) {
            case 0:
              handler.set(PageId{page}, kRights[random() % 3]);
              break;
            case 1:
              CHECK(app.load(at) == mine[page]);
              break;
            default:
              app.store(at, ++mine[page]);
              break;
          }
        }
        for (std::uint64_t p = 0; p < kPages; ++p) CHECK(app.load(p * kPageSize + static_cast<std::uint64_t>(t) * 64) == mine[p]);
      });
    }
    for (std::thread& thread : threads) thread.join();
    CHECK(handler.faults() > 0);
  }
}

TEST_CASE("host_vm: when set_access returns nobody writes any more") {
  RealEnv env({.crowded = true});
  for (const TrapKind kind : usable_traps()) {
    CAPTURE(to_string(kind));
    auto vm = make_vm(kind, 4, env);
    GrantingHandler handler(*vm);
    std::atomic<bool> stop{false};
    std::mutex gate;  // held: faults wait
    struct Gated final : FaultHandler {
      Gated(GrantingHandler& to, std::mutex& mutex) : inner(&to), gate(&mutex) {}
      bool on_fault(PageId page, bool write) noexcept override {
        const std::lock_guard lock(*gate);
        return inner->on_fault(page, write);
      }
      GrantingHandler* inner;
      std::mutex* gate;
    } gated(handler, gate);
    vm->set_fault_handler(&gated);
    std::vector<std::thread> writers;
    for (std::uint64_t t = 0; t < 3; ++t) {
      writers.emplace_back([&, t] {
        Application app(*vm);
        for (std::uint64_t n = 1; !stop.load(); ++n) app.store(kPageSize + t * 64, n);
      });
    }
    for (int round = 0; round < 40; ++round) {
      const std::unique_lock lock(gate);
      handler.set(PageId{1}, round % 2 == 0 ? Access::read : Access::none);
      std::array<std::uint64_t, 3> seen{};
      for (std::uint64_t t = 0; t < 3; ++t) seen[t] = frame_word(*vm, kPageSize + t * 64).load();
      sleep_us(50);
      for (std::uint64_t t = 0; t < 3; ++t) CHECK(frame_word(*vm, kPageSize + t * 64).load() == seen[t]);
      if (round % 4 == 3) sleep_us(50);
    }
    stop = true;
    for (std::thread& writer : writers) writer.join();
  }
}

TEST_CASE("host_vm: when set_access returns nobody reads any more") {
  RealEnv env({.crowded = true});
  for (const TrapKind kind : usable_traps()) {
    CAPTURE(to_string(kind));
    auto vm = make_vm(kind, 4, env);
    std::mutex page_lock;
    struct LockedHandler final : FaultHandler {
      LockedHandler(HostVm& host_vm, std::mutex& mutex) : vm(&host_vm), lock(&mutex) {}
      bool on_fault(PageId page, bool) noexcept override {
        const std::lock_guard guard(*lock);
        if (access == Access::none) vm->set_access({page, 1}, Access::none, Access::read);
        access = Access::read;
        return true;
      }
      HostVm* vm;
      std::mutex* lock;
      Access access = Access::none;
    } handler(*vm, page_lock);
    vm->set_fault_handler(&handler);
    std::atomic<bool> stop{false};
    std::array<std::atomic<std::uint64_t>, 3> last_read{};
    std::vector<std::thread> readers;
    for (std::size_t t = 0; t < 3; ++t) {
      readers.emplace_back([&, t] {
        while (!stop.load()) last_read[t].store(Application(*vm).load(2 * kPageSize));
      });
    }
    for (std::uint64_t round = 1; round <= 25; ++round) {
      {
        const std::lock_guard lock(page_lock);
        if (handler.access == Access::read) vm->set_access({PageId{2}, 1}, Access::read, Access::none);
        handler.access = Access::none;
        frame_word(*vm, 2 * kPageSize).store(round);
        sleep_us(50);
        for (const auto& value : last_read) CHECK(value.load() < round);
      }
      while (last_read[0].load() != round) std::this_thread::yield();
    }
    stop = true;
    for (std::thread& reader : readers) reader.join();
  }
}

TEST_CASE("host_vm: a fault handler may wait for another thread, which gives the right") {
  RealEnv env;
  for (const TrapKind kind : usable_traps()) {
    CAPTURE(to_string(kind));
    auto vm = make_vm(kind, 32, env);
    struct AskingHandler final : FaultHandler {
      bool on_fault(PageId page, bool) noexcept override {
        std::unique_lock lock(mutex);
        asked = static_cast<int>(page.value);
        changed.notify_all();
        changed.wait(lock, [&] { return asked < 0; });
        errno = EDOM;  // must not reach the program
        return true;
      }
      std::mutex mutex;
      std::condition_variable changed;
      int asked = -1;
    } handler;
    vm->set_fault_handler(&handler);
    std::thread server([&] {
      for (int served = 0; served < 32; ++served) {
        std::unique_lock lock(handler.mutex);
        handler.changed.wait(lock, [&] { return handler.asked >= 0; });
        vm->set_access({PageId{static_cast<std::uint64_t>(handler.asked)}, 1}, Access::none, Access::write);
        handler.asked = -1;
        handler.changed.notify_all();
      }
    });
    Application app(*vm);
    if (kind != TrapKind::checked) errno = 0;
    for (std::uint64_t p = 0; p < 32; ++p) app.store(p * kPageSize, p);
    if (kind != TrapKind::checked) CHECK(errno == 0);
    server.join();
    for (std::uint64_t p = 0; p < 32; ++p) CHECK(app.load(p * kPageSize) == p);
  }
}

TEST_CASE("host_vm: a fault handler may fault itself") {
  RealEnv env;
  for (const TrapKind kind : usable_traps()) {
    CAPTURE(to_string(kind));
    auto vm = make_vm(kind, 8, env);
    struct ChainingHandler final : FaultHandler {
      explicit ChainingHandler(HostVm& host_vm) : vm(&host_vm) {}
      bool on_fault(PageId page, bool) noexcept override {
        if (page.value > 0) Application(*vm).store((page.value - 1) * kPageSize, page.value);
        vm->set_access({page, 1}, Access::none, Access::write);
        return true;
      }
      HostVm* vm;
    } handler(*vm);
    vm->set_fault_handler(&handler);
    Application app(*vm);
    app.store(7 * kPageSize, 8);
    for (std::uint64_t p = 0; p < 8; ++p) CHECK(app.load(p * kPageSize) == p + 1);
  }
}

TEST_CASE("host_vm: rights that the kernel drops by itself come back without a word to the fault handler") {
  RealEnv env;
  for (const TrapKind kind : usable_hardware_traps()) {
    CAPTURE(to_string(kind));
    auto vm = make_vm(kind, 4, env);
    GrantingHandler handler(*vm);
    Application app(*vm);
    for (std::uint64_t p = 0; p < 3; ++p) vm->set_access({PageId{p}, 1}, Access::none, p == 0 ? Access::read : Access::write);
    app.store(kPageSize, 11);
    // What reclaim does to a mapped page: its page table entry goes.
    REQUIRE(::madvise(vm->app_base(), 3 * kPageSize, MADV_DONTNEED) == 0);
    CHECK(app.load(0) == 0);
    CHECK(app.load(kPageSize) == 11);
    app.store(2 * kPageSize, 12);
    app.store(kPageSize, 13);
    CHECK(frame_word(*vm, kPageSize).load() == 13);
    CHECK(handler.faults() == 0);
    vm->set_access({PageId{0}, 1}, Access::read, Access::none);
    CHECK(app.load(0) == 0);
    CHECK(handler.faults() == 1);
  }
}

TEST_CASE("host_vm: a system call on protected memory fails with EFAULT and no fault is taken") {
  RealEnv env;
  const int zero = ::open("/dev/zero", O_RDONLY | O_CLOEXEC);
  REQUIRE(zero >= 0);
  for (const TrapKind kind : usable_hardware_traps()) {
    CAPTURE(to_string(kind));
    auto vm = make_vm(kind, 4, env);
    GrantingHandler handler(*vm);
    CHECK(::read(zero, vm->app_base(), 8) == -1);
    CHECK(errno == EFAULT);
    handler.set(PageId{0}, Access::read);
    CHECK(::read(zero, vm->app_base(), 8) == -1);
    CHECK(errno == EFAULT);
    CHECK(handler.faults() == 0);
    handler.set(PageId{0}, Access::write);
    CHECK(::read(zero, vm->app_base(), 8) == 8);
  }
  ::close(zero);
}

TEST_CASE("host_vm: userfaultfd gives 100,000 separate pages their own rights") {
  if (!probe_trap(TrapKind::userfaultfd).usable) {
    MESSAGE("skipped: ", probe_trap(TrapKind::userfaultfd).reason);
    return;
  }
  RealEnv env;
  constexpr std::uint64_t kSeparate = 100'000;
  auto vm = make_vm(TrapKind::userfaultfd, 2 * kSeparate, env);
  GrantingHandler handler(*vm);
  for (std::uint64_t i = 0; i < kSeparate; ++i) vm->set_access({PageId{2 * i}, 1}, Access::none, Access::write);
  Application app(*vm);
  for (std::uint64_t i = 0; i < kSeparate; i += 7) app.store(2 * i * kPageSize, i);
  CHECK(handler.faults() == 0);
  app.store(kPageSize, 1);
  CHECK(handler.faults() == 1);
}
