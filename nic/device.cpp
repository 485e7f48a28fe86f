#include "nic/device.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <new>

#include "runtime/asymmetric_fence.hpp"
#include "runtime/file_size.hpp"
#include "runtime/frame_check.hpp"

namespace netvm::nic {

namespace {

/// Where the parts lie, in bytes from the start. Each starts on a page of its own: none shares a page's fate with another.
struct Plan {
  std::uint64_t regions, counters, shadow, announced, areas, inbound, end;

  Plan(std::uint32_t nodes, std::uint64_t pages, std::uint64_t ring_bytes) {
    regions = up(sizeof(DeviceHeader));
    counters = regions + up(RegionTable::kBytes);
    shadow = counters + up(EventCounters::kBytes);
    announced = shadow + up(ShadowPageTable::bytes_needed(pages));
    areas = announced + up(nodes * sizeof(AnnouncementUse));
    inbound = areas + nodes * sizeof(AnnouncementArea);
    end = inbound + up(nodes * ring_bytes);
  }
  static std::uint64_t up(std::uint64_t bytes) { return (bytes + kPageSize - 1) / kPageSize * kPageSize; }
};

template <class T>
T* part(std::byte* memory, std::uint64_t offset) {
  return reinterpret_cast<T*>(memory + offset);
}

Status fail(std::string* why, Status status, std::string text) {
  if (why != nullptr) *why = std::move(text);
  return status;
}

Status check(const DeviceConfig& config, std::string* why) {
  if (config.nodes == 0 || config.node.value >= config.nodes) {
    return fail(why, Status::invalid, fmt::format("node {} of {} nodes cannot have a NIC", config.node.value, config.nodes));
  }
  if (config.pages == 0 || config.pages > UINT32_MAX) {
    return fail(why, Status::invalid, fmt::format("a NIC translates 1 to {} pages, not {}", UINT32_MAX, config.pages));
  }
  if (config.ring_bytes % kCacheLine != 0) {
    return fail(why, Status::invalid, fmt::format("an inbound area of {} bytes is not a multiple of a cache line", config.ring_bytes));
  }
  return Status::ok;
}

bool may_fence_lightly(const DeviceConfig& config) { return config.asymmetric_fences && AsymmetricFence::enrol(); }

/// Maps `bytes` of a file, shared; or private memory if fd is -1. Null on failure.
std::byte* map(int fd, std::uint64_t bytes) {
  const int flags = MAP_NORESERVE | (fd < 0 ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED);
  void* at = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, flags, fd, 0);
  return at == MAP_FAILED ? nullptr : static_cast<std::byte*>(at);
}

/// Whether the file is at least that long: touching a mapping past the end of its file is a SIGBUS.
bool long_enough(int fd, std::uint64_t bytes) {
  struct stat info {};
  return fstat(fd, &info) == 0 && static_cast<std::uint64_t>(info.st_size) >= bytes;
}

/// Empty if the header is what `want` says, else what differs.
std::string mismatch(const DeviceHeader& header, const DeviceConfig& want) {
  // acquire: partner is create()'s release
  if (header.magic.load(std::memory_order_acquire) != kDeviceMagic) return "it is not initialised";
  if (header.version != kDeviceVersion) return fmt::format("its version is {}, ours is {}", header.version, kDeviceVersion);
  if (header.node != want.node.value) return fmt::format("it says it is node {}", header.node);
  if (header.nodes != want.nodes) return fmt::format("it was made for {} nodes, this job has {}", header.nodes, want.nodes);
  if (header.pages != want.pages) return fmt::format("it translates {} pages, this job has {}", header.pages, want.pages);
  if (header.ring_bytes != want.ring_bytes) return fmt::format("its rings have {} bytes, ours {}", header.ring_bytes, want.ring_bytes);
  if (header.session != want.session) return "it belongs to another session";
  return {};
}

}  // namespace

/// A peer's frames, watched for accesses of this process to those that are not there.
struct Device::PeerFrames final : FrameWitness {
  explicit PeerFrames(const Device& peers) : device(peers) {}
  void describe_frame(PageId page, std::span<char> text) const noexcept override {
    std::array<char, 128> entry{};
    device.shadow_.describe(page, entry);
    (void)std::snprintf(text.data(), text.size(), "the page is node %u's, %s", device.node().value, entry.data());
  }
  const Device& device;
  std::unique_ptr<FrameCheck> check;
};

std::uint64_t Device::bytes_needed(std::uint32_t nodes, std::uint64_t pages, std::uint64_t ring_bytes) {
  return Plan(nodes, pages, ring_bytes).end;
}

Device::Device(const DeviceConfig& config, NodeId initiator, Mapping memory, Mapping own_frames, std::byte* frames)
    : config_(config),
      memory_(memory.at),
      bytes_(memory.bytes),
      own_frames_(own_frames),
      frames_(frames),
      regions_(part<RegionEntry>(memory.at, Plan(config.nodes, config.pages, config.ring_bytes).regions), config.node),
      counters_(part<EventCounter>(memory.at, Plan(config.nodes, config.pages, config.ring_bytes).counters),
                &part<DeviceHeader>(memory.at, 0)->marks, &part<DeviceHeader>(memory.at, 0)->doorbell),
      shadow_(shadow_entries(), config.pages, page_lock(initiator)) {}

