// HostVm: configuration, views, residency, discarding. On every trap that this machine has.
#include "runtime/host_vm.hpp"

#include <sys/mman.h>
#include <sys/stat.h>

#include <cstring>

#include "host_vm_fixture.hpp"

using namespace netvm;
using namespace netvm::test;

namespace {

std::uint64_t frame_bytes_in_use(const HostVm& vm) {
  struct stat info {};
  REQUIRE(::fstat(vm.frames_fd(), &info) == 0);
  return static_cast<std::uint64_t>(info.st_blocks) * 512;
}

/// Keeps the set of mapped pages, and that no page is mapped or unmapped twice.
class RecordingListener final : public ResidencyListener {
 public:
  RecordingListener(HostVm& vm, std::uint64_t pages) : vm_(&vm), mapped_(pages, false) { vm.set_residency_listener(this); }
  void on_map(PageRange pages) noexcept override {
    ++calls;
    for (std::uint64_t p = pages.first.value; p < pages.end(); ++p) {
      right = right && !mapped_[p];
      vm_->frame(PageId{p})[0] = std::byte{1};  // the frame is there already
      mapped_[p] = true;
    }
  }
  void on_unmap(PageRange pages) noexcept override {
    ++calls;
    for (std::uint64_t p = pages.first.value; p < pages.end(); ++p) {
      right = right && mapped_[p] && vm_->frame(PageId{p})[0] == std::byte{1};  // and is still there
      mapped_[p] = false;
    }
  }
  [[nodiscard]] bool mapped(std::uint64_t page) const { return mapped_[page]; }

  bool right = true;
  int calls = 0;

 private:
  HostVm* vm_;
  std::vector<bool> mapped_;
};

}  // namespace

TEST_CASE("host_vm: a wrong configuration is refused with a sentence") {
  RealEnv env;
  std::string why;
  CHECK(HostVm::create({.pages = 0}, env, &why).status() == Status::invalid);
  CHECK(why.find("0 pages") != std::string::npos);
  CHECK(HostVm::create({.pages = std::uint64_t{1} << 60}, env, &why).status() == Status::invalid);
  CHECK(HostVm::create({.pages = 1, .base = 123}, env, &why).status() == Status::invalid);
  CHECK(why.find("0x7b") != std::string::npos);
  CHECK(HostVm::create({.pages = 1, .base = 0, .trap = TrapKind::mprotect}, env, &why).status() == Status::invalid);
  CHECK(why.find("mprotect") != std::string::npos);
}

TEST_CASE("host_vm: a taken address range is refused and the error names who lies there") {
  RealEnv env;
  for (const TrapKind kind : usable_hardware_traps()) {
    CAPTURE(to_string(kind));
    auto first = make_vm(kind, 16, env);
    std::string why;
    const auto base = reinterpret_cast<std::uintptr_t>(first->app_base());
    auto second = HostVm::create({.pages = 16, .base = base + 8 * kPageSize, .trap = kind}, env, &why);
    CHECK(second.status() == Status::exhausted);
    CHECK(why.find("netvm-frames") != std::string::npos);
    CHECK(why.find("NETVM_ADDRESS_SPACE") != std::string::npos);
    first.reset();
    CHECK(HostVm::create({.pages = 16, .base = base, .trap = kind}, env, &why).has_value());
  }
}

