// Which traps there are and which one a setting means.
#include "runtime/trap.hpp"

#include "host_vm_fixture.hpp"

using namespace netvm;
using namespace netvm::test;

TEST_CASE("trap: a probe says what it found and on which kernel") {
  for (const TrapKind kind : {TrapKind::userfaultfd, TrapKind::mprotect, TrapKind::checked}) {
    const TrapProbe probe = probe_trap(kind);
    MESSAGE(std::string(probe.usable ? "usable: " : "not usable: "), probe.reason);
    CHECK(probe.reason.find(to_string(kind)) != std::string::npos);
    CHECK(probe_trap(kind).usable == probe.usable);  // leaves nothing behind
  }
  CHECK(probe_trap(TrapKind::checked).usable);
  CHECK(kernel_release().find('.') != std::string::npos);
}

TEST_CASE("trap: what a probe calls usable works") {
  RealEnv env;
  for (const TrapKind kind : usable_traps()) {
    auto vm = make_vm(kind, 4, env);
    GrantingHandler handler(*vm);
    Application(*vm).store(0, 1);
    CHECK(Application(*vm).load(0) == 1);
    CHECK(handler.faults() == 1);
  }
}

TEST_CASE("trap: automatic takes the first hardware trap, never the checked one") {
  const ResolvedTrap resolved = resolve_trap(TrapChoice::automatic);
  CHECK(!resolved.reason.empty());
  if (probe_trap(TrapKind::userfaultfd).usable) {
    CHECK(resolved.kind == TrapKind::userfaultfd);
  } else if (probe_trap(TrapKind::mprotect).usable) {
    CHECK(resolved.kind == TrapKind::mprotect);
    CHECK(resolved.reason.find("chosen because") != std::string::npos);
  } else {
    CHECK_FALSE(resolved.kind.has_value());
  }
}

TEST_CASE("trap: an explicit choice is kept, or refused naming what can be used") {
  const std::pair<TrapChoice, TrapKind> choices[] = {{TrapChoice::userfaultfd, TrapKind::userfaultfd},
                                                     {TrapChoice::mprotect, TrapKind::mprotect},
                                                     {TrapChoice::checked, TrapKind::checked}};
  for (const auto& [choice, kind] : choices) {
    const ResolvedTrap resolved = resolve_trap(choice);
    if (probe_trap(kind).usable) {
      CHECK(resolved.kind == kind);
    } else {
      CHECK_FALSE(resolved.kind.has_value());
      CHECK(resolved.reason.find(to_string(kind)) != std::string::npos);
      CHECK(resolved.reason.find("Usable here: ") != std::string::npos);
      CHECK(resolved.reason.find("checked") != std::string::npos);
    }
  }
}
