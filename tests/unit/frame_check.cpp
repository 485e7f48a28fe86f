// The frame check: an access through the frame view to a frame that is not there ends the process with the page's name; canaries that touch pages
// without locking them are caught, those that lock them are not.
#include "runtime/frame_check.hpp"

#include <sys/mman.h>

#include <atomic>
#include <cerrno>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "host_vm_fixture.hpp"
#include "nic/firmware.hpp"
#include "tests/support/memory_backing_store.hpp"

using namespace netvm;
using namespace netvm::test;
using namespace netvm::nic;

namespace {

bool cannot_check() {
  const TrapProbe probe = FrameCheck::probe();
  if (!probe.usable) MESSAGE("SKIPPED: ", probe.reason);
  return !probe.usable;
}

bool says(const ChildEnd& end, const char* what) {
  const bool found = end.output.find(what) != std::string::npos;
  if (!found) MESSAGE("not found: \"", std::string(what), "\" in: ", end.output);
  return found;
}

/// A node's memory with the check on, and the NIC's view of it.
struct Checked {
  explicit Checked(std::uint64_t budget = 16, TrapKind kind = TrapKind::checked) {
    std::string why;
    HostVmConfig memory;
    memory.pages = 64;
    memory.base = next_base(kind);
    memory.trap = kind;
    memory.frames_fd = frames_file.get();
    memory.budget_pages = budget;
    if (budget != 0) memory.store = std::make_shared<MemoryBackingStore>();
    memory.check_frames = true;
    vm = HostVm::create(memory, env, &why).value();
    device = Device::create(shape(), device_file.get(), vm->frame_base(), &why).value();
    vm->set_residency_listener(&device->shadow());
    region = device->regions().create(env, {PageId{0}, 64}, Rights::all).value();
  }
  ~Checked() { vm->set_residency_listener(nullptr); }
  static DeviceConfig shape() {
    DeviceConfig shape;
    shape.nodes = 2;
    shape.pages = 64;
    shape.check_frames = true;
    return shape;
  }
  RealEnv env;
  UniqueFd device_file{memfd_create("test-device", MFD_CLOEXEC)};
  UniqueFd frames_file{memfd_create("test-frames", MFD_CLOEXEC)};
  std::unique_ptr<HostVm> vm;
  std::unique_ptr<Device> device;
  RemoteRegion region;
};

std::uint64_t load(const std::byte* at) { return *reinterpret_cast<const volatile std::uint64_t*>(at); }
void store(std::byte* at, std::uint64_t value) { *reinterpret_cast<volatile std::uint64_t*>(at) = value; }

// ---- canaries: the firmware's step, with a pause between the look at the entry and the touch, so that the race does not need luck

class LocksAndDawdles final : public ShadowPageTable::Locker {
 public:
  explicit LocksAndDawdles(Device& target) : Locker(target.shadow().locker()) {}
  static constexpr bool kPinned = false;
  template <LockFor kWhat>
  bool try_lock(PageId page, std::uint64_t* frame) {
    if (!Locker::try_lock<kWhat>(page, frame)) return false;
    std::this_thread::yield();
    return true;
  }
  template <LockFor kWhat>
  std::uint64_t try_lock_run(PageId first, std::uint64_t /*most*/, std::uint64_t* frame) {
    return try_lock<kWhat>(first, frame) ? 1 : 0;
  }
};

/// Looks at the entry and announces nothing.
class LooksOnly final {
 public:
  explicit LooksOnly(Device& target) : shadow_(target.shadow()) {}
  static constexpr bool kPinned = false;
  template <LockFor kWhat>
  bool try_lock(PageId page, std::uint64_t* frame) {
    const ShadowEntry entry = shadow_.entry(page);
    if (entry.state != PageState::read_write) return false;
    *frame = entry.frame;
    std::this_thread::yield();
    return true;
  }
  template <LockFor kWhat>
  std::uint64_t try_lock_run(PageId first, std::uint64_t /*most*/, std::uint64_t* frame) {
    return try_lock<kWhat>(first, frame) ? 1 : 0;
  }
  static void unlock() {}