Device::~Device() {
  checked_.reset();
  munmap(memory_, bytes_);
  if (own_frames_.at != nullptr) munmap(own_frames_.at, own_frames_.bytes);
}

Result<std::unique_ptr<Device>> Device::create(const DeviceConfig& config, int fd, std::byte* frames, std::string* why) {
  if (const Status status = check(config, why); !ok(status)) return status;
  const std::uint64_t bytes = bytes_needed(config.nodes, config.pages, config.ring_bytes);
  if (std::string limit; fd >= 0 && !fits_file_size_limit("the NIC's memory file", bytes, &limit))
    return fail(why, Status::exhausted, limit);
  // Truncating to nothing first makes a reused file read as zeros: what the tables start from.
  if (fd >= 0 && (ftruncate(fd, 0) != 0 || ftruncate(fd, static_cast<off_t>(bytes)) != 0)) {
    return fail(why, Status::exhausted, fmt::format("cannot give the NIC's memory file {} bytes: {}", bytes, std::strerror(errno)));
  }
  std::byte* memory = map(fd, bytes);
  if (memory == nullptr) {
    return fail(
        why, Status::exhausted,
        fmt::format("cannot map {} bytes for the NIC: {} (is the address space limited? see ulimit -v)", bytes, std::strerror(errno)));
  }
  auto* header = new (memory) DeviceHeader{};
  header->version = kDeviceVersion;
  header->node = config.node.value;
  header->nodes = config.nodes;
  header->light_fences = AsymmetricFence::available() && may_fence_lightly(config) ? 1 : 0;
  header->pages = config.pages;
  header->ring_bytes = config.ring_bytes;
  header->session = config.session;
  header->magic.store(kDeviceMagic, std::memory_order_release);  // release: partner is mismatch()'s acquire
  return std::unique_ptr<Device>(new Device(config, config.node, {memory, bytes}, {}, frames));
}

Result<std::unique_ptr<Device>> Device::attach(const DeviceConfig& config, NodeId initiator, int device_fd, int frames_fd,
                                               std::string* why) {
  if (const Status status = check(config, why); !ok(status)) return status;
  if (initiator.value >= config.nodes) {
    return fail(why, Status::invalid, fmt::format("node {} of {} nodes cannot use a NIC", initiator.value, config.nodes));
  }
  const std::uint64_t bytes = bytes_needed(config.nodes, config.pages, config.ring_bytes);
  const std::uint64_t frame_bytes = config.pages * kPageSize;
  if (!long_enough(device_fd, bytes)) {
    return fail(why, Status::invalid,
                fmt::format("the NIC memory of node {} is shorter than the {} bytes it needs", config.node.value, bytes));
  }
  if (!long_enough(frames_fd, frame_bytes)) {
    return fail(why, Status::invalid, fmt::format("the frames of node {} are shorter than {} bytes", config.node.value, frame_bytes));
  }
  std::byte* memory = map(device_fd, bytes);
  std::byte* frames = memory == nullptr ? nullptr : map(frames_fd, frame_bytes);
  if (frames == nullptr) {
    const int error = errno;
    if (memory != nullptr) munmap(memory, bytes);
    return fail(why, Status::exhausted,
                fmt::format("cannot map the memory of node {} ({} bytes): {} (is the address space limited? see ulimit -v)",
                            config.node.value, bytes + frame_bytes, std::strerror(error)));
  }
  const std::string difference = mismatch(*part<DeviceHeader>(memory, 0), config);
  if (!difference.empty()) {
    munmap(memory, bytes);
    munmap(frames, frame_bytes);
    return fail(why, Status::invalid, fmt::format("the NIC memory of node {} cannot be used: {}", config.node.value, difference));
  }
  std::unique_ptr<Device> device(new Device(config, initiator, {memory, bytes}, {frames, frame_bytes}, frames));
  if (config.check_frames) {
    device->checked_ = std::make_unique<PeerFrames>(*device);
    std::string refused;
    auto check = FrameCheck::watch(frames, frame_bytes, *device->checked_, &refused);
    if (!check) return fail(why, check.status(), std::move(refused));
    device->checked_->check = std::move(check).value();
  }
  return device;
}

std::atomic<std::uint64_t>* Device::shadow_entries() const {
  return part<std::atomic<std::uint64_t>>(memory_, Plan(config_.nodes, config_.pages, config_.ring_bytes).shadow);
}

AnnouncedPageLock Device::page_lock(NodeId initiator) const {
  const Plan plan(config_.nodes, config_.pages, config_.ring_bytes);
  const bool light = part<DeviceHeader>(memory_, 0)->light_fences != 0 && may_fence_lightly(config_);
  return {shadow_entries(),
          {part<AnnouncementUse>(memory_, plan.announced), part<AnnouncementArea>(memory_, plan.areas), config_.nodes},
          initiator,
          light ? AnnouncedPageLock::Fence::light : AnnouncedPageLock::Fence::full};
}

std::span<std::byte> Device::inbound(NodeId source) const {
  const Plan plan(config_.nodes, config_.pages, config_.ring_bytes);
  return {memory_ + plan.inbound + source.value * config_.ring_bytes, config_.ring_bytes};
}

}  // namespace netvm::nic
