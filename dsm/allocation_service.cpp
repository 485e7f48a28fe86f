#include "dsm/allocation_service.hpp"

#include <mutex>
#include <utility>
#include <vector>

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

// ---- questions, to node 0 mostly ---------------------------------------------------------------------------------------------------

void AllocationService::send(NodeId to, const AllocationMessage& message) {
  nic_.send(to, nic::MessageKind::dsm_allocator, encode(message));
}

Status AllocationService::ask(NodeId whom, AllocationMessage question, Reply* reply) {
  {
    const std::scoped_lock guard(lock_);
    question.id = next_id_++;
    asked_.emplace(question.id, std::nullopt);
  }
  send(whom, question);
  // Looked at again and again, also after it was true once: it only looks.
  const auto answered = [&] {
    const std::scoped_lock guard(lock_);
    return asked_.find(question.id)->second.has_value() || dead_.contains(whom);
  };
  std::optional<sync::Waits::Scope> told;
  if (waits_ != nullptr) told.emplace(*waits_, sync::Wait{"allocation", sync::answer_object(whom), 0, env_.now()});
  Status status = nic_.wait_until(answered_, answered);
  told.reset();
  const std::scoped_lock guard(lock_);
  const auto it = asked_.find(question.id);
  if (ok(status) && !it->second) status = Status::peer_dead;
  if (ok(status)) *reply = std::move(*it->second);
  asked_.erase(it);
  return ok(status) ? reply->message.status : status;
}

Status AllocationService::ask_the_living(const AllocationMessage& question, Reply* reply) {
  for (std::uint32_t node = 0; node < nic_.nodes(); ++node) {
    if (NodeId{node} == nic_.node() || dead().contains(NodeId{node})) continue;
    const Status status = ask(NodeId{node}, question, reply);
    if (ok(status) && reply->message.found != 0) return status;
    if (!ok(status) && status != Status::peer_dead) return status;
  }
  return Status::peer_dead;
}

Result<Allocation> AllocationService::allocate(const AllocRequest& request, std::string* why) {
  AllocationMessage question;
  question.kind = AllocationKind::allocate;
  question.request = request;
  Reply reply;
  const Status status = ask(kHome, question, &reply);
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
  return ask(kHome, question, &reply);
}

Result<Extent> AllocationService::describe(PageId page) {
  AllocationMessage question;
  question.kind = AllocationKind::describe;
  question.offset = page.value;
  Reply reply;
  Status status = ask(kHome, question, &reply);
  if (status == Status::peer_dead) status = ask_the_living(question, &reply);
  if (!ok(status)) return status;
  if (reply.message.found == 0) return Status::invalid;
  return reply.message.extent;
}

std::optional<NodeId> AllocationService::ask_home(PageId page) {
  AllocationMessage question;
  question.kind = AllocationKind::home;
  question.offset = page.value;
  Reply reply;
  if (!ok(ask_the_living(question, &reply)) || reply.message.used >= nic_.nodes()) return std::nullopt;
  return NodeId{static_cast<std::uint32_t>(reply.message.used)};
}

void AllocationService::answer_what_is_known(NodeId from, const AllocationMessage& question) {
  AllocationMessage answer;
  answer.kind = AllocationKind::reply;
  answer.id = question.id;
  const PageId page{question.offset};
  if (!shared_.contains(page)) return send(from, answer);
  if (question.kind == AllocationKind::describe) {
    const std::optional<Extent> extent = keeper_.known_extent(page);
    answer.found = extent ? 1 : 0;
    if (extent) answer.extent = *extent;
  } else {
    const std::optional<NodeId> home = keeper_.known_home(page);
    answer.found = home ? 1 : 0;
    if (home) answer.used = home->value;
  }
  send(from, answer);
}

AllocationService::Usage AllocationService::usage() {
  AllocationMessage question;
  question.kind = AllocationKind::usage;
  Reply reply;
  if (!ok(ask(kHome, question, &reply))) return {};
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
  const auto drained = drains_.insert_or_assign(order.extent.serial, Drain{order.extent, {}}).first;
  const DeadNodes gone = dead();
  AllocationMessage drain;
  drain.kind = AllocationKind::drain;
  drain.extent = order.extent;
  for (std::uint32_t node = 0; node < nic_.nodes(); ++node) {
    if (NodeId{node} == nic_.node() || gone.contains(NodeId{node})) continue;
    drained->second.awaited.add(NodeId{node});
    send(NodeId{node}, drain);
  }
  go_on(drained);
}

void AllocationService::go_on(std::map<std::uint64_t, Drain>::iterator drain) {
  if (!drain->second.awaited.empty()) return;
  const Extent extent = drain->second.extent;
  drains_.erase(drain);
  in_task(&ExtentKeeper::withdraw, extent, AllocationKind::quiesced);
}

void AllocationService::in_task(void (ExtentKeeper::*work)(const Extent&), const Extent& extent, AllocationKind answer_kind) {
  // Closed: the job ends, and nobody will be handed the pages.
  (void)tasks_.spawn([this, work, extent, answer_kind] {
    (keeper_.*work)(extent);
    answer(answer_kind, extent);
  });
}

void AllocationService::close() { tasks_.close(); }

// ---- deaths ----------------------------------------------------------------------------------------------------------------------

void AllocationService::note_dead(NodeId node) {
  {
    const std::scoped_lock guard(lock_);
    dead_.add(node);
  }
  answered_.announce(env_);
}

void AllocationService::declare_dead(NodeId node) {
  note_dead(node);
  AllocationMessage message;  // what handlers alone may change is changed by one
  message.kind = AllocationKind::died;
  message.id = node.value;
  send(nic_.node(), message);
}

DeadNodes AllocationService::dead() const {
  const std::scoped_lock guard(lock_);
  return dead_;
}

void AllocationService::no_longer_await(NodeId node) {
  dsm::no_longer_await(drains_, node, [this](auto drain) { go_on(drain); });
  if (home_ != nullptr) home_->declare_dead(node);
}

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
      if (it == drains_.end()) return;
      it->second.awaited.remove(from);
      return go_on(it);
    }
    case AllocationKind::home:
      return answer_what_is_known(from, message);
    case AllocationKind::died:
      if (from == nic_.node()) no_longer_await(NodeId{message.id});
      return;
    default:
      message.request.dead.add(dead());
      if (home_ != nullptr) return home_->handle(from, message);
      if (message.kind == AllocationKind::describe) answer_what_is_known(from, message);
  }
}

}  // namespace netvm::dsm
