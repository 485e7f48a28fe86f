// netvm::Transfers: one queue pair of the NIC's to each node that is talked to.
#include <fmt/format.h>

#include <array>
#include <bit>

#include "dsm/api/job_runtime.hpp"
#include "nic/queue_pair.hpp"

namespace netvm {

using detail::Runtime;

struct Transfers::State {
  struct Peer {
    std::unique_ptr<nic::QueuePair> pair;  // made when first needed
    bool fenced = false;                   // the next operation waits for those before it
  };
  Runtime* runtime;
  std::uint32_t depth;
  std::vector<Peer> peers;
  Status failure = Status::ok;  // the first since the last quiet()
  int failed_node = 0;

  Peer& peer(int node) {
    Peer& p = peers[static_cast<std::size_t>(node)];
    if (p.pair == nullptr) p.pair = nic::QueuePair::create(*runtime->nic, {NodeId{static_cast<std::uint32_t>(node)}, depth}).value();
    return p;
  }

  void note(Status status, int node) {
    if (status == Status::ok || failure != Status::ok) return;
    failure = status;
    failed_node = node;
  }
  void take(int node, std::span<const nic::QpCompletion> ends) {
    for (const nic::QpCompletion& end : ends) {
      note(end.status, node);
      if (end.op == nic::QpOp::atomic && end.user_id != 0 && end.status == Status::ok)
        *reinterpret_cast<std::uint64_t*>(end.user_id) = end.old_value;
    }
  }
  void poll(int node, nic::QueuePair& pair) {
    std::array<nic::QpCompletion, 16> ends;
    for (std::size_t n = 0; (n = pair.poll(ends)) > 0;) take(node, std::span(ends).first(n));
  }

  void post(int node, nic::QpRequest request) {
    Peer& p = peer(node);
    request.fence = p.fenced;
    p.fenced = false;
    for (;;) {
      const nic::QueuePair::Posted posted = p.pair->post(request);
      if (posted.count == 1) return;
      if (posted.status != Status::exhausted) return note(posted.status, node);
      std::array<nic::QpCompletion, 16> ends;
      const auto taken = p.pair->wait(ends);
      if (!taken) return note(taken.status(), node);
      take(node, std::span(ends).first(*taken));
      // Nothing to take and no room: all in flight are operations without completions. One will end.
      if (*taken == 0) runtime->env->relax();
    }
  }
  void quiet(int node) {
    Peer& p = peers[static_cast<std::size_t>(node)];
    if (p.pair == nullptr) return;
    const Status status = p.pair->flush();
    poll(node, *p.pair);
    note(status, node);
    p.fenced = false;
  }
};

Transfers::Transfers(Job& /*job*/, int depth) : state_(std::make_unique<State>()) {
  if (depth < 1 || depth > 65536 || !std::has_single_bit(static_cast<unsigned>(depth)))
    throw Error(fmt::format("netvm: Transfers: a depth of {}; give a power of two from 1 to 65536", depth));
  state_->runtime = &Runtime::current("Transfers");
  state_->depth = static_cast<std::uint32_t>(depth);
  state_->peers.resize(state_->runtime->boot->nodes());
}

Transfers::~Transfers() {
  if (Runtime::current_or_null() != state_->runtime) static_cast<void>(state_.release());  // the job is gone (or this is a child of fork())
}

void Transfers::put_bytes(int node, void* to, const void* from, std::size_t bytes) {
  Runtime& rt = *state_->runtime;
  const std::uint64_t offset = detail::symmetric_offset(rt, to, bytes, node, "put_async");
  if (rt.may_fault(from, bytes)) {  // may fault when it is touched: through private memory, now
    if (state_->peers[static_cast<std::size_t>(node)].fenced) state_->quiet(node);
    return detail::put(node, to, from, bytes);
  }
  const nic::Piece piece = nic::Piece::source(from, bytes);
  nic::QpRequest request = nic::QpRequest::write(rt.symmetric[static_cast<std::size_t>(node)], offset, {&piece, 1});
  request.signalled = false;
  state_->post(node, request);
}

void Transfers::get_bytes(int node, const void* from, void* to, std::size_t bytes) {
  Runtime& rt = *state_->runtime;
  const std::uint64_t offset = detail::symmetric_offset(rt, from, bytes, node, "get_async");
  if (rt.may_fault(to, bytes)) {
    if (state_->peers[static_cast<std::size_t>(node)].fenced) state_->quiet(node);
    return detail::get(node, from, to, bytes);
  }
  const nic::Piece piece = nic::Piece::landing(to, bytes);
  nic::QpRequest request = nic::QpRequest::read(rt.symmetric[static_cast<std::size_t>(node)], offset, {&piece, 1});
  request.signalled = false;
  state_->post(node, request);
}

void Transfers::atomic(int node, std::uint64_t* on, detail::Atomic op, const detail::AtomicWords& words, std::uint64_t* old) {
  Runtime& rt = *state_->runtime;
  const std::uint64_t offset = detail::symmetric_offset(rt, on, sizeof(*on), node, "an atomic of Transfers");
  if (old != nullptr && rt.may_fault(old, sizeof(*old)))
    throw Error("netvm: an atomic of Transfers: the old value must go to private memory, which never faults");
  nic::QpRequest request = nic::QpRequest::atomic(rt.symmetric[static_cast<std::size_t>(node)], offset, detail::atomic_args(op, words),
                                                  reinterpret_cast<std::uintptr_t>(old));
  request.signalled = old != nullptr;
  state_->post(node, request);
}

void Transfers::fence() {
  for (State::Peer& peer : state_->peers) peer.fenced = peer.pair != nullptr;
}

void Transfers::quiet() {
  for (int node = 0; node < static_cast<int>(state_->peers.size()); ++node) state_->quiet(node);
  const Status failure = std::exchange(state_->failure, Status::ok);
  detail::check_transfer(failure, "a transfer with", state_->failed_node);
}

}  // namespace netvm
