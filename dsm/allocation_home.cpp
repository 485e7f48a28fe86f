#include "dsm/allocation_home.hpp"

#include <string>
#include <utility>
#include <vector>

namespace netvm::dsm {

void AllocationHome::handle(NodeId from, const AllocationMessage& message) {
  switch (message.kind) {
    case AllocationKind::allocate:
      return allocate(from, message);
    case AllocationKind::free:
      return free(from, message);
    case AllocationKind::describe:
      return describe(from, message);
    case AllocationKind::usage:
      return usage(from, message);
    case AllocationKind::quiesced:
    case AllocationKind::detached:
      return step_done(from, message);
    default:
      return;
  }
}

void AllocationHome::reply(NodeId to, const AllocationMessage& request, AllocationMessage answer, std::string_view text) {
  answer.kind = AllocationKind::reply;
  answer.id = request.id;
  nic_.send(to, nic::MessageKind::dsm_allocator, encode(answer, text));
}

void AllocationHome::allocate(NodeId from, const AllocationMessage& message) {
  if (dead_.contains(from)) return;  // it waited for room
  const AllocRequest& request = message.request;
  AllocationMessage answer;
  if (request.placement == Placement::at_node && request.dead.contains(NodeId{request.home})) {
    answer.status = Status::invalid;
    return reply(from, message, answer, "placement at node " + std::to_string(request.home) + ": that node has died");
  }
  const Result<Allocation> result = allocator_.allocate(request);
  if (result) {
    answer.offset = result->offset;
    answer.extent = result->extent;
    return reply(from, message, answer);
  }
  if (result.status() == Status::exhausted && allocator_.retiring()) {
    waiting_.push_back({from, message});
    return;
  }
  answer.status = result.status();
  reply(from, message, answer, result.status() == Status::exhausted ? allocator_.explain_exhaustion(message.request) : std::string{});
}

void AllocationHome::free(NodeId from, const AllocationMessage& message) {
  const Result<std::optional<Extent>> result = allocator_.free(message.offset);
  AllocationMessage answer;
  answer.status = result ? Status::ok : result.status();
  reply(from, message, answer);
  if (!result || !result->has_value()) return;
  const Extent extent = **result;
  Retirement& retirement = retirements_[extent.serial];
  retirement.extent = extent;
  begin_step(retirement, AllocationKind::quiesce);
}

void AllocationHome::describe(NodeId from, const AllocationMessage& message) {
  const std::optional<Extent> extent = allocator_.describe(PageId{message.offset});
  AllocationMessage answer;
  answer.found = extent.has_value() ? 1 : 0;
  if (extent) answer.extent = *extent;
  reply(from, message, answer);
}

void AllocationHome::usage(NodeId from, const AllocationMessage& message) {
  AllocationMessage answer;
  answer.used = allocator_.used_bytes();
  answer.available = allocator_.free_bytes();
  reply(from, message, answer);
}

void AllocationHome::begin_step(Retirement& retirement, AllocationKind step) {
  retirement.step = step;
  AllocationMessage order;
  order.kind = step;
  order.extent = retirement.extent;
  const std::vector<std::byte> wire = encode(order);
  for (std::uint32_t node = 0; node < nic_.nodes(); ++node) {
    if (!dead_.contains(NodeId{node})) retirement.awaited.add(NodeId{node});
  }
  retirement.awaited.for_each([&](NodeId node) { nic_.send(node, nic::MessageKind::dsm_allocator, wire); });
}

void AllocationHome::step_done(NodeId from, const AllocationMessage& message) {
  const auto it = retirements_.find(message.extent.serial);
  if (it == retirements_.end()) return;
  Retirement& retirement = it->second;
  const auto expected = retirement.step == AllocationKind::quiesce ? AllocationKind::quiesced : AllocationKind::detached;
  if (message.kind != expected) return;
  retirement.awaited.remove(from);
  go_on(it);
}

void AllocationHome::go_on(std::map<std::uint64_t, Retirement>::iterator it) {
  Retirement& retirement = it->second;
  if (!retirement.awaited.empty()) return;
  if (retirement.step == AllocationKind::quiesce) return begin_step(retirement, AllocationKind::detach);
  const Status status = allocator_.finish_retirement(retirement.extent.serial);
  NETVM_CHECK(ok(status), "an extent was retired twice");
  retirements_.erase(it);
  for (const Waiting& waiting : std::exchange(waiting_, {})) allocate(waiting.from, waiting.message);
}

void AllocationHome::declare_dead(NodeId node) {
  dead_.add(node);
  dsm::no_longer_await(retirements_, node, [this](auto retirement) { go_on(retirement); });
}

}  // namespace netvm::dsm
