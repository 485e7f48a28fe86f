// The device memory: its layout, and that a peer maps only what fits.
#include "nic/device.hpp"

#include <doctest/doctest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstring>

#include "runtime/real_env.hpp"

using namespace netvm;
using namespace netvm::nic;

namespace {

struct Files {
  int device = memfd_create("test-device", MFD_CLOEXEC);
  int frames = memfd_create("test-frames", MFD_CLOEXEC);
  Files() = default;
  Files(const Files&) = delete;
  Files& operator=(const Files&) = delete;
  ~Files() {
    close(device);
    close(frames);
  }
};

DeviceConfig shape() {
  DeviceConfig c;
  c.node = NodeId{1};
  c.nodes = 3;
  c.pages = 100;
  c.ring_bytes = 8192;
  c.session = 77;
  return c;
}

}  // namespace

TEST_CASE("what one mapping of a device writes the other reads, and its parts do not overlap") {
  Files files;
  REQUIRE(ftruncate(files.frames, 100 * kPageSize) == 0);
  auto* frames = static_cast<std::byte*>(mmap(nullptr, 100 * kPageSize, PROT_READ | PROT_WRITE, MAP_SHARED, files.frames, 0));
  std::string why;
  const auto own = Device::create(shape(), files.device, frames, &why).value();
  const auto peer = Device::attach(shape(), NodeId{2}, files.device, files.frames, &why).value();
  CHECK(peer->frames() != frames);
  frames[5000] = std::byte{9};
  CHECK(peer->frames()[5000] == std::byte{9});

  RealEnv env;
  const RemoteRegion region = own->regions().create(env, {PageId{3}, 1}, Rights::read).value();
  RegionTable::Grant grant;
  CHECK(peer->regions().find(region.id, region.key, 0, 8, Rights::read, &grant) == Status::ok);
  own->shadow().on_map({PageId{0}, 100});
  std::uint64_t frame = 0;
  ShadowPageTable::Locker locker = peer->shadow().locker();
  REQUIRE(locker.try_lock<LockFor::write>(PageId{99}, &frame));
  locker.unlock();
  const CounterId counter = own->counters().create().value();
  CHECK(peer->counters().increment(counter, 3, env) == Status::ok);
  CHECK(own->counters().at(counter).ok.load() == 3);

  for (std::uint32_t source = 0; source < 3; ++source) {
    const auto area = own->inbound(NodeId{source});
    CHECK(area.size() == 8192);
    CHECK(reinterpret_cast<std::uintptr_t>(area.data()) % kCacheLine == 0);
    CHECK(std::all_of(area.begin(), area.end(), [](std::byte b) { return b == std::byte{0}; }));
    std::memset(area.data(), 0xff, area.size());
  }
  CHECK(peer->inbound(NodeId{2})[8191] == std::byte{0xff});
  CHECK(own->shadow().entry(PageId{99}).state == PageState::read_write);
  CHECK(own->counters().at(counter).ok.load() == 3);
  CHECK(own->header().nodes == 3);
  munmap(frames, 100 * kPageSize);
}

TEST_CASE("a peer's device that is not what the job says is refused, with a sentence that says why") {
  Files files;
  std::string why;
  CHECK_FALSE(Device::attach(shape(), NodeId{2}, files.device, files.frames, &why).has_value());
  CHECK(why.find("shorter") != std::string::npos);
  REQUIRE(ftruncate(files.frames, 100 * kPageSize) == 0);
  REQUIRE(ftruncate(files.device, static_cast<off_t>(Device::bytes_needed(3, 100, 8192))) == 0);
  CHECK_FALSE(Device::attach(shape(), NodeId{2}, files.device, files.frames, &why).has_value());
  CHECK(why.find("not initialised") != std::string::npos);

  std::byte* none = nullptr;
  const auto own = Device::create(shape(), files.device, none, &why).value();
  CHECK(Device::attach(shape(), NodeId{2}, files.device, files.frames, &why).has_value());
  DeviceConfig other = shape();
  other.session = 78;
  CHECK_FALSE(Device::attach(other, NodeId{2}, files.device, files.frames, &why).has_value());
  CHECK(why.find("session") != std::string::npos);
  other = shape();
  other.node = NodeId{2};
  CHECK_FALSE(Device::attach(other, NodeId{2}, files.device, files.frames, &why).has_value());
  CHECK(why.find("node 1") != std::string::npos);
  other = shape();
  other.pages = 90;
  CHECK_FALSE(Device::attach(other, NodeId{2}, files.device, files.frames, &why).has_value());
  CHECK(why.find("100 pages") != std::string::npos);
  own->header().version = 99;
  CHECK_FALSE(Device::attach(shape(), NodeId{2}, files.device, files.frames, &why).has_value());
  CHECK(why.find("99") != std::string::npos);
}

TEST_CASE("impossible shapes are refused") {
  std::string why;
  DeviceConfig c = shape();
  c.node = NodeId{3};
  CHECK(Device::create(c, -1, nullptr, &why).status() == Status::invalid);
  c = shape();
  c.pages = 0;
  CHECK(Device::create(c, -1, nullptr, &why).status() == Status::invalid);
  c = shape();
  c.ring_bytes = 100;
  CHECK(Device::create(c, -1, nullptr, &why).status() == Status::invalid);
  CHECK(why.find("cache line") != std::string::npos);
}

TEST_CASE("the device of a large range costs memory only where it is touched") {
  DeviceConfig c = shape();
  c.pages = std::uint64_t{1} << 28;  // 1 TiB of memory: a shadow page table of 2 GiB
  const auto own = Device::create(c, -1, nullptr).value();
  own->shadow().on_map({PageId{c.pages - 1}, 1});
  own->shadow().drain({PageId{0}, c.pages});
  own->shadow().on_unmap({PageId{0}, c.pages});
  long long resident_pages = 0;
  if (std::FILE* statm = std::fopen("/proc/self/statm", "r")) {
    long long size = 0;
    if (std::fscanf(statm, "%lld %lld", &size, &resident_pages) != 2) resident_pages = 0;
    std::fclose(statm);
  }
  CHECK(resident_pages * 4096 < (1LL << 30));
}
