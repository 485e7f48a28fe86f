// netvm::place(): which nodes keep what all must know of synchronisation objects.
#include <fmt/format.h>

#include <system_error>

#include "dsm/api/job_runtime.hpp"

namespace netvm::detail {

sync::HomeRule home_rule(const Placement& placement, std::size_t thing_bytes) {
  using Kind = sync::HomeRule::Kind;
  switch (placement.kind) {
    case Placement::Kind::at_node:
      return {Kind::at, NodeId{static_cast<std::uint32_t>(placement.node)}, thing_bytes};
    case Placement::Kind::cyclic:
      return {Kind::cyclic, NodeId{0}, thing_bytes};
    case Placement::Kind::block:
      return {Kind::block, NodeId{0}, thing_bytes};
    case Placement::Kind::first_touch:
      break;
  }
  return {};
}

std::string_view why_not_placed(Status status) {
  switch (status) {
    case Status::invalid:
      return "threads of several nodes want one of them just now, or another thread places it: place them before they are used";
    case Status::exhausted:
      return "the lock table of a node is full: spread them over nodes, or raise NETVM_ADDRESS_SPACE";
    case Status::peer_dead:
      return "that node has died";
    default:
      return describe(status);
  }
}

void place(const void* first, std::size_t bytes, std::size_t stride, const Placement& placement) {
  Runtime& rt = Runtime::current("netvm: place()");
  const auto refuse = [&](std::errc code, std::string_view why) {
    throw std::system_error(std::make_error_code(code), fmt::format("netvm: place() of {} bytes at {}: {}", bytes, fmt::ptr(first), why));
  };
  if (bytes == 0) return;
  std::uint64_t offset = 0;
  std::uint64_t last = 0;
  const bool shared = rt.offset_of(first, &offset) && rt.offset_of(static_cast<const std::byte*>(first) + bytes - 1, &last) &&
                      rt.dsm->size_of(offset) && rt.dsm->size_of(last);
  if (!shared)
    refuse(std::errc::operation_not_permitted, "not in allocated shared memory: synchronisation objects live in memory of Job::allocate()");
  const bool names_node = placement.kind == Placement::Kind::at_node;
  if (names_node && (placement.node < 0 || static_cast<std::uint32_t>(placement.node) >= rt.boot->nodes()))
    refuse(std::errc::invalid_argument,
           fmt::format("there is no node {}; the job has nodes 0 to {}", placement.node, rt.boot->nodes() - 1));
  switch (const Status status = rt.sync->place({offset, bytes}, home_rule(placement, stride))) {
    case Status::ok:
      return;
    case Status::invalid:
      return refuse(std::errc::device_or_resource_busy, why_not_placed(status));
    case Status::exhausted:
      return refuse(std::errc::no_lock_available, why_not_placed(status));
    case Status::peer_dead:
      return refuse(std::errc::owner_dead, why_not_placed(status));
    default:
      return refuse(std::errc::operation_canceled, "the job ends");
  }
}

}  // namespace netvm::detail
