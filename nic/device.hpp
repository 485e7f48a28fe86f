// Device: one node's NIC as memory. Its region table, event counters, shadow page table and inbound rings lie in one mapping (a memfd
// that peers on the host map too, or private memory), beside the node's frames. It holds no behaviour: Firmware works on it.
//
//   header | region table | event counters | shadow page table (8 bytes a page, sparse) | announced page locks of each initiating node |
//   inbound area of each source node
//
// Invariants
//  1. The owner writes the header's magic last: who sees it sees an initialised device.
//  2. Everything in it is position independent (indices, no pointers) and atomic; each word that two processes write has a cache line
//     of its own, except the entries of the shadow page table and the counters' marks.
//  3. The tables' sizes follow from (nodes, pages, ring bytes) alone; an attaching peer checks them against the job's, then against the file.
//  4. The inside of an inbound area belongs to the shm fabric. It is zero when the device is created.
//  5. Page locks are attributed to the node for which a process maps the device, so release_dead() can end those of a node that has died.
//     Everything else that an initiator changes is one word at a time: a node that dies between two of its words leaves no half of a third.
// Threads: all members are const after creation; the tables synchronise themselves.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "nic/doorbell.hpp"
#include "nic/event_counter.hpp"
#include "nic/region_table.hpp"
#include "nic/shadow_page_table.hpp"
#include "runtime/env.hpp"
#include "runtime/ids.hpp"
#include "runtime/status.hpp"

namespace netvm::nic {

/// First bytes of the device memory.
struct DeviceHeader {
  std::atomic<std::uint64_t> magic;  ///< kDeviceMagic once everything else is in place
  std::uint32_t version;
  std::uint32_t node;
  std::uint32_t nodes;
  std::uint32_t light_fences;  ///< 1: the owner fences heavily where it must, so that initiators that have enrolled need not
  std::uint64_t pages;
  std::uint64_t ring_bytes;
  std::uint64_t session;
  /// Where a thread of the owner's was when it last waited or let others go on: the processor plus 1 (0: not known), and above these 16 bits a count of that.
  std::atomic<std::uint64_t> processor;
  Doorbell doorbell;   ///< where senders say that a ring has something, and this node's sleepers are woken; the fabric's
  CounterMarks marks;  ///< where initiators say that an event counter has reached what the owner waits for
};
inline constexpr std::uint64_t kDeviceMagic = 0x4349'4e4d'5654'454eULL;  // "NETVMNIC"
inline constexpr std::uint32_t kDeviceVersion = 5;

struct DeviceConfig {
  NodeId node{};  ///< whose device it is
  std::uint32_t nodes = 1;
  std::uint64_t pages = 0;       ///< of the global range
  std::uint64_t ring_bytes = 0;  ///< inbound area per source node; a multiple of kCacheLine
  std::uint64_t session = 1;
  bool asymmetric_fences = true;  ///< use them where the kernel has them; false: as if it had not
  bool check_frames = false;      ///< attach(): see HostVmConfig::check_frames, for the peer's frames
};

/// What a firmware step looks at in the common case, by value: none of it changes while the device is there.
struct DeviceView {
  const RegionEntry* regions = nullptr;
  AnnouncedPageLock::View page_lock;
  std::byte* frames = nullptr;
  std::uint64_t pages = 0;
};

class Device final {
 public:
  /// Size of the device memory. Sparse: untouched parts cost nothing.
  static std::uint64_t bytes_needed(std::uint32_t nodes, std::uint64_t pages, std::uint64_t ring_bytes);

  /// Makes this node's own device over `fd` (a memfd, resized to bytes_needed(); stays the caller's; -1: private memory) and
  /// its frames (HostVm::frame_base()). On failure *why says what and what to do.
  static Result<std::unique_ptr<Device>> create(const DeviceConfig& config, int fd, std::byte* frames, std::string* why = nullptr);

  /// Maps a peer's device and frames (memfds that stay the caller's), for accesses of node `initiator`, which is this process and no other.
  /// Everything is checked: sizes of both files, magic, version, node, nodes, pages, ring bytes and session must be `config`'s.
  static Result<std::unique_ptr<Device>> attach(const DeviceConfig& config, NodeId initiator, int device_fd, int frames_fd,
                                                std::string* why = nullptr);

  ~Device();
  Device(const Device&) = delete;
  Device& operator=(const Device&) = delete;

  [[nodiscard]] NodeId node() const { return config_.node; }
  [[nodiscard]] std::uint32_t nodes() const { return config_.nodes; }
  [[nodiscard]] std::uint64_t pages() const { return config_.pages; }
  [[nodiscard]] std::uint64_t ring_bytes() const { return config_.ring_bytes; }
  [[nodiscard]] std::uint64_t session() const { return config_.session; }

  [[nodiscard]] DeviceHeader& header() { return *reinterpret_cast<DeviceHeader*>(memory_); }
  [[nodiscard]] RegionTable& regions() { return regions_; }
  [[nodiscard]] EventCounters& counters() { return counters_; }
  [[nodiscard]] ShadowPageTable& shadow() { return shadow_; }
  [[nodiscard]] const ShadowPageTable& shadow() const { return shadow_; }
  [[nodiscard]] std::byte* frames() const { return frames_; }
  [[nodiscard]] DeviceView view() const { return {regions_.entries(), shadow_.page_lock().view(), frames_, config_.pages}; }
  /// The words of the shadow page table, for measuring other ways to lock its pages.
  [[nodiscard]] std::atomic<std::uint64_t>* shadow_entries() const;
  /// For the owner: ends the page locks of a node that has died. None of its threads may be running any more.
  void release_dead(NodeId node) { shadow_.page_lock().release_dead(node); }
  /// The area for packets of `source` to this node; ring_bytes() long, page aligned if ring_bytes() is a multiple of the page.
  [[nodiscard]] std::span<std::byte> inbound(NodeId source) const;

 private:
  struct Mapping {
    std::byte* at = nullptr;
    std::uint64_t bytes = 0;
  };
  struct PeerFrames;
  Device(const DeviceConfig& config, NodeId initiator, Mapping memory, Mapping own_frames, std::byte* frames);
  [[nodiscard]] AnnouncedPageLock page_lock(NodeId initiator) const;

  DeviceConfig config_;
  std::byte* memory_;
  std::uint64_t bytes_;
  Mapping own_frames_;  // what the destructor unmaps: a peer's frames; nothing for the node's own
  std::byte* frames_;
  RegionTable regions_;
  EventCounters counters_;
  ShadowPageTable shadow_;
  std::unique_ptr<PeerFrames> checked_;  // with DeviceConfig::check_frames
};

}  // namespace netvm::nic
