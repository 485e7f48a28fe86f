// What the tests of the host VM share: the traps this machine has, an application's accesses by either kind, children that die.
#pragma once

#include <doctest/doctest.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "runtime/host_vm.hpp"
#include "runtime/real_env.hpp"
#include "runtime/sanitizers.hpp"
#include "runtime/trap.hpp"

namespace netvm::test {

inline std::vector<TrapKind> usable_traps() {
  std::vector<TrapKind> kinds;
  for (const TrapKind kind : {TrapKind::userfaultfd, TrapKind::mprotect, TrapKind::checked}) {
    if (probe_trap(kind).usable) kinds.push_back(kind);
  }
  return kinds;
}

inline std::vector<TrapKind> usable_hardware_traps() {
  std::vector<TrapKind> kinds = usable_traps();
  std::erase(kinds, TrapKind::checked);
  return kinds;
}

/// An address range that no other host VM of this process has; 0 (no application view) for the checked trap.
inline std::uintptr_t next_base(TrapKind kind) {
  static std::atomic<std::uintptr_t> next{0x2100'0000'0000};
  return kind == TrapKind::checked ? 0 : next.fetch_add(std::uintptr_t{128} << 30);
}

inline std::unique_ptr<HostVm> make_vm(TrapKind kind, std::uint64_t pages, Env& env) {
  std::string why;
  auto vm = HostVm::create({.pages = pages, .base = next_base(kind), .trap = kind}, env, &why);
  REQUIRE_MESSAGE(vm.has_value(), why);
  return std::move(vm).value();
}

/// Loads and stores of an application, through pointers or checked accessors as the trap demands.
class Application {
 public:
  explicit Application(HostVm& vm) : vm_(&vm) {}

  [[nodiscard]] std::uint64_t load(std::uint64_t offset) const {
    if (vm_->trap() != TrapKind::checked) return *word(offset);
    std::uint64_t value = 0;
    if (!vm_->checked_load(offset, &value, sizeof value)) FAIL("load of a wild address");
    return value;
  }
  void store(std::uint64_t offset, std::uint64_t value) const {
    if (vm_->trap() != TrapKind::checked) {
      *word(offset) = value;
    } else if (!vm_->checked_store(offset, &value, sizeof value)) {
      FAIL("store to a wild address");
    }
  }

 private:
  [[nodiscard]] volatile std::uint64_t* word(std::uint64_t offset) const {
    return reinterpret_cast<volatile std::uint64_t*>(vm_->app_base() + offset);
  }
  HostVm* vm_;
};

/// The frame's word, as protocols and the NIC see it.
inline std::atomic_ref<std::uint64_t> frame_word(HostVm& vm, std::uint64_t offset) {
  return std::atomic_ref<std::uint64_t>(*reinterpret_cast<std::uint64_t*>(vm.frame_base() + offset));
}

/// Grants what is asked for, page by page, and remembers what it was asked. Each page's changes are serialised by one mutex.
class GrantingHandler final : public FaultHandler {
 public:
  explicit GrantingHandler(HostVm& vm) : vm_(&vm), access_(vm.pages(), Access::none), locks_(vm.pages()) { vm.set_fault_handler(this); }

  bool on_fault(PageId page, bool write) noexcept override {
    faults_.fetch_add(1);
    set(page, write ? Access::write : Access::read, /*lower=*/false);
    return true;
  }
  /// Gives the page exactly this right, or with lower == false at least this right.
  void set(PageId page, Access to, bool lower = true) {
    const std::lock_guard lock(locks_[page.value]);
    Access& have = access_[page.value];
    if (have == to || (have > to && !lower)) return;
    vm_->set_access({page, 1}, have, to);
    have = to;
  }
  [[nodiscard]] Access access(PageId page) {
    const std::lock_guard lock(locks_[page.value]);
    return access_[page.value];
  }
  [[nodiscard]] std::uint64_t faults() const { return faults_.load(); }

 private:
  HostVm* vm_;
  std::vector<Access> access_;
  std::vector<std::mutex> locks_;
  std::atomic<std::uint64_t> faults_{0};
};

/// How a child process ended, and what it wrote to stderr.
struct ChildEnd {
  int status = 0;
  std::string output;
  [[nodiscard]] bool killed_by(int signal) const { return WIFSIGNALED(status) && WTERMSIG(status) == signal; }
  [[nodiscard]] bool exited_with(int code) const { return WIFEXITED(status) && WEXITSTATUS(status) == code; }
};

enum class ChildSignals { by_default, inherited };

/// Runs the body in a forked child; the child's exit code is what the body returns.
template <class Body>
ChildEnd run_child(Body body, ChildSignals signals = ChildSignals::by_default) {
  int ends[2];
  REQUIRE(::pipe2(ends, O_CLOEXEC) == 0);
  const pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    ::alarm(10);  // a child that hangs dies by itself
    if (signals == ChildSignals::by_default) {
      for (const int signal : {SIGSEGV, SIGBUS, SIGABRT}) ::signal(signal, SIG_DFL);
    }
    ::dup2(ends[1], STDERR_FILENO);
    // An inherited handler of the test's own would report the crash that is wanted as one of this run.
    const int nowhere = ::open("/dev/null", O_WRONLY | O_CLOEXEC);
    if (signals == ChildSignals::inherited) ::dup2(nowhere, STDOUT_FILENO);
    ::_exit(body());
  }
  ::close(ends[1]);
  ChildEnd end;
  char buffer[4096];
  for (ssize_t got = 0; (got = ::read(ends[0], buffer, sizeof buffer)) > 0;) end.output.append(buffer, static_cast<std::size_t>(got));
  ::close(ends[0]);
  REQUIRE(::waitpid(child, &end.status, 0) == child);
  return end;
}

}  // namespace netvm::test
