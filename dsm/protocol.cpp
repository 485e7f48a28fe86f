#include "dsm/protocol.hpp"

#include "runtime/check.hpp"

namespace netvm::dsm {

std::string_view to_string(Consistency consistency) {
  switch (consistency) {
    case Consistency::sequential:
      return "sequential consistency";
    case Consistency::release:
      return "release consistency";
    case Consistency::scope:
      return "scope consistency";
    case Consistency::entry:
      return "entry consistency";
  }
  return "?";
}

void Protocol::on_message(NodeId from, std::span<const std::byte>) {
  NETVM_CHECK(false, "node %u sent a message to protocol %s, which has none", from.value, traits().name.data());
}

Departure Protocol::on_evict(PageId) { return Departure::save; }
void Protocol::on_read_ahead(std::span<const PageId>) {}
void Protocol::before_unlock(SyncId) {}
void Protocol::on_release(SyncId) {}
void Protocol::append_acquire_request(SyncId, Bytes&) {}
void Protocol::append_grant(SyncId, NodeId, std::span<const std::byte>, Bytes&) {}
void Protocol::on_acquire(SyncId, NodeId, std::span<const std::byte>) {}
void Protocol::on_barrier_arrive(Bytes&) {}
void Protocol::on_barrier_merge(Bytes&, std::span<const std::byte>) {}
void Protocol::on_barrier_leave(std::span<const std::byte>) {}
void Protocol::on_death(NodeId) {}
void Protocol::bind(SyncId, std::uint64_t, std::uint64_t) {}
void Protocol::on_attach(PageRange) {}
void Protocol::on_retire(PageRange) {}

}  // namespace netvm::dsm
