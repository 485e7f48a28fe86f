// Page locks between processes: a host that unmaps and revokes against initiators in other processes, and initiators that are killed.
#include <doctest/doctest.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <thread>
#include <vector>

#include "nic/firmware.hpp"
#include "runtime/host_vm.hpp"
#include "runtime/real_env.hpp"
#include "runtime/sanitizers.hpp"
#include "runtime/unique_fd.hpp"
#include "tests/support/frame_check.hpp"

using namespace netvm;
using namespace netvm::nic;

namespace {

constexpr std::uint64_t kPages = 8;
constexpr std::uint32_t kNodes = 4;

/// A child process that is killed at the latest when this goes.
class Child {
 public:
  template <class Body>
  explicit Child(Body&& body) : pid_(fork()) {
    REQUIRE(pid_ >= 0);
    if (pid_ == 0) {
      alarm(60);  // should the parent die first
      body();
      _exit(0);
    }
  }
  Child(Child&& other) noexcept : pid_(std::exchange(other.pid_, -1)) {}
  ~Child() { end(); }
  void end() {
    if (pid_ <= 0) return;
    kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
    pid_ = -1;
  }

 private:
  pid_t pid_;
};

/// Node 0: memory and device in files, as initiators in other processes map them.
struct Host {
  RealEnv env{{0, false, 3}};
  UniqueFd device_file{memfd_create("test-device", MFD_CLOEXEC)};
  UniqueFd frames_file{memfd_create("test-frames", MFD_CLOEXEC)};
  std::unique_ptr<HostVm> vm;
  std::unique_ptr<Device> device;
  RemoteRegion region;
  CounterId counter{};

  explicit Host(bool asymmetric_fences = true) {
    std::string why;
    HostVmConfig memory;
    memory.pages = kPages;
    memory.frames_fd = frames_file.get();
    memory.check_frames = test::frames_are_checked();
    vm = HostVm::create(memory, env, &why).value();
    device = Device::create(shape(asymmetric_fences), device_file.get(), vm->frame_base(), &why).value();
    vm->set_residency_listener(&device->shadow());
    REQUIRE(ok(vm->make_resident({PageId{0}, kPages})));
    open();
    counter = device->counters().create().value();
  }
  ~Host() { vm->set_residency_listener(nullptr); }

  static DeviceConfig shape(bool asymmetric_fences) {
    DeviceConfig c;
    c.nodes = kNodes;
    c.pages = kPages;
    c.asymmetric_fences = asymmetric_fences;
    c.check_frames = test::frames_are_checked();
    return c;
  }
  void open() { region = device->regions().create(env, {PageId{0}, kPages}, Rights::all).value(); }
  std::byte* memory() { return vm->frame(PageId{0}); }
  [[nodiscard]] std::uint64_t counted() const { return device->counters().at(counter).ok.load(); }

  /// The region that is open now. (Peers are told in messages; here they look into the table.)
  static void find_region(Device& device, RegionId* id, std::uint64_t* key) {
    for (std::uint32_t i = 0; i < RegionTable::kEntries; ++i) {
      const std::uint64_t found = device.regions().entry(RegionId{i}).key.load();
      if (found == 0) continue;
      *id = RegionId{i};
      *key = found;
      return;
    }
  }

