// The pager: pages that stay: pinned and wired ones.
#include <vector>

#include "pager_fixture.hpp"

using namespace netvm;
using namespace netvm::test;

TEST_CASE("pager: pinned pages stay, pins nest, and too many are refused") {
  RealEnv env;
  Small small(TrapKind::checked, 64, 16, env);
  HostVm& vm = *small.vm;
  GrantingHandler handler(vm);
  Application app(vm);
  auto first = vm.pin({PageId{3}, 2}, true);
  REQUIRE(first.has_value());
  auto second = vm.pin({PageId{4}, 1}, false);
  frame_word(vm, at(3)).store(33);
  frame_word(vm, at(4)).store(44);
  for (std::uint64_t p = 8; p < 64; ++p) app.store(at(p), p);
  CHECK(vm.resident(PageId{3}));
  CHECK(vm.resident(PageId{4}));
  first->release();
  CHECK(vm.evict(64) > 0);
  CHECK_FALSE(vm.resident(PageId{3}));
  CHECK(vm.resident(PageId{4}));
  second->release();
  CHECK(vm.evict(64) == 1);
  CHECK(vm.resident_pages() == 0);
  CHECK(frame_pages_in_use(vm) == 0);
  CHECK(app.load(at(3)) == 33);  // pinned for writing, so saved
  CHECK(app.load(at(4)) == 44);
  CHECK(vm.pin({PageId{0}, 5}, false).status() == Status::exhausted);
  CHECK(vm.most_pins() == 4);
  CHECK(vm.pin({PageId{63}, 2}, false).status() == Status::range);
}

TEST_CASE("pager: try_pin takes what is there and what costs no I/O, and nothing else") {
  RealEnv env;
  Small small(TrapKind::checked, 64, 8, env);
  HostVm& vm = *small.vm;
  CHECK(vm.try_pin({PageId{0}, 4}, true).holds());  // zeros, and there is room
  frame_word(vm, at(0)).store(1);
  CHECK(vm.evict(8) == 4);
  CHECK_FALSE(vm.try_pin({PageId{0}, 1}, false).holds());  // would have to be read
  CHECK(vm.make_resident({PageId{8}, 8}) == Status::ok);
  CHECK_FALSE(vm.try_pin({PageId{20}, 1}, false).holds());  // would have to evict
  CHECK(vm.try_pin({PageId{8}, 8}, false).holds());
  CHECK(vm.evict(1) == 1);
  CHECK(vm.try_pin({PageId{20}, 1}, false).holds());
}

TEST_CASE("pager: try_pin brings back what the system still has in its page cache, if the file system can tell") {
  RealEnv env;
  std::string why;
  auto made = HostVm::create({.pages = 64, .budget_pages = 8}, env, &why);
  REQUIRE_MESSAGE(made.has_value(), why);
  HostVm& vm = *made.value();
  CHECK(ok(vm.make_resident({PageId{0}, 3})));
  { const FramePins pins = vm.try_pin({PageId{0}, 3}, true); }
  for (std::uint64_t page = 0; page < 3; ++page) frame_word(vm, at(page)).store(page + 1);
  CHECK(vm.evict(8) == 3);
  const FramePins pins = vm.try_pin({PageId{0}, 3}, false);
  if (!pins.holds()) {
    MESSAGE("this file system cannot tell whether a read would wait");
    return;
  }
  for (std::uint64_t page = 0; page < 3; ++page) CHECK(frame_word(vm, at(page)).load() == page + 1);
  CHECK(vm.resident_pages() == 3);
}

TEST_CASE("pager: where everything is pinned the budget gives way, and is kept again afterwards") {
  RealEnv env;
  Small small(TrapKind::checked, 64, 8, env);
  HostVm& vm = *small.vm;
  std::vector<FramePins> pins;
  for (std::uint64_t p = 0; p < 12; ++p) pins.push_back(vm.pin({PageId{p}, 1}, true).value());
  CHECK(vm.resident_pages() == 12);
  pins.clear();
  CHECK(vm.make_resident({PageId{20}, 1}) == Status::ok);
  CHECK(vm.resident_pages() <= 8);
}

TEST_CASE("pager: wired pages stay and are not counted") {
  RealEnv env;
  Small small(TrapKind::checked, 128, 8, env);
  HostVm& vm = *small.vm;
  vm.wire({PageId{0}, 32});
  CHECK(vm.make_resident({PageId{0}, 20}) == Status::ok);
  CHECK(vm.resident_pages() == 0);
  CHECK(vm.pin({PageId{0}, 32}, true).has_value());
  CHECK(vm.make_resident({PageId{30}, 60}) == Status::ok);
  CHECK(vm.resident_pages() <= 8);
  CHECK(vm.evict(100) == 8);
  for (std::uint64_t p = 0; p < 32; ++p) CHECK(vm.resident(PageId{p}));
}
