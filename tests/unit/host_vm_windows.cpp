// Windows of a host VM: pages that the application sees at another address, under every hardware trap.
#include <sys/mman.h>

#include <cstring>

#include "nic/held_memory.hpp"
#include "tests/unit/host_vm_fixture.hpp"

namespace netvm::test {
namespace {

/// Private memory of the process that a window may replace: what a program's data segment is.
std::uintptr_t private_pages(std::uint64_t count) {
  void* const at = ::mmap(nullptr, count * kPageSize, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  REQUIRE(at != MAP_FAILED);
  std::memset(at, 0x11, count * kPageSize);
  return reinterpret_cast<std::uintptr_t>(at);
}

volatile std::uint64_t& word_at(std::uintptr_t address) { return *reinterpret_cast<volatile std::uint64_t*>(address); }

TEST_CASE("a window shows its pages at its own address, faults there, and keeps the rights that were given") {
  RealEnv env;
  for (const TrapKind kind : usable_hardware_traps()) {
    CAPTURE(to_string(kind));
    auto vm = make_vm(kind, 32, env);
    GrantingHandler handler(*vm);
    const std::uintptr_t at = private_pages(4);
    std::string why;
    REQUIRE_MESSAGE(vm->add_window({PageId{8}, 4}, at, &why) == Status::ok, why);

    CHECK(word_at(at) == 0);  // what lay there is gone
    CHECK(handler.access(PageId{8}) == Access::read);
    word_at(at + 3 * kPageSize + 16) = 77;
    CHECK(handler.access(PageId{11}) == Access::write);
    CHECK(frame_word(*vm, 11 * kPageSize + 16).load() == 77);
    frame_word(*vm, 8 * kPageSize).store(5);
    CHECK(word_at(at) == 5);

    const std::uint64_t before = handler.faults();
    handler.set(PageId{8}, Access::none);
    CHECK(word_at(at) == 5);
    handler.set(PageId{8}, Access::read);
    word_at(at) = 6;
    CHECK(handler.faults() == before + 2);
    word_at(reinterpret_cast<std::uintptr_t>(vm->app_base()) + 12 * kPageSize) = 9;  // beyond the window: the main range
    CHECK(frame_word(*vm, 12 * kPageSize).load() == 9);
    vm.reset();
    ::munmap(reinterpret_cast<void*>(at), 4 * kPageSize);
  }
}

TEST_CASE("rights of a range that reaches into windows and out of them are set in every piece") {
  RealEnv env;
  for (const TrapKind kind : usable_hardware_traps()) {
    CAPTURE(to_string(kind));
    auto vm = make_vm(kind, 32, env);
    const std::uintptr_t first = private_pages(2);
    const std::uintptr_t second = private_pages(3);
    std::string why;
    REQUIRE(vm->add_window({PageId{20}, 3}, second, &why) == Status::ok);  // not in the order of pages
    REQUIRE(vm->add_window({PageId{4}, 2}, first, &why) == Status::ok);
    vm->set_access({PageId{2}, 24}, Access::none, Access::write);
    for (std::uint64_t page = 2; page < 26; ++page) *reinterpret_cast<std::uint64_t*>(vm->app_address(page * kPageSize + 8)) = page;
    for (std::uint64_t page = 2; page < 26; ++page) CHECK(frame_word(*vm, page * kPageSize + 8).load() == page);
    CHECK(word_at(first + kPageSize + 8) == 5);
    CHECK(word_at(second + 2 * kPageSize + 8) == 22);
    vm->set_access({PageId{2}, 24}, Access::write, Access::none);
    GrantingHandler handler(*vm);
    CHECK(word_at(first + 8) == 4);
    CHECK(word_at(second + 8) == 20);
    CHECK(word_at(reinterpret_cast<std::uintptr_t>(vm->app_address(25 * kPageSize + 8))) == 25);
    CHECK(handler.faults() == 3);  // one each: the rights were gone everywhere
  }
}

TEST_CASE("addresses of a window are known as its pages, and the pages' old place as nobody's") {
  RealEnv env;
  for (const TrapKind kind : usable_hardware_traps()) {
    CAPTURE(to_string(kind));
    auto vm = make_vm(kind, 32, env);
    GrantingHandler handler(*vm);
    const std::uintptr_t at = private_pages(2);
    std::string why;
    REQUIRE(vm->add_window({PageId{8}, 2}, at, &why) == Status::ok);
    PageId page{};
    REQUIRE(vm->page_of(at + kPageSize + 1, &page));
    CHECK(page == PageId{9});
    CHECK_FALSE(vm->page_of(at + 2 * kPageSize, &page));
    CHECK_FALSE(vm->page_of(reinterpret_cast<std::uintptr_t>(vm->app_base()) + 8 * kPageSize, &page));
    std::uint64_t offset = 0;
    REQUIRE(vm->offset_of(at + 5, &offset));
    CHECK(offset == 8 * kPageSize + 5);
    CHECK(reinterpret_cast<std::uintptr_t>(vm->app_address(offset)) == at + 5);
    CHECK(vm->app_address(7 * kPageSize) == vm->app_base() + 7 * kPageSize);
    if (NETVM_TSAN) continue;
    const ChildEnd end = run_child(
        [&] {  // a child has no views: this one makes its own
          auto own = HostVm::create({.pages = 16, .base = next_base(kind), .trap = kind}, env, &why);
          if (!own) return 1;
          void* const there = ::mmap(nullptr, kPageSize, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
          GrantingHandler granting(**own);
          if ((*own)->add_window({PageId{3}, 1}, reinterpret_cast<std::uintptr_t>(there), &why) != Status::ok) return 2;
          word_at(reinterpret_cast<std::uintptr_t>(there)) = 1;
          word_at(reinterpret_cast<std::uintptr_t>((*own)->app_base()) + 3 * kPageSize) = 1;
          return 3;
        },
        ChildSignals::inherited);
    CHECK_FALSE(end.exited_with(3));
    CHECK(end.output.find("not allocated shared memory") != std::string::npos);
  }
}

TEST_CASE("a window that cannot be is refused with a reason, and nothing is changed") {
  RealEnv env;
  for (const TrapKind kind : usable_traps()) {
    CAPTURE(to_string(kind));
    auto vm = make_vm(kind, 32, env);
    const std::uintptr_t at = private_pages(4);
    std::string why;
    if (kind == TrapKind::checked) {
      CHECK(vm->add_window({PageId{8}, 1}, at, &why) == Status::invalid);
      CHECK(why.find("checked") != std::string::npos);
      continue;
    }
    CHECK(vm->add_window({PageId{30}, 3}, at, &why) == Status::invalid);
    CHECK(vm->add_window({PageId{3}, 0}, at, &why) == Status::invalid);
    CHECK(vm->add_window({PageId{3}, 1}, at + 8, &why) == Status::invalid);
    CHECK(vm->add_window({PageId{3}, 1}, reinterpret_cast<std::uintptr_t>(vm->app_base()) + kPageSize, &why) == Status::invalid);
    CHECK(word_at(at) == 0x1111111111111111);
    REQUIRE(vm->add_window({PageId{3}, 2}, at, &why) == Status::ok);
    CHECK(vm->add_window({PageId{4}, 1}, at + 2 * kPageSize, &why) == Status::invalid);
    CHECK(vm->add_window({PageId{6}, 1}, at + kPageSize, &why) == Status::invalid);
    CHECK(why.find("overlaps") != std::string::npos);
    CHECK(word_at(at + 2 * kPageSize) == 0x1111111111111111);
    for (std::uint64_t i = 1; i < AppWindows::kMost; ++i) REQUIRE(vm->add_window({PageId{5 + i}, 1}, private_pages(1), &why) == Status::ok);
    CHECK(vm->add_window({PageId{30}, 1}, private_pages(1), &why) == Status::exhausted);
  }
}

TEST_CASE("a work request from a window's memory is kept resident, as from the rest of the application's") {
  RealEnv env;
  for (const TrapKind kind : usable_hardware_traps()) {
    CAPTURE(to_string(kind));
    std::string why;
    auto vm = HostVm::create({.pages = 256, .base = next_base(kind), .trap = kind, .budget_pages = 64}, env, &why);
    REQUIRE_MESSAGE(vm.has_value(), why);
    const std::uintptr_t at = private_pages(2);
    REQUIRE((*vm)->add_window({PageId{40}, 2}, at, &why) == Status::ok);
    const std::atomic<bool> ended{false};
    const nic::OwnMemory own(**vm, ended);
    const auto* const inside = reinterpret_cast<const std::byte*>(at + 100);
    CHECK(own.covers(inside));
    CHECK(own.offset_of(inside) == 40 * kPageSize + 100);
    CHECK_FALSE(own.covers(reinterpret_cast<const std::byte*>(at + 2 * kPageSize)));
  }
}

}  // namespace
}  // namespace netvm::test
