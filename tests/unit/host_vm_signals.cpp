// What becomes of accesses that are nobody's, of forked children, and of the signal dispositions from before.
#include <setjmp.h>
#include <sys/mman.h>

#include <cstdlib>
#include <cstring>
#include <fstream>

#include "host_vm_fixture.hpp"

using namespace netvm;
using namespace netvm::test;

namespace {

/// Knows the first four pages; all others are wild.
struct FourPagesHandler final : FaultHandler {
  explicit FourPagesHandler(HostVm& host_vm) : vm(&host_vm) { host_vm.set_fault_handler(this); }
  bool on_fault(PageId page, bool) noexcept override {
    if (page.value >= known) return false;
    vm->set_access({page, 1}, Access::none, Access::write);
    return true;
  }
  HostVm* vm;
  std::atomic<std::uint64_t> known{
      4};  // atomic: to the compiler an access that faults calls nobody, so it would move a plain store past it
};

std::unique_ptr<HostVm> make_in_child(TrapKind kind, std::uint64_t pages, Env& env, std::uintptr_t base) {
  std::string why;
  auto vm = HostVm::create({.pages = pages, .base = base, .trap = kind}, env, &why);
  if (!vm) ::_exit(77);
  return std::move(vm).value();
}

void touch(std::byte* at, bool write) {
  auto* word = reinterpret_cast<volatile std::uint64_t*>(at);
  if (write) {
    *word = 1;
  } else {
    (void)*word;
  }
}

std::string hex(const void* address) {
  char text[32];
  std::snprintf(text, sizeof text, "0x%llx", static_cast<unsigned long long>(reinterpret_cast<std::uintptr_t>(address)));
  return text;
}

// What a handler of the program's own saw.
volatile std::uintptr_t seen_address = 0;
volatile int seen_code = 0;
volatile int seen_signal = 0;
sigjmp_buf recovery;

void exit_after_report(int signal, siginfo_t* info, void*) {
  seen_signal = signal;
  seen_address = reinterpret_cast<std::uintptr_t>(info->si_addr);
  ::_exit(info->si_code == SEGV_ACCERR && signal == SIGSEGV && seen_address == seen_code + std::uintptr_t{0x2400'0000'0000} ? 42 : 43);
}

void recover(int signal, siginfo_t* info, void*) {
  seen_signal = signal;
  seen_code = info->si_code;
  seen_address = reinterpret_cast<std::uintptr_t>(info->si_addr);
  ::siglongjmp(recovery, 1);
}

void install(void (*handler)(int, siginfo_t*, void*)) {
  struct sigaction action {};
  action.sa_sigaction = handler;
  action.sa_flags = SA_SIGINFO;
  ::sigaction(SIGSEGV, &action, nullptr);
}

}  // namespace

TEST_CASE("host_vm: a wild pointer into the range ends in SIGSEGV and one line that says so") {
  for (const TrapKind kind : usable_hardware_traps()) {
    for (const bool write : {false, true}) {
      CAPTURE(to_string(kind));
      const std::uintptr_t base = next_base(kind);
      auto* wild = reinterpret_cast<std::byte*>(base + 9 * kPageSize + 40);
      const ChildEnd end = run_child([&] {
        RealEnv env;
        auto vm = make_in_child(kind, 16, env, base);
        FourPagesHandler handler(*vm);
        touch(vm->app_base(), write);  // an ordinary fault works
        touch(wild, write);
        return 0;
      });
      CAPTURE(end.output);
      CHECK(end.killed_by(SIGSEGV));
      const std::string line = "wild access to " + hex(wild) + (write ? " (write)" : " (read)") + ": not allocated shared memory\n";
      CHECK(end.output.find(line) != std::string::npos);
      CHECK(end.output.find("netvm") == end.output.rfind("netvm"));  // once
    }
  }
}

TEST_CASE("host_vm: a wild pointer outside the range, and a null pointer, end in SIGSEGV without a word") {
  for (const TrapKind kind : usable_hardware_traps()) {
    CAPTURE(to_string(kind));
    const std::uintptr_t base = next_base(kind);
    for (const std::uintptr_t wild : {std::uintptr_t{8}, base + 16 * kPageSize, base - kPageSize}) {
      const ChildEnd end = run_child([&] {
        RealEnv env;
        auto vm = make_in_child(kind, 16, env, base);
        FourPagesHandler handler(*vm);
        touch(reinterpret_cast<std::byte*>(wild), true);
        return 0;
      });
      CHECK(end.killed_by(SIGSEGV));
      CHECK(end.output.empty());
    }
  }
}