 private:
  ShadowPageTable& shadow_;
};

/// Announces, but after its look: the host may have looked for announcements in between.
class AnnouncesTooLate final {
 public:
  explicit AnnouncesTooLate(Device& target) : shadow_(target.shadow()), slot_(target.shadow().locker()) {}
  static constexpr bool kPinned = false;
  template <LockFor kWhat>
  bool try_lock(PageId page, std::uint64_t* frame) {
    const ShadowEntry entry = shadow_.entry(page);
    if (entry.state != PageState::read_write) return false;
    *frame = entry.frame;
    std::this_thread::yield();
    std::uint64_t ignored = 0;
    locked_ = slot_.try_lock<kWhat>(page, &ignored);  // whatever the entry says by now
    return true;
  }
  template <LockFor kWhat>
  std::uint64_t try_lock_run(PageId first, std::uint64_t /*most*/, std::uint64_t* frame) {
    return try_lock<kWhat>(first, frame) ? 1 : 0;
  }
  void unlock() {
    if (locked_) slot_.unlock();
  }

 private:
  ShadowPageTable& shadow_;
  ShadowPageTable::Locker slot_;
  bool locked_ = false;
};

/// The product, but for the page where nothing is unusual: there it announces nothing.
class UsualLooksOnly final : public ShadowPageTable::Locker {
 public:
  explicit UsualLooksOnly(Device& target) : Locker(target.shadow().locker()) {}
  static constexpr bool kPinned = false;
  class Usual {
   public:
    template <LockFor kWhat>
    static bool try_lock(const DeviceView& target, PageId page) {
      if (!ShadowEntry::is_usual<kWhat>(target.page_lock.entries[page.value].load(), page.value)) return false;
      std::this_thread::yield();
      return true;
    }
    template <LockFor kWhat>
    static bool try_lock_run(const DeviceView& target, PageId first, std::uint64_t pages) {
      return pages == 1 && try_lock<kWhat>(target, first);
    }
    static void unlock() {}
  };
};

constexpr int kStormRounds = 2'000;  // a canary that does not announce dies within the first few

/// An eviction storm under two initiators that use the step over `Translation`; survivors return 0.
template <class Translation>
ChildEnd storm() {
  return run_child([] {
    ::alarm(60);
    Checked node;
    std::atomic<bool> stop{false};
    std::atomic<std::uint64_t> done{0};
    std::vector<std::thread> initiators;
    for (unsigned t = 0; t < 2; ++t) {
      initiators.emplace_back([&, t] {
        std::vector<std::byte> bytes(2 * kPageSize, std::byte{0x5a});
        for (std::uint64_t i = t; !stop.load(); ++i) {
          WorkRequest request;
          request.kind = i % 2 == 0 ? WorkKind::write : WorkKind::read;
          request.region = node.region.id;
          request.key = node.region.key;
          request.offset = i * 8 % (14 * kPageSize);
          request.bytes = i % 3 == 0 ? bytes.size() : 8;
          request.source = bytes.data();
          request.landing = bytes.data();
          const Outcome outcome = BasicFirmware<Translation>::execute(*node.device, request);
          if (ok(outcome.status) && outcome.resident) done.fetch_add(1);
        }
      });
    }
    for (int round = 0; round < kStormRounds; ++round) {
      if (!ok(node.vm->make_resident({PageId{0}, 16}))) return 2;
      for (const std::uint64_t seen = done.load(); round % 16 == 0 && done.load() == seen;) std::this_thread::yield();
      (void)node.vm->evict(16);
    }
    stop = true;
    for (std::thread& initiator : initiators) initiator.join();
    return done.load() > 0 ? 0 : 3;
  });
}

}  // namespace

