// netvm/nic.hpp: the NIC of the job, for programs.
#include "netvm/nic.hpp"

#include <fmt/format.h>

#include "dsm/api/job_runtime.hpp"

namespace netvm {

using detail::Runtime;

nic::Nic& nic_of(Job& /*job*/) { return *Runtime::current("nic_of").nic; }

nic::RemoteRegion symmetric_region(Job& /*job*/, int node) {
  const Runtime& rt = Runtime::current("symmetric_region");
  if (node < 0 || static_cast<std::size_t>(node) >= rt.symmetric.size())
    throw Error(fmt::format("netvm: symmetric_region: there is no node {}; the job has nodes 0 to {}", node, rt.symmetric.size() - 1));
  return rt.symmetric[static_cast<std::size_t>(node)];
}

std::uint64_t symmetric_offset(Job& job, const void* address, std::size_t bytes) {
  return detail::symmetric_offset(Runtime::current("symmetric_offset"), address, bytes, job.node(), "symmetric_offset");
}

PageRange pages_of(Job& job, const void* address, std::size_t bytes) {
  if (bytes == 0) throw Error(fmt::format("netvm: pages_of: 0 bytes at {} lie in no page", fmt::ptr(address)));
  const Runtime& rt = Runtime::current("pages_of");
  const std::uint64_t begin =
      rt.layout.symmetric.first.value * kPageSize + detail::symmetric_offset(rt, address, bytes, job.node(), "pages_of");
  return {PageId{begin / kPageSize}, (begin + bytes - 1) / kPageSize - begin / kPageSize + 1};
}

std::vector<std::byte> detail::exchange_bytes(const void* mine, std::size_t bytes) {
  if (inside_section()) throw Error("netvm: exchange() is called outside of parallel()");
  const auto all = Runtime::current("exchange").exchange_all({static_cast<const std::byte*>(mine), bytes});
  std::vector<std::byte> whole;
  whole.reserve(all.size() * bytes);
  for (const std::vector<std::byte>& one : all) {
    if (one.size() != bytes)
      throw Error("netvm: exchange(): the nodes exchange values of different sizes: a collective call that not all make alike");
    whole.insert(whole.end(), one.begin(), one.end());
  }
  return whole;
}

}  // namespace netvm
