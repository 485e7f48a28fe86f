// Request table: what this node has asked of others in packets and has no answer to yet.
//
// An operation (one posted work request) is one or more requests (packets); it ends when all of them have ended, with the first error.
//
// Invariants
//  1. A request ends exactly once: by the take() that its answer causes, by end_all(), or by a refused issue().
//  2. Who has taken a request alone touches its landing place; the operation cannot end before end_request().
//  3. An id is used once (index and generation). An answer with any other id, or from another node, matches nothing.
//  4. DirectTarget::outstanding counts the requests that were issued to the node and not taken.
// Threads: any. Completions run outside the lock.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "nic/direct_target.hpp"
#include "nic/verbs.hpp"
#include "nic/wire.hpp"
#include "runtime/env.hpp"
#include "runtime/ids.hpp"
#include "runtime/status.hpp"

namespace netvm::nic {

class RequestTable final {
 public:
  /// Counts in `targets`, by node, which outlive it.
  explicit RequestTable(std::span<DirectTarget> targets);
  ~RequestTable();

  struct Operation;

  struct Request {
    Operation* operation = nullptr;
    NodeId target{};
    Opcode opcode = Opcode::write;
    std::uint8_t error_era = 0;
    std::uint32_t bytes = 0;       ///< of a read: how many must come
    std::byte* landing = nullptr;  ///< of a read: where they go
  };

  /// A new operation of `requests` requests. `completion` may be null: nobody wants to know.
  Operation* open(Completion* completion, std::uint32_t requests);

  /// Registers one request of an operation. Returns its id, or 0 after end_all() for its target: *refused says why, and the caller must
  /// end_request() it.
  std::uint64_t issue(const Request& request, Status* refused);

  /// The request that an answer from `from` belongs to; it is the caller's to end. False: none.
  bool take(const PacketHeader& answer, NodeId from, Request* request);

  /// One request of the operation has ended. With the last one the operation ends: its completion runs, here.
  void end_request(Operation* operation, Status status, std::uint64_t old_value, Env& env);

  /// Whose answer the operation with this completion waits for: a request's that has none. Nothing: there is no such operation.
  [[nodiscard]] std::optional<NodeId> target_of(const Completion* completion) const;

  /// Ends everything outstanding towards a node (all: towards everybody) and refuses what comes later, with `status`.
  void end_all(NodeId target, Status status, Env& env);
  void end_all(Status status, Env& env);

 private:
  struct Slot {
    Request request;
    std::uint32_t generation = 0;
    bool used = false;
  };
  Request release(std::uint32_t index);

  std::span<DirectTarget> targets_;
  mutable SpinLock lock_;       // guards everything below
  std::vector<Status> refuse_;  // by target
  std::vector<Slot> slots_;
  std::vector<std::uint32_t> free_slots_;
  std::vector<std::unique_ptr<Operation>> operations_;  // all there ever were
  std::vector<Operation*> free_operations_;
};

}  // namespace netvm::nic