  /// What an initiator does, for ever: writes of many sizes with its mark, reads, atomics, notifications. In its own process.
  void initiate(std::uint32_t node, std::byte mark, bool asymmetric_fences) {
    auto target = Device::attach(shape(asymmetric_fences), NodeId{node}, device_file.get(), frames_file.get());
    if (!target) _exit(1);
    Device& device_here = **target;
    RealEnv own_env{{0, false, node}};
    std::vector<std::byte> bytes(3 * kPageSize, mark), back(3 * kPageSize);
    RegionId open_region = region.id;
    std::uint64_t key = region.key;
    std::uint64_t x = node;
    for (std::uint64_t i = 0;; ++i) {
      x = x * 6364136223846793005U + 1442695040888963407U;
      WorkRequest r;
      r.region = open_region;
      r.key = key;
      r.bytes = i % 4 == 0 ? bytes.size() - 8 : 8;
      r.offset = (x >> 33) % ((kPages - 3) * kPageSize) / 8 * 8;
      r.kind = i % 16 == 5 ? WorkKind::read : i % 16 == 6 ? WorkKind::atomic : WorkKind::write;
      r.source = bytes.data();
      r.landing = back.data();
      r.atomic = {AtomicOp::swap, std::uint64_t{0x0101010101010101} * static_cast<std::uint64_t>(mark)};
      if (!ok(Firmware::execute(device_here, r).status)) find_region(device_here, &open_region, &key);
      (void)device_here.counters().increment(counter, 1, own_env);
    }
  }
};

bool all_are(const std::byte* at, std::size_t bytes, std::byte value) {
  return std::all_of(at, at + bytes, [value](std::byte b) { return b == value; });
}

void wait_for(const Host& host, std::uint64_t more) {
  for (const std::uint64_t until = host.counted() + more; host.counted() < until;) std::this_thread::yield();
}

void storm(bool host_light, bool first_light, bool second_light) {
  CAPTURE(host_light);
  CAPTURE(first_light);
  CAPTURE(second_light);
  Host host(host_light);
  const Child first([&] { host.initiate(1, std::byte{1}, first_light); });
  const Child second([&] { host.initiate(2, std::byte{2}, second_light); });
  wait_for(host, 1000);
  std::uint64_t written = 0;
  for (std::uint64_t round = 0; round < 300 || written < 20; ++round) {
    const PageRange pages{PageId{round % (kPages - 1)}, 1 + round % 2};
    std::byte* const at = host.memory() + pages.first.value * kPageSize;
    host.device->shadow().on_unmap(pages);
    std::memset(at, 0xee, pages.count * kPageSize);
    for (int look = 0; look < 2; ++look) {
      if (round % 8 == 0) std::this_thread::yield();
      REQUIRE(all_are(at, pages.count * kPageSize, std::byte{0xee}));
    }
    host.device->shadow().on_map(pages);
    if (round % 4 == 0) wait_for(host, 20);
    if (!all_are(at, pages.count * kPageSize, std::byte{0xee})) ++written;
  }
}

}  // namespace

TEST_CASE("pitfall 2: after an unmap no other process touches the frame, with whatever fences each can have") {
  storm(true, true, true);
  storm(true, true, false);
  storm(false, true, false);
}

TEST_CASE("pitfall 14: initiators killed at random moments leave nothing locked once membership has released them") {
  Host host;
  const Child bystander([&] { host.initiate(2, std::byte{2}, true); });
  std::uint64_t x = 1;
  int left_locked = 0;
  const int rounds = NETVM_TSAN || NETVM_ASAN ? 30 : 100;
  for (int round = 0; round < rounds || (left_locked < 10 && round < 100 * rounds); ++round) {
    x = x * 6364136223846793005U + 1442695040888963407U;
    {
      Child victim([&] { host.initiate(1, std::byte{1}, round % 5 != 0); });
      const std::uint64_t before = host.device->shadow().page_lock().announced_by(NodeId{1});
      while (host.device->shadow().page_lock().announced_by(NodeId{1}) == before) std::this_thread::yield();
      std::this_thread::sleep_for(std::chrono::microseconds((x >> 33) % 700));
      victim.end();
    }
    if (host.device->shadow().page_lock().held_by(NodeId{1}) != 0) ++left_locked;
    host.device->release_dead(NodeId{1});
    CHECK(host.device->shadow().page_lock().held_by(NodeId{1}) == 0);

    // Nothing hangs, nothing is half written.
    REQUIRE(ok(host.device->regions().revoke(host.region, host.device->shadow())));
    std::memset(host.memory(), 0xee, kPages * kPageSize);
    REQUIRE(all_are(host.memory(), kPages * kPageSize, std::byte{0xee}));
    host.vm->discard({PageId{0}, kPages});
    REQUIRE(ok(host.vm->make_resident({PageId{0}, kPages})));
    REQUIRE(all_are(host.memory(), kPages * kPageSize, std::byte{0}));
    for (std::uint64_t page = 0; page < kPages; ++page) {
      const ShadowEntry entry = host.device->shadow().entry(PageId{page});
      REQUIRE(entry.frame == page);
      REQUIRE(entry.state == PageState::read_write);
    }
    host.open();
    const std::uint64_t counted = host.counted();
    REQUIRE(ok(host.device->counters().increment(host.counter, 5, host.env)));
    REQUIRE(host.counted() >= counted + 5);
    WorkRequest r;
    r.kind = WorkKind::atomic;
    r.region = host.region.id;
    r.key = host.region.key;
    r.offset = kPages * kPageSize - 8;  // where the bystander does not write
    r.bytes = 8;
    r.atomic = {AtomicOp::fetch_add, 3};
    REQUIRE(Firmware::execute(*host.device, r).old_value == 0);
    REQUIRE(Firmware::execute(*host.device, r).old_value == 3);
  }
  CHECK(left_locked > 0);  // or nothing was tried
}
