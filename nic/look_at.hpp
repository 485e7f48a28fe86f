// A look at what a read would bring, by who is going to read it and has to wait for something else first.
//
// Most of a page's copy between two nodes of a host is its lines' way from one processor to the other. Who looks while it waits has them near when it may copy.
#pragma once

#include <cstddef>
#include <cstdint>

#include "nic/nic.hpp"

namespace netvm::nic {

/// Brings what a read() of these bytes would copy into the caches of the calling thread's processor, as far as that takes neither packets nor waiting. A hint: what
/// it has seen may be old when somebody reads, and nothing is counted. Any thread.
void look_at(Nic& nic, const RemoteRegion& from, std::uint64_t offset, std::size_t bytes);

}  // namespace netvm::nic