TEST_CASE("host_vm: a handler that was there before sees a wild access as SIGSEGV with its address") {
  for (const TrapKind kind : usable_hardware_traps()) {
    for (const bool write : {false, true}) {
      CAPTURE(to_string(kind));
      const ChildEnd end = run_child([&] {
        install(&exit_after_report);
        RealEnv env;
        auto vm = make_in_child(kind, 16, env, 0x2400'0000'0000);
        FourPagesHandler handler(*vm);
        touch(vm->app_base() + kPageSize, write);
        seen_code = static_cast<int>(7 * kPageSize + 24);  // where
        touch(vm->app_base() + seen_code, write);
        return 0;
      });
      CAPTURE(end.output);
      CHECK(end.exited_with(42));
      CHECK(end.output.find("wild access to 0x240000007018") != std::string::npos);
    }
  }
}

TEST_CASE("host_vm: a program that recovers from a wild access can use the page once it is allocated") {
  for (const TrapKind kind : usable_hardware_traps()) {
    CAPTURE(to_string(kind));
    const std::uintptr_t base = next_base(kind);
    const ChildEnd end = run_child([&] {
      install(&recover);
      RealEnv env;
      auto vm = make_in_child(kind, 16, env, base);
      FourPagesHandler handler(*vm);
      for (int round = 0; round < 3; ++round) {
        if (::sigsetjmp(recovery, 1) == 0) {
          touch(vm->app_base() + 8 * kPageSize, true);
          return 1;
        }
        if (seen_signal != SIGSEGV || seen_address != base + 8 * kPageSize || seen_code != SEGV_ACCERR) return 2;
      }
      handler.known = 16;
      touch(vm->app_base() + 8 * kPageSize, true);
      return *reinterpret_cast<volatile std::uint64_t*>(vm->frame(PageId{8})) == 1 ? 42 : 3;
    });
    CAPTURE(end.status);
    CHECK(end.exited_with(42));
  }
}

TEST_CASE("host_vm: signals that somebody sends do what they did before") {
  for (const TrapKind kind : usable_hardware_traps()) {
    CAPTURE(to_string(kind));
    const std::uintptr_t base = next_base(kind);
    for (const int signal : {SIGSEGV, SIGBUS}) {
      const ChildEnd end = run_child([&] {
        RealEnv env;
        auto vm = make_in_child(kind, 16, env, base);
        ::kill(::getpid(), signal);
        ::sleep(1);
        return 0;
      });
      CHECK(end.killed_by(signal));
      const ChildEnd ignoring = run_child([&] {
        ::signal(signal, SIG_IGN);
        RealEnv env;
        auto vm = make_in_child(kind, 16, env, base);
        ::kill(::getpid(), signal);
        return 42;
      });
      CHECK(ignoring.exited_with(42));
    }
  }
}

TEST_CASE("host_vm: an ordinary SIGBUS stays one") {
  for (const TrapKind kind : usable_hardware_traps()) {
    CAPTURE(to_string(kind));
    const std::uintptr_t base = next_base(kind);
    const ChildEnd end = run_child([&] {
      RealEnv env;
      auto vm = make_in_child(kind, 16, env, base);
      const int fd = ::memfd_create("empty", MFD_CLOEXEC);
      void* beyond = ::mmap(nullptr, kPageSize, PROT_READ, MAP_SHARED, fd, 0);
      touch(static_cast<std::byte*>(beyond), false);
      return 0;
    });
    CHECK(end.killed_by(SIGBUS));
  }
}

TEST_CASE("host_vm: the dispositions from before are back when the last host VM is gone") {
  for (const TrapKind kind : usable_hardware_traps()) {
    CAPTURE(to_string(kind));
    const std::uintptr_t base = next_base(kind);
    const ChildEnd end = run_child([&] {
      install(&recover);
      ::signal(SIGBUS, SIG_IGN);
      RealEnv env;
      struct sigaction now {};
      {
        auto first = make_in_child(kind, 16, env, base);
        {
          auto second = make_in_child(kind, 16, env, base + (std::uintptr_t{1} << 30));
          ::sigaction(SIGSEGV, nullptr, &now);
          if (now.sa_sigaction == &recover) return 1;
        }
        ::sigaction(SIGSEGV, nullptr, &now);
        if (now.sa_sigaction == &recover) return 2;  // the first one still needs ours
      }
      ::sigaction(SIGSEGV, nullptr, &now);
      if (now.sa_sigaction != &recover) return 3;
      ::sigaction(SIGBUS, nullptr, &now);
      if (now.sa_handler != SIG_IGN) return 4;
      // And somebody's who came later is left alone.
      auto third = make_in_child(kind, 16, env, base);
      install(&exit_after_report);
      third.reset();
      ::sigaction(SIGSEGV, nullptr, &now);
      return now.sa_sigaction == &exit_after_report ? 42 : 5;
    });
    CAPTURE(end.status);
    CHECK(end.exited_with(42));
  }
}

