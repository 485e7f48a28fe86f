#include "dsm/allocation_service.hpp"

#include <mutex>
#include <utility>

#include "runtime/check.hpp"

namespace netvm::dsm {

namespace {
constexpr NodeId kHome{0};
}

AllocationService::AllocationService(PageRange shared, Env& env, nic::Nic& nic, ExtentKeeper& keeper)
    : shared_(shared), env_(env), nic_(nic), keeper_(keeper), tasks_(env) {
  if (nic.node() == kHome) home_ = std::make_unique<AllocationHome>(shared, nic);
  nic.set_message_handler(nic::MessageKind::dsm_allocator, this);
}

AllocationService::~AllocationService() { nic_.set_message_handler(nic::MessageKind::dsm_allocator, nullptr); }

// ---- questions to node 0 ---------------------------------------------------------------------------------------------------

void AllocationService::send(NodeId to, const AllocationMessage& message) {
  nic_.send(to, nic::MessageKind::dsm_allocator, encode(message));
}

Status AllocationService::ask(AllocationMessage question, Reply* reply) {
  {
    const std::scoped_lock guard(lock_);
    question.id = next_id_++;
    asked_.emplace(question.id, std::nullopt);
  }
  send(kHome, question);
  // Looked at again and again, also after it was true once: it only looks.
  const auto answered = [&] {
    const std::scoped_lock guard(lock_);
    return asked_.find(question.id)->second.has_value();
  };
  const Status status = nic_.wait_until(answered_, answered);
  const std::scoped_lock guard(lock_);
  const auto it = asked_.find(question.id);
  if (ok(status)) *reply = std::move(*it->second);
  asked_.erase(it);
  return ok(status) ? reply->message.status : status;
}

Result<Allocation> AllocationService::allocate(const AllocRequest& request, std::string* why) {
  AllocationMessage question;
  question.kind = AllocationKind::allocate;
  question.request = request;
  Reply reply;
  const Status status = ask(question, &reply);
  if (!ok(status)) {
    if (why != nullptr) *why = reply.text.empty() ? std::string(netvm::describe(status)) : reply.text;
    return status;
  }
  return Allocation{reply.message.offset, reply.message.extent};
}

Status AllocationService::free(std::uint64_t offset) {
  AllocationMessage question;
  question.kind = AllocationKind::free;
  question.offset = offset;
  Reply reply;
  return ask(question, &reply);
}

std::optional<Extent> AllocationService::describe(PageId page) {
  AllocationMessage question;
  question.kind = AllocationKind::describe;
  question.offset = page.value;
  Reply reply;
  if (!ok(ask(question, &reply)) || reply.message.found == 0) return std::nullopt;
  return reply.message.extent;
}

AllocationService::Usage AllocationService::usage() {
  AllocationMessage question;
  question.kind = AllocationKind::usage;
  Reply reply;
  if (!ok(ask(question, &reply))) return {};
  return {reply.message.used, reply.message.available};
}

// ---- retirement ----------------------------------------------------------------------------------------------------------------

void AllocationService::answer(AllocationKind kind, const Extent& extent) {
  AllocationMessage message;
  message.kind = kind;
  message.extent = extent;
  send(kHome, message);
}

void AllocationService::quiesce(const AllocationMessage& order) {
  keeper_.forget(order.extent);
  if (!keeper_.needs_drain(order.extent)) return in_task(&ExtentKeeper::withdraw, order.extent, AllocationKind::quiesced);
  if (nic_.nodes() == 1) return answer(AllocationKind::quiesced, order.extent);
  drains_[order.extent.serial] = {order.extent, nic_.nodes() - 1};
  AllocationMessage drain;
  drain.kind = AllocationKind::drain;
  drain.extent = order.extent;
  for (std::uint32_t node = 0; node < nic_.nodes(); ++node) {
    if (NodeId{node} != nic_.node()) send(NodeId{node}, drain);
  }
}

void AllocationService::in_task(void (ExtentKeeper::*work)(const Extent&), const Extent& extent, AllocationKind answer_kind) {
  // Closed: the job ends, and nobody will be handed the pages.
  (void)tasks_.spawn([this, work, extent, answer_kind] {
    (keeper_.*work)(extent);
    answer(answer_kind, extent);
  });
}

void AllocationService::close() { tasks_.close(); }

void AllocationService::on_message(NodeId from, std::span<const std::byte> body) noexcept {
  Reply received;
  AllocationMessage& message = received.message;
  if (!decode(body, nic_.nodes(), shared_, &message, &received.text)) return;  // malformed: not from a node of this version
  switch (message.kind) {
    case AllocationKind::reply: {
      {
        const std::scoped_lock guard(lock_);
        const auto it = asked_.find(message.id);
        if (it == asked_.end()) return;
        it->second = std::move(received);
      }
      answered_.announce(env_);
      return;
    }
    case AllocationKind::quiesce:
      return quiesce(message);
    case AllocationKind::detach:
      return in_task(&ExtentKeeper::detach, message.extent, AllocationKind::detached);
    case AllocationKind::drain:
      message.kind = AllocationKind::drained;
      return send(from, message);
    case AllocationKind::drained: {
      const auto it = drains_.find(message.extent.serial);
      if (it == drains_.end() || --it->second.awaited != 0) return;
      const Extent extent = it->second.extent;
      drains_.erase(it);
      return answer(AllocationKind::quiesced, extent);
    }
    default:
      if (home_ != nullptr) home_->handle(from, message);
  }
}

}  // namespace netvm::dsm