#if !NETVM_TSAN
TEST_CASE("host_vm: 64 GiB cost nothing until they are used") {
  RealEnv env;
  for (const TrapKind kind : usable_traps()) {
    CAPTURE(to_string(kind));
    const std::uint64_t pages = (std::uint64_t{64} << 30) / kPageSize;
    const Nanos start = env.now();
    auto vm = make_vm(kind, pages, env);
    struct Writable final : FaultHandler {
      explicit Writable(HostVm& host_vm) : target(&host_vm) { host_vm.set_fault_handler(this); }
      bool on_fault(PageId page, bool) noexcept override {
        target->set_access({page, 1}, Access::none, Access::write);
        return true;
      }
      HostVm* target;
    } handler(*vm);
    Application app(*vm);
    CHECK(frame_bytes_in_use(*vm) == 0);
    app.store(vm->bytes() - 8, 7);
    CHECK(app.load(vm->bytes() - 8) == 7);
    CHECK(frame_bytes_in_use(*vm) == kPageSize);
    vm->discard({PageId{0}, pages - 1});
    vm.reset();
    CHECK(env.now() - start < Nanos{1'000'000'000});  // a few ms on an idle machine
  }
}
#endif

TEST_CASE("host_vm: pages begin as zeros, and both views show the same memory") {
  RealEnv env;
  for (const TrapKind kind : usable_traps()) {
    CAPTURE(to_string(kind));
    auto vm = make_vm(kind, 32, env);
    GrantingHandler handler(*vm);
    Application app(*vm);
    for (std::uint64_t at = 0; at < vm->bytes(); at += 512) CHECK(app.load(at) == 0);
    for (std::uint64_t p = 0; p < 32; ++p) {
      frame_word(*vm, p * kPageSize + 8).store(p + 1);
      CHECK(app.load(p * kPageSize + 8) == p + 1);
      app.store(p * kPageSize + 16, p + 100);
      CHECK(frame_word(*vm, p * kPageSize + 16).load() == p + 100);
    }
  }
}

TEST_CASE("host_vm: the frames can be a file of the caller's, which outlives the host VM") {
  RealEnv env;
  for (const TrapKind kind : usable_traps()) {
    CAPTURE(to_string(kind));
    const int fd = ::memfd_create("test-frames", MFD_CLOEXEC);
    REQUIRE(fd >= 0);
    std::string why;
    auto made = HostVm::create({.pages = 4, .base = next_base(kind), .trap = kind, .frames_fd = fd}, env, &why);
    REQUIRE_MESSAGE(made.has_value(), why);
    HostVm& vm = **made;
    CHECK(vm.frames_fd() == fd);
    GrantingHandler handler(vm);
    Application(vm).store(2 * kPageSize, 42);
    made.value().reset();
    std::uint64_t value = 0;
    CHECK(::pread(fd, &value, sizeof value, 2 * kPageSize) == sizeof value);
    CHECK(value == 42);
    ::close(fd);
  }
}

TEST_CASE("host_vm: a file that cannot be mapped for writing is refused") {
  RealEnv env;
  const int fd = ::open("/dev/null", O_RDWR | O_CLOEXEC);
  std::string why;
  CHECK(HostVm::create({.pages = 4, .frames_fd = fd}, env, &why).status() == Status::exhausted);
  CHECK(!why.empty());
  ::close(fd);
}

TEST_CASE("host_vm: page_of inverts the application view") {
  RealEnv env;
  for (const TrapKind kind : usable_hardware_traps()) {
    auto vm = make_vm(kind, 16, env);
    const auto base = reinterpret_cast<std::uintptr_t>(vm->app_base());
    PageId page{};
    CHECK(vm->page_of(base, &page));
    CHECK(page == PageId{0});
    CHECK(vm->page_of(base + 16 * kPageSize - 1, &page));
    CHECK(page == PageId{15});
    CHECK_FALSE(vm->page_of(base + 16 * kPageSize, &page));
    CHECK_FALSE(vm->page_of(base - 1, &page));
  }
  auto checked = make_vm(TrapKind::checked, 16, env);
  PageId page{};
  CHECK(checked->app_base() == nullptr);
  CHECK_FALSE(checked->page_of(0, &page));
}

TEST_CASE("host_vm: the listener hears of each page once, after it came and before it goes") {
  RealEnv env;
  for (const TrapKind kind : usable_traps()) {
    CAPTURE(to_string(kind));
    auto vm = make_vm(kind, 300, env);
    RecordingListener listener(*vm, 300);
    CHECK(vm->make_resident({PageId{60}, 10}) == Status::ok);
    CHECK(vm->make_resident({PageId{0}, 0}) == Status::ok);
    CHECK(listener.calls == 1);
    CHECK(vm->make_resident({PageId{50}, 150}) == Status::ok);  // around the 10
    CHECK(listener.calls == 3);
    CHECK(vm->make_resident({PageId{50}, 150}) == Status::ok);
    CHECK(listener.calls == 3);
    CHECK(vm->make_resident({PageId{299}, 2}) == Status::range);
    for (std::uint64_t p = 0; p < 300; ++p) {
      CHECK(vm->resident(PageId{p}) == (p >= 50 && p < 200));
      CHECK(listener.mapped(p) == vm->resident(PageId{p}));
    }
    CHECK_FALSE(vm->resident(PageId{1000}));
    CHECK(frame_bytes_in_use(*vm) == 150 * kPageSize);

    vm->discard({PageId{100}, 28});
    vm->discard({PageId{0}, 300});
    CHECK(listener.right);
    CHECK(frame_bytes_in_use(*vm) == 0);
    for (std::uint64_t p = 0; p < 300; ++p) CHECK_FALSE(listener.mapped(p));
  }
}

TEST_CASE("host_vm: where there is no memory for a frame, making it resident fails and nobody is told") {
  RealEnv env;
  for (const TrapKind kind : usable_traps()) {
    CAPTURE(to_string(kind));
    auto vm = make_vm(kind, 16, env);
    RecordingListener listener(*vm, 16);
    REQUIRE(::ftruncate(vm->frames_fd(), 8 * kPageSize) == 0);  // stands for a kernel that cannot give a page
    CHECK(vm->make_resident({PageId{9}, 3}) == Status::fault_failed);
    CHECK(listener.calls == 0);
    CHECK_FALSE(vm->resident(PageId{9}));
    REQUIRE(::ftruncate(vm->frames_fd(), 16 * kPageSize) == 0);
    CHECK(vm->make_resident({PageId{9}, 3}) == Status::ok);
    CHECK(listener.mapped(9));
  }
}

TEST_CASE("host_vm: giving access makes a page resident first") {
  RealEnv env;
  for (const TrapKind kind : usable_traps()) {
    CAPTURE(to_string(kind));
    auto vm = make_vm(kind, 64, env);
    RecordingListener listener(*vm, 64);
    vm->set_access({PageId{3}, 40}, Access::none, Access::read);
    for (std::uint64_t p = 0; p < 64; ++p) CHECK(listener.mapped(p) == (p >= 3 && p < 43));
    CHECK(Application(*vm).load(5 * kPageSize + 8) == 0);
    vm->set_access({PageId{3}, 40}, Access::read, Access::none);
    CHECK(vm->resident(PageId{3}));  // rights and residency are two things
  }
}

TEST_CASE("host_vm: discarded pages read as zeros and their memory is given back") {
  RealEnv env;
  for (const TrapKind kind : usable_traps()) {
    CAPTURE(to_string(kind));
    auto vm = make_vm(kind, 8, env);
    GrantingHandler handler(*vm);
    Application app(*vm);
    for (std::uint64_t p = 0; p < 8; ++p) app.store(p * kPageSize, p + 1);
    for (std::uint64_t p = 2; p < 6; ++p) handler.set(PageId{p}, Access::none);
    vm->discard({PageId{2}, 4});
    CHECK(frame_bytes_in_use(*vm) == 4 * kPageSize);
    for (std::uint64_t p = 0; p < 8; ++p) CHECK(app.load(p * kPageSize) == (p >= 2 && p < 6 ? 0 : p + 1));
  }
}

TEST_CASE("host_vm: two host VMs in one process do not disturb each other") {
  RealEnv env;
  for (const TrapKind first_kind : usable_traps()) {
    for (const TrapKind second_kind : usable_traps()) {
      CAPTURE(to_string(first_kind));
      CAPTURE(to_string(second_kind));
      auto first = make_vm(first_kind, 16, env);
      auto second = make_vm(second_kind, 16, env);
      GrantingHandler first_handler(*first);
      GrantingHandler second_handler(*second);
      for (std::uint64_t p = 0; p < 16; ++p) {
        Application(*first).store(p * kPageSize, p);
        Application(*second).store(p * kPageSize, p + 1000);
      }
      for (std::uint64_t p = 0; p < 16; ++p) {
        CHECK(Application(*first).load(p * kPageSize) == p);
        CHECK(Application(*second).load(p * kPageSize) == p + 1000);
      }
      CHECK(first_handler.faults() == 16);
      CHECK(second_handler.faults() == 16);
      first.reset();
      second_handler.set(PageId{3}, Access::none);
      CHECK(Application(*second).load(3 * kPageSize) == 1003);
    }
  }
}
