#include "nic/request_table.hpp"

#include <mutex>
#include <utility>

#include "runtime/check.hpp"

namespace netvm::nic {

struct RequestTable::Operation {
  Completion* completion = nullptr;
  std::uint32_t left = 0;
  Status status = Status::ok;
  std::uint64_t old_value = 0;
};

RequestTable::RequestTable(std::span<DirectTarget> targets) : targets_(targets), refuse_(targets.size(), Status::ok) {}
RequestTable::~RequestTable() = default;

RequestTable::Operation* RequestTable::open(Completion* completion, std::uint32_t requests) {
  NETVM_CHECK(requests > 0, "an operation without requests would never end");
  const std::lock_guard guard(lock_);
  if (free_operations_.empty()) {
    operations_.push_back(std::make_unique<Operation>());
    free_operations_.push_back(operations_.back().get());
  }
  Operation* operation = free_operations_.back();
  free_operations_.pop_back();
  *operation = {completion, requests, Status::ok, 0};
  return operation;
}

std::uint64_t RequestTable::issue(const Request& request, Status* refused) {
  const std::lock_guard guard(lock_);
  if (const Status refuse = refuse_[request.target.value]; !ok(refuse)) {
    *refused = refuse;
    return 0;
  }
  if (free_slots_.empty()) {
    free_slots_.push_back(static_cast<std::uint32_t>(slots_.size()));
    slots_.emplace_back();
  }
  const std::uint32_t index = free_slots_.back();
  free_slots_.pop_back();
  Slot& slot = slots_[index];
  slot.request = request;
  slot.used = true;
  if (++slot.generation == 0) slot.generation = 1;  // an id is never 0
  std::atomic<std::uint32_t>& outstanding = targets_[request.target.value].outstanding;
  // relaxed, both: changed under the lock only, and seen by this thread's later work, which is what order is promised for
  outstanding.store(outstanding.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);  // relaxed, both: as above
  return std::uint64_t{slot.generation} << 32 | index;
}

RequestTable::Request RequestTable::release(std::uint32_t index) {
  Slot& slot = slots_[index];
  slot.used = false;
  free_slots_.push_back(index);
  std::atomic<std::uint32_t>& outstanding = targets_[slot.request.target.value].outstanding;
  const std::uint32_t left = outstanding.load(std::memory_order_relaxed) - 1;  // relaxed: changed under the lock only
  outstanding.store(left, std::memory_order_release);                          // release: partner is DirectTarget::open()'s acquire
  return slot.request;
}

bool RequestTable::take(const PacketHeader& answer, NodeId from, Request* request) {
  const auto index = static_cast<std::uint32_t>(answer.request);
  const std::lock_guard guard(lock_);
  if (index >= slots_.size()) return false;
  const Slot& slot = slots_[index];
  if (!slot.used || slot.generation != answer.request >> 32 || slot.request.target != from) return false;
  if (answer.opcode == Opcode::data) {
    if (slot.request.opcode != Opcode::read || slot.request.bytes != answer.bytes) return false;
  } else if (slot.request.opcode == Opcode::read && ok(static_cast<Status>(answer.code))) {
    return false;  // a read that went well brings its bytes
  }
  *request = release(index);
  return true;
}

void RequestTable::end_request(Operation* operation, Status status, std::uint64_t old_value, Env& env) {
  Operation ended;
  {
    const std::lock_guard guard(lock_);
    if (operation->status == Status::ok) operation->status = status;
    if (operation->left == 1) operation->old_value = old_value;
    if (--operation->left > 0) return;
    ended = *operation;
    free_operations_.push_back(operation);
  }
  if (ended.completion != nullptr) ended.completion->finish(env, ended.status, ended.old_value);
}

std::optional<NodeId> RequestTable::target_of(const Completion* completion) const {
  const std::lock_guard guard(lock_);
  for (const Slot& slot : slots_) {
    if (slot.used && slot.request.operation->completion == completion) return slot.request.target;
  }
  return std::nullopt;
}

void RequestTable::end_all(NodeId target, Status status, Env& env) {
  std::vector<Operation*> cut;
  {
    const std::lock_guard guard(lock_);
    if (ok(refuse_[target.value])) refuse_[target.value] = status;
    for (std::uint32_t index = 0; index < slots_.size(); ++index) {
      if (slots_[index].used && slots_[index].request.target == target) cut.push_back(release(index).operation);
    }
  }
  for (Operation* operation : cut) end_request(operation, status, 0, env);
}

void RequestTable::end_all(Status status, Env& env) {
  for (std::uint32_t node = 0; node < refuse_.size(); ++node) end_all(NodeId{node}, status, env);
}

}  // namespace netvm::nic