TEST_CASE("host_vm: a forked child has no shared memory and is told so") {
  RealEnv env;
  for (const TrapKind kind : usable_hardware_traps()) {
    CAPTURE(to_string(kind));
    // The default action lies under our handlers, not the test framework's handler.
    auto* const before = ::signal(SIGSEGV, SIG_DFL);
    auto vm = make_vm(kind, 16, env);
    GrantingHandler handler(*vm);
    Application(*vm).store(0, 5);
    const ChildEnd end = run_child([&] { return Application(*vm).load(0) == 5 ? 0 : 1; }, ChildSignals::inherited);
    CHECK(end.killed_by(SIGSEGV));
    const std::string line = "access to " + hex(vm->app_base()) + " (read): shared memory does not pass to processes made by fork()\n";
    CHECK(end.output.find(line) != std::string::npos);
    const ChildEnd own = run_child(
        [&] {  // and may have a host VM of its own, even at the same place
          auto again = make_in_child(kind, 16, env, reinterpret_cast<std::uintptr_t>(vm->app_base()));
          GrantingHandler own_handler(*again);
          return Application(*again).load(0) == 0 && own_handler.faults() == 1 ? 42 : 1;
        },
        ChildSignals::inherited);
    CHECK(own.exited_with(42));
    CHECK(Application(*vm).load(0) == 5);
    vm.reset();
    ::signal(SIGSEGV, before);
  }
}

TEST_CASE("host_vm: the limit on memory mappings under mprotect ends with advice") {
  if (!probe_trap(TrapKind::mprotect).usable) return;
  const std::uintptr_t base = next_base(TrapKind::mprotect);
  const ChildEnd end = run_child([&] {
    RealEnv env;
    auto vm = make_in_child(TrapKind::mprotect, 64, env, base);
    // Uses up the mappings without memory: alternating protections of a range that nobody touches.
    constexpr std::size_t kBytes = std::size_t{64} << 30;
    auto* filler = static_cast<std::byte*>(::mmap(nullptr, kBytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
    if (filler == MAP_FAILED) return 1;
    for (std::size_t at = 0; at < kBytes; at += 2 * kPageSize) {
      if (::mprotect(filler + at, kPageSize, PROT_READ) != 0) break;
    }
    for (std::uint64_t p = 0; p < 64; p += 2) vm->set_access({PageId{p}, 1}, Access::none, Access::read);
    return 0;
  });
  CAPTURE(end.output);
  CHECK(end.killed_by(SIGABRT));
  std::string limit;
  std::ifstream("/proc/sys/vm/max_map_count") >> limit;
  CHECK(end.output.find("vm.max_map_count") != std::string::npos);
  CHECK(end.output.find(limit) != std::string::npos);
  CHECK(end.output.find("NETVM_TRAP=userfaultfd") != std::string::npos);
}

#if !NETVM_TSAN
TEST_CASE("host_vm: a raw pointer under the checked trap ends in SIGSEGV and one line that says why") {
  const std::uintptr_t base = next_base(TrapKind::mprotect);
  const ChildEnd end = run_child([&] {
    RealEnv env;
    auto vm = make_in_child(TrapKind::checked, 16, env, base);
    FourPagesHandler handler(*vm);
    const std::uint64_t value = 1;
    if (!vm->checked_store(0, &value, sizeof value)) return 1;
    touch(vm->app_base(), false);
    return 0;
  });
  CHECK(end.killed_by(SIGSEGV));
  CHECK(end.output.find(hex(reinterpret_cast<void*>(base)) + " (read): NETVM_TRAP=checked does not serve raw pointers\n") !=
        std::string::npos);
}

TEST_CASE("host_vm: rights are checked, a caller who is wrong about them is stopped") {
  for (const TrapKind kind : usable_traps()) {
    CAPTURE(to_string(kind));
    const std::uintptr_t base = next_base(kind);
    const ChildEnd raising = run_child([&] {
      RealEnv env;
      auto vm = make_in_child(kind, 16, env, base);
      vm->set_access({PageId{3}, 1}, Access::none, Access::read);
      vm->set_access({PageId{2}, 4}, Access::none, Access::write);
      return 0;
    });
    CHECK(raising.killed_by(SIGABRT));
    CHECK(raising.output.find("access of page 3 goes from 0 to 2, but the page has 1") != std::string::npos);
    const ChildEnd lowering = run_child([&] {
      RealEnv env;
      auto vm = make_in_child(kind, 16, env, base);
      vm->set_access({PageId{3}, 1}, Access::read, Access::none);
      return 0;
    });
    CHECK(lowering.killed_by(SIGABRT));
    const ChildEnd outside = run_child([&] {
      RealEnv env;
      auto vm = make_in_child(kind, 16, env, base);
      vm->set_access({PageId{15}, 2}, Access::none, Access::read);
      return 0;
    });
    CHECK(outside.killed_by(SIGABRT));
    const ChildEnd discarding = run_child([&] {
      RealEnv env;
      auto vm = make_in_child(kind, 16, env, base);
      vm->set_access({PageId{3}, 1}, Access::none, Access::read);
      vm->discard({PageId{0}, 16});
      return 0;
    });
    CHECK(discarding.killed_by(SIGABRT));
  }
}
#endif