TEST_CASE("frame check: a load or store of a frame that was evicted, discarded or never made ends the process and names the page") {
  if (cannot_check()) return;
  for (const TrapKind kind : usable_traps()) {
    CAPTURE(to_string(kind));
    const ChildEnd evicted = run_child([&] {
      Checked node(16, kind);
      if (!node.vm->pin({PageId{5}, 1}, true)) return 1;
      if (node.vm->evict(1) != 1) return 2;
      return static_cast<int>(load(node.vm->frame(PageId{5}) + 16));
    });
    CHECK(evicted.killed_by(SIGABRT));
    CHECK(
        says(evicted, "load from page 5 through the frame view, at frame offset 0x5010: accessed without its lock, or after its eviction"));
    CHECK(says(evicted, "the page is not resident, its shadow entry is INVALID, generation 1"));

    const ChildEnd discarded = run_child([&] {
      Checked node(0, kind);
      if (!ok(node.vm->make_resident({PageId{7}, 1}))) return 1;
      store(node.vm->frame(PageId{7}), 3);  // there: nobody minds
      if (load(node.vm->frame(PageId{7})) != 3) return 2;
      node.vm->discard({PageId{7}, 1});
      store(node.vm->frame(PageId{7}), 4);
      return 0;
    });
    CHECK(discarded.killed_by(SIGABRT));
    CHECK(says(discarded, "store to page 7 through the frame view, at frame offset 0x7000"));

    const ChildEnd never = run_child([&] {
      Checked node(16, kind);
      return static_cast<int>(load(node.vm->frame(PageId{63}) + kPageSize - 8));
    });
    CHECK(never.killed_by(SIGABRT));
    CHECK(says(never, "load from page 63"));
    CHECK(says(never, "its shadow entry is INVALID, generation 0"));
  }
}

TEST_CASE("frame check: without it, a frame that was taken away reads as zeros without a word") {
  RealEnv env;
  std::string why;
  const auto vm = HostVm::create({.pages = 8}, env, &why);
  REQUIRE(vm.has_value());
  REQUIRE(ok((*vm)->make_resident({PageId{1}, 1})));
  store((*vm)->frame(PageId{1}), 9);
  (*vm)->discard({PageId{1}, 1});
  CHECK(load((*vm)->frame(PageId{1})) == 0);
}

TEST_CASE("frame check: a peer's view of the frames is watched, too, and the report says whose they are") {
  if (cannot_check()) return;
  const ChildEnd end = run_child([&] {
    Checked node;
    std::string why;
    const auto peer = Device::attach(Checked::shape(), NodeId{1}, node.device_file.get(), node.frames_file.get(), &why);
    if (!peer) return 1;
    if (!node.vm->pin({PageId{2}, 1}, true)) return 2;
    store((*peer)->frames() + 2 * kPageSize, 77);
    if (load(node.vm->frame(PageId{2})) != 77) return 3;
    if (node.vm->evict(1) != 1) return 4;
    store((*peer)->frames() + 2 * kPageSize + 8, 78);
    return 0;
  });
  CHECK(end.killed_by(SIGABRT));
  CHECK(says(end, "store to page 2 through the frame view, at frame offset 0x2008"));
  CHECK(says(end, "the page is node 0's, its shadow entry is INVALID, generation 1"));
}

TEST_CASE("frame check: a system call that is handed a missing frame fails") {
  if (cannot_check()) return;
  Checked node;
  CHECK(::pread(node.frames_file.get(), node.vm->frame(PageId{9}), 8, 0) == -1);
  CHECK(errno == EFAULT);
}

TEST_CASE("frame check: a canary that looks at the entry without announcing is caught under an eviction storm, the product is not") {
  if (cannot_check()) return;
  const ChildEnd careless = storm<LooksOnly>();
  CHECK(careless.killed_by(SIGABRT));
  CHECK(says(careless, "accessed without its lock, or after its eviction"));
  const ChildEnd late = storm<AnnouncesTooLate>();
  CHECK(late.killed_by(SIGABRT));
  CHECK(says(late, "accessed without its lock, or after its eviction"));
  const ChildEnd usual = storm<UsualLooksOnly>();
  CHECK(usual.killed_by(SIGABRT));
  CHECK(says(usual, "accessed without its lock, or after its eviction"));
  const ChildEnd careful = storm<LocksAndDawdles>();
  CHECK_MESSAGE(careful.exited_with(0), careful.output);
  const ChildEnd product = storm<ShadowTranslation>();
  CHECK_MESSAGE(product.exited_with(0), product.output);
}
