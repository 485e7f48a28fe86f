// The checked trap: accessors against set_access() under real threads (run it under ThreadSanitizer) and in the simulator.
#include <array>
#include <cstring>
#include <random>
#include <thread>

#include "host_vm_fixture.hpp"
#include "runtime/access_table.hpp"
#include "runtime/simulator.hpp"

using namespace netvm;
using namespace netvm::test;

TEST_CASE("trap_checked: accesses of any size and place read what was written") {
  RealEnv env;
  auto vm = make_vm(TrapKind::checked, 4, env);
  GrantingHandler handler(*vm);
  std::vector<unsigned char> model(vm->bytes(), 0);
  std::minstd_rand random(7);
  for (int step = 0; step < 20'000; ++step) {
    const std::size_t bytes = random() % 4 == 0 ? random() % 9000 : std::size_t{1} << (random() % 4);
    if (bytes > vm->bytes()) continue;
    const std::uint64_t offset = random() % (vm->bytes() - bytes + 1);
    std::array<unsigned char, 9000> buffer{};
    if (random() % 2 == 0) {
      for (std::size_t i = 0; i < bytes; ++i) buffer[i] = model[offset + i] = static_cast<unsigned char>(random());
      REQUIRE(vm->checked_store(offset, buffer.data(), bytes));
    } else {
      REQUIRE(vm->checked_load(offset, buffer.data(), bytes));
      REQUIRE(std::memcmp(buffer.data(), model.data() + offset, bytes) == 0);
    }
    if (step % 50 == 0) handler.set(PageId{random() % 4}, Access::none);
  }
}

TEST_CASE("trap_checked: an access outside the range or to nobody's page is refused") {
  RealEnv env;
  auto vm = make_vm(TrapKind::checked, 4, env);
  std::uint64_t value = 3;
  CHECK_FALSE(vm->checked_load(0, &value, 8));  // nobody answers for it
  struct Refusing final : FaultHandler {
    bool on_fault(PageId page, bool write) noexcept override {
      last = {page, write};
      return false;
    }
    std::pair<PageId, bool> last;
  } handler;
  vm->set_fault_handler(&handler);
  CHECK_FALSE(vm->checked_store(2 * kPageSize + 16, &value, 8));
  CHECK(handler.last == std::pair{PageId{2}, true});
  CHECK_FALSE(vm->checked_load(4 * kPageSize - 4, &value, 8));
  CHECK_FALSE(vm->checked_load(4 * kPageSize, &value, 1));
  CHECK_FALSE(vm->checked_load(~std::uint64_t{0}, &value, 8));
  CHECK(vm->checked_load(4 * kPageSize, &value, 0));
  CHECK(value == 3);
}

// The rights are what orders plain accesses here: whoever lowers them may read the frame as ordinary memory, and ThreadSanitizer agrees.
TEST_CASE("trap_checked: lowering a right orders everything done under it before what follows") {
  RealEnv env({.crowded = true});
  auto vm = make_vm(TrapKind::checked, 2, env);
  struct PageLockHandler final : FaultHandler {
    explicit PageLockHandler(HostVm& host_vm) : vm(&host_vm) { host_vm.set_fault_handler(this); }
    bool on_fault(PageId page, bool) noexcept override {
      const std::lock_guard guard(lock);
      if (access != Access::write) vm->set_access({page, 1}, access, Access::write);
      access = Access::write;
      return true;
    }
    HostVm* vm;
    std::mutex lock;
    Access access = Access::none;
  } handler(*vm);
  constexpr std::size_t kThreads = 3;
  using Block = std::array<std::uint64_t, 6>;  // no single access: plain memory to everybody
  std::atomic<bool> stop{false};
  std::vector<std::thread> writers;
  for (std::size_t t = 0; t < kThreads; ++t) {
    writers.emplace_back([&, t] {
      Block block{};
      for (std::uint64_t n = 1; !stop.load(); ++n) {
        block.fill(n);
        if (!vm->checked_store(t * 64, block.data(), sizeof block)) return;
      }
    });
  }
  for (int round = 0; round < 300; ++round) {
    {
      const std::lock_guard guard(handler.lock);
      const Access lower = round % 2 == 0 ? Access::read : Access::none;
      if (handler.access > lower) {
        vm->set_access({PageId{0}, 1}, handler.access, lower);
        handler.access = lower;
      }
      for (std::size_t t = 0; t < kThreads; ++t) {
        Block block;
        std::memcpy(block.data(), vm->frame_base() + t * 64, sizeof block);
        for (const std::uint64_t value : block) REQUIRE(value == block[0]);  // no access was cut in two
      }
    }
    std::this_thread::yield();
  }
  stop = true;
  for (std::thread& writer : writers) writer.join();
}

