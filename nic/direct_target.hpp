// What a verb looks at first of a target: one line, so that a request that may go directly finds its way in two steps (this, the region's entry), whatever
// the caches hold. Each step more that leads through another line costs a long copy its time again and again: it drives them all out.
//
// Invariants
//  1. `view` is the device's from before `device` is first shown on, and never changes again.
//  2. device != nullptr: the direct way is open. Who closes it (death, end, fork) stores null, after what closes it for find_device().
//  3. outstanding counts the requests that are on their way to the target as packets (RequestTable): 0 lets the channel use the direct way.
// Threads: any.
#pragma once

#include <atomic>
#include <cstdint>

#include "nic/device.hpp"

namespace netvm::nic {

struct alignas(kCacheLine) DirectTarget {
  std::atomic<Device*> device{nullptr};
  std::atomic<std::uint32_t> outstanding{0};
  DeviceView view;

  /// The device, if a request may go directly now and nothing has to be looked up.
  [[nodiscard]] Device* open() const {
    Device* const found = device.load(std::memory_order_acquire);               // acquire: partner is find_device()'s release
    return outstanding.load(std::memory_order_acquire) == 0 ? found : nullptr;  // acquire: partner is take()'s release, after the answer
  }
};
static_assert(sizeof(DirectTarget) == kCacheLine);

}  // namespace netvm::nic
