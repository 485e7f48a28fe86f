// The firmware's step: refusals, page-crossing copies, atomics, revocation in flight.
#include "nic/firmware.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstring>
#include <mutex>
#include <thread>
#include <vector>

#include "runtime/host_vm.hpp"
#include "runtime/real_env.hpp"

using namespace netvm;
using namespace netvm::nic;

namespace {

constexpr std::uint64_t kPages = 16;

bool all_are(const std::byte* at, std::size_t bytes, std::byte value) {
  return std::all_of(at, at + bytes, [value](std::byte b) { return b == value; });
}

/// The product's way to lock pages, and the other one, over the words of the same device.
struct Announced {
  using Translation = ShadowTranslation;
};
struct Cas {
  struct Translation final : CasPageLock::Locker {
    explicit Translation(Device& target) : Locker(CasPageLock(target.shadow_entries())) {}
    static constexpr bool kPinned = false;
  };
};

template <class Scheme>
struct BasicTarget {
  using Engine = BasicFirmware<typename Scheme::Translation>;
  RealEnv env{{0, false, 11}};
  std::unique_ptr<HostVm> vm;
  std::unique_ptr<Device> device;
  std::unique_ptr<BasicShadowPageTable<CasPageLock>> cas;
  RemoteRegion region;

  explicit BasicTarget(Rights rights = Rights::all, bool resident = true) {
    std::string why;
    HostVmConfig memory;
    memory.pages = kPages;
    vm = HostVm::create(memory, env, &why).value();
    DeviceConfig shape;
    shape.pages = kPages;
    device = Device::create(shape, -1, vm->frame_base(), &why).value();
    cas = std::make_unique<BasicShadowPageTable<CasPageLock>>(device->shadow_entries(), kPages, CasPageLock(device->shadow_entries()));
    vm->set_residency_listener(&shadow());
    if (resident) CHECK(ok(vm->make_resident({PageId{0}, kPages})));
    region = device->regions().create(env, {PageId{2}, 4}, rights).value();
  }
  ~BasicTarget() { vm->set_residency_listener(nullptr); }

  auto& shadow() {
    if constexpr (std::is_same_v<Scheme, Cas>) {
      return *cas;
    } else {
      return device->shadow();
    }
  }
  std::byte* memory() { return vm->frame(PageId{2}); }
  [[nodiscard]] WorkRequest request(WorkKind kind, std::uint64_t offset, std::uint64_t bytes) const {
    WorkRequest r;
    r.kind = kind;
    r.region = region.id;
    r.key = region.key;
    r.offset = offset;
    r.bytes = bytes;
    return r;
  }
  Outcome write(std::uint64_t offset, const void* from, std::uint64_t bytes) {
    WorkRequest r = request(WorkKind::write, offset, bytes);
    r.source = static_cast<const std::byte*>(from);
    return Engine::execute(*device, r);
  }
  Outcome read(std::uint64_t offset, void* to, std::uint64_t bytes) {
    WorkRequest r = request(WorkKind::read, offset, bytes);
    r.landing = static_cast<std::byte*>(to);
    return Engine::execute(*device, r);
  }
  Outcome atomic(std::uint64_t offset, const AtomicArgs& args) {
    WorkRequest r = request(WorkKind::atomic, offset, 8);
    r.atomic = args;
    return Engine::execute(*device, r);
  }
  [[nodiscard]] bool unlocked() {
    for (std::uint64_t page = 0; page < kPages; ++page) {
      if (device->shadow().entry(PageId{page}).locks != 0) return false;
    }
    // Of those that are announced nobody waits for itself: a page that is still locked would hang here.
    device->shadow().drain({PageId{0}, kPages});
    return true;
  }
};
using Target = BasicTarget<Announced>;

}  // namespace

TEST_CASE_TEMPLATE("copies at every offset of a page and many lengths arrive whole and touch nothing else", Scheme, Announced, Cas) {
  BasicTarget<Scheme> t;
  std::vector<std::byte> source(2 * kPageSize + 64), back(source.size());
  for (std::size_t i = 0; i < source.size(); ++i) source[i] = static_cast<std::byte>(i * 31 + i / 256 + 1);
  const std::uint64_t lengths[] = {0, 1, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 100, 4088, 4095, 4096, 4097, 8191, 8192};
  for (std::uint64_t offset = 0; offset < kPageSize; ++offset) {
    for (const std::uint64_t bytes : lengths) {
      if (bytes > 100 && offset % 61 != 0 && offset % kPageSize < 4080) continue;  // the long ones at a sample, and near the end
      const std::size_t from = offset % 16;
      std::memset(t.memory() + offset, 0, bytes + 1);
      if (offset > 0) t.memory()[offset - 1] = std::byte{0xee};
      t.memory()[offset + bytes] = std::byte{0xdd};
      const Outcome written = t.write(offset, source.data() + from, bytes);
      REQUIRE(ok(written.status));
      REQUIRE(std::memcmp(t.memory() + offset, source.data() + from, bytes) == 0);
      REQUIRE((offset == 0 || t.memory()[offset - 1] == std::byte{0xee}));
      REQUIRE(t.memory()[offset + bytes] == std::byte{0xdd});
      REQUIRE(ok(t.read(offset, back.data() + 3, bytes).status));
      REQUIRE(std::memcmp(back.data() + 3, source.data() + from, bytes) == 0);
    }
  }
  CHECK(t.unlocked());
}

