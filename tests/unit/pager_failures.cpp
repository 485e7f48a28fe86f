// The pager: a backing store that is full, or broken in places, loses nothing.
#include <string>

#include "pager_fixture.hpp"

using namespace netvm;
using namespace netvm::test;

TEST_CASE("pager: a full store loses nothing: pages stay, the one who needs room is told") {
  RealEnv env;
  Small small(TrapKind::checked, 64, 8, env);
  HostVm& vm = *small.vm;
  GrantingHandler handler(vm);
  Application app(vm);
  for (std::uint64_t p = 0; p < 8; ++p) app.store(at(p), p + 1);
  small.store->room = 0;
  CHECK(vm.make_resident({PageId{20}, 1}) == Status::fault_failed);
  CHECK(vm.pin({PageId{20}, 1}, true).status() == Status::fault_failed);
  CHECK(std::string(vm.failure().text).find("No space left") != std::string::npos);
  CHECK(std::string(vm.failure().text).find("the store of a test") != std::string::npos);
  CHECK(vm.resident_pages() == 8);
  for (std::uint64_t p = 0; p < 8; ++p) CHECK(app.load(at(p)) == p + 1);
  // Somebody makes room on the disk: it goes on.
  small.store->room = 100;
  for (std::uint64_t p = 8; p < 64; ++p) app.store(at(p), p + 1);
  for (std::uint64_t p = 0; p < 64; ++p) CHECK(app.load(at(p)) == p + 1);
}

TEST_CASE("pager: a full store still lets go of what it has already") {
  RealEnv env;
  Small small(TrapKind::checked, 64, 8, env);
  HostVm& vm = *small.vm;
  GrantingHandler handler(vm);
  Application app(vm);
  for (std::uint64_t p = 0; p < 16; ++p) app.store(at(p), p + 1);
  CHECK(vm.evict(8) == 8);
  small.store->room = 0;
  for (int round = 0; round < 3; ++round) {
    for (std::uint64_t p = 0; p < 16; ++p) CHECK(app.load(at(p)) == p + 1);
  }
}

TEST_CASE("pager: one page that cannot be written stays, the others go") {
  RealEnv env;
  Small small(TrapKind::checked, 64, 8, env);
  HostVm& vm = *small.vm;
  GrantingHandler handler(vm);
  Application app(vm);
  small.store->bad_write = 3;
  for (std::uint64_t p = 0; p < 3; ++p) app.store(at(p), p + 1);
  app.store(at(3), 4);
  for (std::uint64_t p = 4; p < 8; ++p) app.store(at(p), p + 1);
  CHECK(vm.evict(8) >= 3);
  CHECK(vm.resident(PageId{3}));
  CHECK(app.load(at(3)) == 4);
  small.store->bad_write = UINT64_MAX;
  CHECK(vm.evict(8) > 0);
  for (std::uint64_t p = 0; p < 8; ++p) CHECK(app.load(at(p)) == p + 1);
}

TEST_CASE("pager: a page that cannot be read fails for who asks, and comes back when it can") {
  RealEnv env;
  Small small(TrapKind::checked, 64, 8, env);
  HostVm& vm = *small.vm;
  GrantingHandler handler(vm);
  Application app(vm);
  for (std::uint64_t p = 0; p < 8; ++p) app.store(at(p), p + 1);
  CHECK(vm.evict(8) == 8);
  small.store->bad_read = 5;
  CHECK(vm.make_resident({PageId{4}, 4}) == Status::fault_failed);
  CHECK(vm.pin({PageId{5}, 1}, false).status() == Status::fault_failed);
  CHECK(std::string(vm.failure().text).find("reading page 5 from the store of a test at offset 20480") != std::string::npos);
  CHECK(frame_pages_in_use(vm) == vm.resident_pages());
  CHECK(app.load(at(4)) == 5);
  small.store->bad_read = UINT64_MAX;
  CHECK(app.load(at(5)) == 6);
}

TEST_CASE("pager: an access to a page that cannot be brought back ends the process with a message") {
  RealEnv env;
  for (const TrapKind kind : usable_traps()) {
    CAPTURE(to_string(kind));
    const ChildEnd end = run_child([&] {
      Small small(kind, 64, 8, env);
      GrantingHandler handler(*small.vm);
      Application app(*small.vm);
      app.store(at(2), 3);
      (void)small.vm->evict(8);
      small.store->bad_read = 2;
      return static_cast<int>(app.load(at(2)));
    });
    CHECK(end.exited_with(1));
    CHECK(end.output.find(
              "page 2 cannot be brought in (E_FAULT_FAILED): reading page 2 from the store of a test at offset 8192: Input/output "
              "error") != std::string::npos);
  }
}

TEST_CASE("pager: an access that finds no room on the disk ends the process with what is missing and what to do") {
  RealEnv env;
  for (const TrapKind kind : usable_traps()) {
    CAPTURE(to_string(kind));
    const ChildEnd end = run_child([&] {
      Small small(kind, 64, 8, env);
      GrantingHandler handler(*small.vm);
      Application app(*small.vm);
      small.store->room = 4;
      for (std::uint64_t p = 0; p < 64; ++p) app.store(at(p), p + 1);
      return 0;
    });
    CHECK(end.exited_with(1));
    for (const char* words : {"to the store of a test at offset", "No space left on device (it holds 16384 bytes; this would be", "more)",
                              "NETVM_BACKING", "NETVM_MEMORY"}) {
      CAPTURE(words);
      CHECK(end.output.find(words) != std::string::npos);
    }
  }
}

TEST_CASE("pager: other memory that is charged leaves that much less for frames, but never less than half") {
  RealEnv env;
  Small small(TrapKind::checked, 64, 32, env);
  HostVm& vm = *small.vm;
  GrantingHandler handler(vm);
  Application app(vm);
  const auto use_all = [&] {
    for (std::uint64_t p = 0; p < 64; ++p) app.store(at(p), p + 1);
    return vm.resident_pages();
  };
  const auto is_nearly = [](std::uint64_t pages, std::uint64_t most) {
    return pages <= most && pages + 8 > most;
  };  // they go some at a time
  CHECK(is_nearly(use_all(), 32));
  vm.charge(10);
  CHECK(is_nearly(use_all(), 22));
  CHECK(vm.try_pin({PageId{0}, 1}, false).holds() == vm.resident(PageId{0}));  // where there is no room, nothing comes without waiting
  vm.charge(100);
  CHECK(is_nearly(use_all(), 16));
  vm.charge(-110);
  CHECK(is_nearly(use_all(), 32));
  for (std::uint64_t p = 0; p < 64; ++p) CHECK(app.load(at(p)) == p + 1);
}
