// The node's NIC itself, for programs that want more of it than netvm.hpp's put(), get(), EventCounter and Transfers: queue pairs with many operations in
// flight, handlers, triggered operations, regions with keys and rights, vectored writes, and a status instead of an exception. What it promises:
// docs/nic.md; each function: nic/nic.hpp, nic/queue_pair.hpp, nic/verbs.hpp beside this file.
//
//  - These are lower-level interfaces: they may change with a minor version, where netvm.hpp does not.
//  - Nothing here is coherent. Memory of Job::symmetric_all() is the place for it; memory of allocate() belongs to its protocol.
//  - shut_down(), close(), declare_dead(), set_message_handler() and set_peer_lost_listener() are the job's: leave them alone.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <vector>

#include "netvm/netvm.hpp"
#include "nic/nic.hpp"
#include "nic/queue_pair.hpp"

namespace netvm {

namespace detail {
/// Every node's bytes, by node, one behind the other.
std::vector<std::byte> exchange_bytes(const void* mine, std::size_t bytes);
}  // namespace detail

/// This node's NIC. Lives as long as the job; every function may be called from any thread.
[[nodiscard]] nic::Nic& nic_of(Job& job);

/// Node `node`'s symmetric memory as work requests name it, with all rights. Throws Error: no such node.
[[nodiscard]] nic::RemoteRegion symmetric_region(Job& job, int node);
/// The pages of this node's symmetric memory in which [address, address + bytes) lies: what Nic::region_create() takes. A region is whole pages, and its
/// offset 0 is the first byte of the first: what else lies in them is opened, too, so give the memory the alignment of a page (a type that is alignas(4096)).
/// Throws Error: no bytes, or not all of them memory of Job::symmetric_all(). Of other pages no region is created (Status::reserved): those of
/// Job::allocate() belong to their protocol.
[[nodiscard]] PageRange pages_of(Job& job, const void* address, std::size_t bytes);
/// Where an address of Job::symmetric_all()'s memory lies in that region; the same on every node. Throws Error: [address, address + bytes) is
/// not all there.
[[nodiscard]] std::uint64_t symmetric_offset(Job& job, const void* address, std::size_t bytes = 1);

/// Everybody's value, by node: how event counters and regions become known to those who may use them. Collective, outside of parallel(),
/// and through the launcher: a node that comes --start-timeout (30 s) after another ends the job.
template <class T>
[[nodiscard]] std::vector<T> exchange(Job& /*job*/, const T& mine) {
  static_assert(std::is_trivially_copyable_v<T>, "what is exchanged is copied byte by byte");
  const std::vector<std::byte> all = detail::exchange_bytes(&mine, sizeof mine);
  std::vector<T> values(all.size() / sizeof(T));
  std::memcpy(values.data(), all.data(), all.size());
  return values;
}

}  // namespace netvm