TEST_CASE_TEMPLATE("requests without key, range, right or alignment touch nothing", Scheme, Announced, Cas) {
  BasicTarget<Scheme> t(Rights::read);
  std::memset(t.memory(), 0x11, 4 * kPageSize);
  std::uint64_t value = ~std::uint64_t{0};
  CHECK(t.write(0, &value, 8).status == Status::perm);
  CHECK(t.atomic(0, {}).status == Status::perm);
  CHECK(t.read(4 * kPageSize - 7, &value, 8).status == Status::range);
  CHECK(t.read(~std::uint64_t{0} - 3, &value, 8).status == Status::range);
  CHECK(t.read(16, &value, ~std::uint64_t{0} - 8).status == Status::range);
  t.region.key ^= 0x8000'0000'0000'0000;
  CHECK(t.read(0, &value, 8).status == Status::key);
  CHECK(value == ~std::uint64_t{0});
  CHECK(all_are(t.memory(), 4 * kPageSize, std::byte{0x11}));

  BasicTarget<Scheme> all;
  for (const std::uint64_t offset : {1, 4, 7, 4092}) CHECK(all.atomic(offset, {}).status == Status::align);
  CHECK(all.atomic(4 * kPageSize - 8, {AtomicOp::fetch_add, 1}).status == Status::ok);
  CHECK(all.atomic(4 * kPageSize, {}).status == Status::range);
  CHECK(all.atomic(0, {static_cast<AtomicOp>(200)}).status == Status::invalid);
  CHECK((t.unlocked() && all.unlocked()));
}

TEST_CASE("a page that is not resident is named, and the request can be executed again once it is") {
  Target t(Rights::all, false);
  CHECK(ok(t.vm->make_resident({PageId{2}, 1})));
  std::vector<std::byte> source(2 * kPageSize, std::byte{0x77});
  Outcome outcome = t.write(100, source.data(), source.size());
  CHECK_FALSE(outcome.resident);
  CHECK(outcome.missing == PageId{3});
  CHECK(ok(t.vm->make_resident({PageId{3}, 1})));
  outcome = t.write(100, source.data(), source.size());
  CHECK_FALSE(outcome.resident);
  CHECK(outcome.missing == PageId{4});
  CHECK(ok(t.vm->make_resident({PageId{4}, 1})));
  outcome = t.write(100, source.data(), source.size());
  CHECK(outcome.resident);
  CHECK(ok(outcome.status));
  CHECK(std::memcmp(t.memory() + 100, source.data(), source.size()) == 0);
  const Outcome atomic = t.atomic(3 * kPageSize, {});
  CHECK_FALSE(atomic.resident);
  CHECK(atomic.missing == PageId{5});
  CHECK(t.unlocked());
}

TEST_CASE("a page mapped read-only is a readable source and refuses writes") {
  Target t(Rights::all, false);
  CHECK(ok(t.vm->make_resident({PageId{2}, 1})));
  t.device->shadow().on_unmap({PageId{2}, 1});
  t.device->shadow().map({PageId{2}, 1}, false);
  std::uint64_t value = 5;
  CHECK(ok(t.read(0, &value, 8).status));
  CHECK(value == 0);
  CHECK_FALSE(t.write(0, &value, 8).resident);
  CHECK_FALSE(t.atomic(0, {}).resident);
}

TEST_CASE("a region that reaches outside memory, from a damaged table, is not followed") {
  Target t;
  auto* entries = const_cast<RegionEntry*>(&t.device->regions().entry(t.region.id));
  std::uint64_t value = 0;
  entries->pages.store(std::uint64_t{1} << 40);
  CHECK_FALSE(ok(t.read(kPages * kPageSize, &value, 8).status));
  entries->pages.store(4);
  CHECK(t.unlocked());
}