TEST_CASE("access_table: lowering waits for those inside and lets nobody in meanwhile") {
  RealEnv env({.crowded = true});
  AccessTable table(4);
  const PageRange page{PageId{1}, 1};
  table.raise(page, Access::none, Access::write);
  REQUIRE(table.enter(PageId{1}, Access::write, env) == Access::write);
  std::atomic<bool> lowered{false};
  std::thread revoker([&] {
    table.lower(page, Access::write, Access::none, env);
    lowered = true;
  });
  while (table.access(PageId{1}) != Access::none) std::this_thread::yield();
  std::thread late([&] { CHECK(table.enter(PageId{1}, Access::read, env) == Access::none); });  // waits, then is refused
  std::this_thread::sleep_for(std::chrono::milliseconds(5));
  CHECK_FALSE(lowered.load());
  table.leave(PageId{1});
  revoker.join();
  late.join();
  CHECK(lowered.load());
  CHECK(table.enter(PageId{1}, Access::read, env) == Access::none);
}

TEST_CASE("trap_checked: in the simulator faults switch fibers and increments under a page right are not lost") {
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    CAPTURE(seed);
    Simulator simulator({.seed = seed});
    Env& env = simulator.env(NodeId{0});
    auto vm = make_vm(TrapKind::checked, 8, env);
    // Takes its time, switching fibers, with a page lock as the DSM has.
    struct SlowHandler final : FaultHandler {
      SlowHandler(HostVm& host_vm, Env& e) : vm(&host_vm), env(&e), lock(e) { host_vm.set_fault_handler(this); }
      bool on_fault(PageId page, bool write) noexcept override {
        lock.lock();
        for (int i = 0; i < 3; ++i) env->relax();
        Access& have = access[page.value];
        const Access want = write ? Access::write : Access::read;
        if (have < want) {
          vm->set_access({page, 1}, have, want);
          have = want;
        }
        lock.unlock();
        return true;
      }
      void revoke(PageId page, Access to) {
        lock.lock();
        Access& have = access[page.value];
        if (have > to) {
          vm->set_access({page, 1}, have, to);
          have = to;
        }
        lock.unlock();
      }
      HostVm* vm;
      Env* env;
      EnvMutex lock;
      std::array<Access, 8> access{};
    } handler(*vm, env);
    for (std::uint64_t f = 0; f < 4; ++f) {
      simulator.start(NodeId{0}, "application", [&, f] {
        for (int step = 0; step < 200; ++step) {
          const std::uint64_t page = env.random() % 8;
          std::uint64_t value = 0;
          const std::uint64_t at = page * kPageSize + f * 8;
          if (!vm->checked_load(at, &value, 8)) return;
          ++value;
          if (!vm->checked_store(at, &value, 8)) return;
          if (step % 5 == 0) handler.revoke(PageId{env.random() % 8}, env.random() % 2 == 0 ? Access::none : Access::read);
        }
      });
    }
    const Simulator::Report report = simulator.run();
    CHECK_MESSAGE(report.end == Simulator::End::all_done, report.text);
    for (std::uint64_t f = 0; f < 4; ++f) {
      std::uint64_t sum = 0;
      for (std::uint64_t p = 0; p < 8; ++p) sum += frame_word(*vm, p * kPageSize + f * 8).load();
      CHECK(sum == 200);
    }
  }
}