TEST_CASE("each atomic does what it says") {
  Target t;
  auto& word = *reinterpret_cast<std::uint64_t*>(t.memory() + 64);
  word = 10;
  CHECK(t.atomic(64, {AtomicOp::fetch_add, 5}).old_value == 10);
  CHECK(word == 15);
  CHECK(t.atomic(64, {AtomicOp::fetch_add, ~std::uint64_t{0}}).old_value == 15);
  CHECK(word == 14);
  CHECK(t.atomic(64, {AtomicOp::swap, 0xf0}).old_value == 14);
  CHECK(t.atomic(64, {AtomicOp::fetch_or, 0x0f}).old_value == 0xf0);
  CHECK(word == 0xff);
  CHECK(t.atomic(64, {AtomicOp::compare_swap, 1, 0xfe}).old_value == 0xff);
  CHECK(word == 0xff);
  CHECK(t.atomic(64, {AtomicOp::compare_swap, 1, 0xff}).old_value == 0xff);
  CHECK(word == 1);
  word = 0x1122'3344'5566'7788;
  CHECK(t.atomic(64, {AtomicOp::masked_cas, 0xaaaa'aaaa'aaaa'aaaa, 0x88, 0xff, 0xff00}).old_value == 0x1122'3344'5566'7788);
  CHECK(word == 0x1122'3344'5566'aa88);
  CHECK(t.atomic(64, {AtomicOp::masked_cas, 0, 0x89, 0xff, ~std::uint64_t{0}}).old_value == 0x1122'3344'5566'aa88);
  CHECK(word == 0x1122'3344'5566'aa88);
}

TEST_CASE_TEMPLATE("every atomic is atomic with the host's std::atomic_ref, from several threads", Scheme, Announced, Cas) {
  BasicTarget<Scheme> t;
  constexpr std::uint64_t kEach = 20'000;
  auto* words = reinterpret_cast<std::uint64_t*>(t.memory());
  std::vector<std::thread> threads;
  for (unsigned thread = 0; thread < 2; ++thread) {
    threads.emplace_back([&t, thread] {  // the NIC's side
      for (std::uint64_t i = 0; i < kEach; ++i) {
        CHECK(ok(t.atomic(0, {AtomicOp::fetch_add, 1}).status));
        for (;;) {  // words[1] += 1 by compare_swap; words[2]: the low half only, by masked_cas
          const std::uint64_t old = t.atomic(8, {AtomicOp::fetch_or, 0}).old_value;
          if (t.atomic(8, {AtomicOp::compare_swap, old + 1, old}).old_value == old) break;
        }
        for (;;) {
          const std::uint64_t old = t.atomic(16, {AtomicOp::fetch_add, 0}).old_value;
          constexpr std::uint64_t kLow = 0xffff'ffff;
          const std::uint64_t seen = t.atomic(16, {AtomicOp::masked_cas, old + 1, old, kLow, kLow}).old_value;
          if (((seen ^ old) & kLow) == 0) break;
        }
        (void)t.atomic(24, {AtomicOp::fetch_or, std::uint64_t{1} << (i % 16 + thread * 16)});
      }
    });
  }
  threads.emplace_back([words] {  // the host's side
    for (std::uint64_t i = 0; i < kEach; ++i) {
      std::atomic_ref(words[0]).fetch_add(1);
      std::atomic_ref(words[1]).fetch_add(1);
      std::atomic_ref(words[2]).fetch_add(std::uint64_t{1} << 32);
      std::atomic_ref(words[3]).fetch_or(std::uint64_t{1} << (48 + i % 16));
    }
  });
  for (std::thread& thread : threads) thread.join();
  CHECK(words[0] == 3 * kEach);
  CHECK(words[1] == 3 * kEach);
  CHECK(words[2] == (kEach << 32 | 2 * kEach));
  CHECK(words[3] == 0xffff'0000'ffff'ffff);
}

TEST_CASE_TEMPLATE("after a revocation returns no access in flight touches the memory any more", Scheme, Announced, Cas) {
  BasicTarget<Scheme> t;
  std::atomic<bool> stop{false};
  std::atomic<std::uint64_t> writes{0}, unexpected{0};
  std::mutex current_lock;
  RemoteRegion current = t.region;
  const auto get_current = [&] {
    const std::lock_guard guard(current_lock);
    return current;
  };
  std::vector<std::thread> initiators;
  for (std::uint64_t value = 1; value <= 2; ++value) {
    initiators.emplace_back([&, value] {
      const std::vector<std::byte> bytes(3 * kPageSize, static_cast<std::byte>(value));
      while (!stop.load()) {
        const RemoteRegion region = get_current();
        WorkRequest r;
        r.kind = WorkKind::write;
        r.region = region.id;
        r.key = region.key;
        r.offset = 64;
        r.bytes = bytes.size();
        r.source = bytes.data();
        const Status status = BasicTarget<Scheme>::Engine::execute(*t.device, r).status;
        if (ok(status)) {
          writes.fetch_add(1);
        } else {
          if (status != Status::revoked && status != Status::key) unexpected.fetch_add(1);
        }
      }
    });
  }
  for (int round = 0; round < 150 || writes.load() < 20; ++round) {
    REQUIRE(ok(t.device->regions().revoke(get_current(), t.shadow())));
    std::memset(t.memory(), 0, 4 * kPageSize);
    for (int look = 0; look < 3; ++look) {
      if (look > 0) std::this_thread::yield();
      REQUIRE(all_are(t.memory(), 4 * kPageSize, std::byte{0}));
    }
    {
      const std::lock_guard guard(current_lock);
      current = t.device->regions().create(t.env, {PageId{2}, 4}, Rights::all).value();
    }
    std::this_thread::yield();
  }
  stop.store(true);
  for (std::thread& initiator : initiators) initiator.join();
  CHECK(unexpected.load() == 0);
  CHECK(t.unlocked());
}
