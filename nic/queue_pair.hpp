// Queue pair: work requests of one thread to one target, many in flight, with their ends in a completion queue. Both queues lie in this
// process's memory, with a size fixed at creation: posting and polling allocate nothing and make no system call on the direct way, and nothing of
// their own over packets. Modelled on a reliable connected queue pair of InfiniBand verbs.
//
// The hot path, for an 8-byte signalled write on the direct way. post(): validate (op, pieces: branches on the request alone); nothing in flight or held
// back, and room (four loads of this object); then the NIC's path of a put, inlined (direct_path.hpp); one completion of 24 bytes into the ring, one
// index. poll(): one load of the count, copy 24 bytes, two indices. No atomic operation besides the NIC's; no clock.
//
// Invariants
//  1. A signalled operation has exactly one completion; one that is not signalled has one if it fails, else none.
//  2. The completion queue never overflows: a post reserves its place, or is refused with Status::exhausted.
//  3. Operations start in the order of posting; one with `fence` when all earlier ones of the pair are PLACED, those behind it after it. Whoever
//     polls, waits, flushes or posts on the pair starts what was held back.
//  4. Completions of what ended over packets come in the order of posting; those of what ended while it was posted (direct, or LOCAL) may overtake them.
//  5. An error ends its operation only. Those behind it go on; as in Nic, ORDERED notifications behind a failed write count as errors until
//     Nic::clear_errors(). flush() tells the first.
//  6. After an operation has ended, its hook touches this object once more, to leave `hooks_`; the destructor waits for that.
// Threads: one at a time per queue pair; any number of pairs, also to one target. Hooks (Slot::left, Slot::status, hooks_, word_): any.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "nic/nic.hpp"
#include "nic/verbs.hpp"
#include "runtime/env.hpp"
#include "runtime/status.hpp"

namespace netvm::nic {

enum class QpOp : std::uint8_t { write, write_notify, read, notify, atomic };

/// One piece of local memory: a source of a write (which only reads it), a landing place of a read. The remote side is contiguous.
struct Piece {
  void* at = nullptr;
  std::size_t bytes = 0;

  static Piece source(const void* from, std::size_t bytes) { return {const_cast<void*>(from), bytes}; }
  static Piece landing(void* to, std::size_t bytes) { return {to, bytes}; }
};

/// How far a write has come when its completion says so. Reads and atomics complete when their result is here.
enum class CompletionLevel : std::uint8_t {
  local,   ///< the source may be reused; whether the bytes arrive is told by flush() alone
  placed,  ///< visible at the target
};

/// A work request. A plain value, read while it is posted; what `pieces` point to stays until the completion (until PLACED where there is
/// none), unless `inlined`. Memory of this node's frames is pinned while the operation uses it, not while it waits for a fence.
struct QpRequest {
  QpOp op = QpOp::write;
  bool signalled = true;  ///< wants a completion also if all goes well
  bool fence = false;     ///< starts when all earlier operations of the pair are PLACED
  bool inlined = false;   ///< write: the bytes (at most QueuePair::kMaxInline) are copied while posting
  bool try_only = false;  ///< E_NO_CREDIT instead of queueing, if it must go as packets and the target has granted too few now
  CompletionLevel level = CompletionLevel::placed;
  std::uint64_t user_id = 0;  ///< comes back in the completion
  RemoteRegion region{};      ///< write, write_notify, read, atomic
  std::uint64_t offset = 0;
  std::span<const Piece> pieces{};  ///< write, write_notify, read: at most QueuePair::kMaxPieces
  RemoteCounter counter{};          ///< write_notify, notify
  std::uint64_t increment = 1;
  NotifyMode mode = NotifyMode::ordered;  ///< write_notify
  AtomicArgs args{};                      ///< atomic

  static QpRequest write(const RemoteRegion& to, std::uint64_t offset, std::span<const Piece> pieces, std::uint64_t user_id = 0) {
    return {.op = QpOp::write, .user_id = user_id, .region = to, .offset = offset, .pieces = pieces};
  }
  static QpRequest write_notify(const RemoteRegion& to, std::uint64_t offset, std::span<const Piece> pieces, const RemoteCounter& counter,
                                NotifyMode mode, std::uint64_t user_id = 0) {
    return {
        .op = QpOp::write_notify, .user_id = user_id, .region = to, .offset = offset, .pieces = pieces, .counter = counter, .mode = mode};
  }
  static QpRequest read(const RemoteRegion& from, std::uint64_t offset, std::span<const Piece> pieces, std::uint64_t user_id = 0) {
    return {.op = QpOp::read, .user_id = user_id, .region = from, .offset = offset, .pieces = pieces};
  }
  static QpRequest notify(const RemoteCounter& counter, std::uint64_t user_id = 0) {
    return {.op = QpOp::notify, .user_id = user_id, .counter = counter};
  }
  static QpRequest atomic(const RemoteRegion& on, std::uint64_t offset, const AtomicArgs& args, std::uint64_t user_id = 0) {
    return {.op = QpOp::atomic, .user_id = user_id, .region = on, .offset = offset, .args = args};
  }
};

/// The end of an operation. ERROR: a status that is not ok.
struct QpCompletion {
  std::uint64_t user_id = 0;
  std::uint64_t old_value = 0;  ///< of an atomic
  QpOp op = QpOp::write;
  Status status = Status::ok;
  CompletionLevel level = CompletionLevel::placed;  ///< at least what was asked for
};

struct QueuePairConfig {
  NodeId target{};
  std::uint32_t depth = 256;  ///< operations that are in flight or whose completions wait to be polled; a power of two up to 65536
};

static_assert(sizeof(QpCompletion) == 24);

class QueuePair final {
 public:
  static constexpr std::size_t kMaxPieces = 8;
  static constexpr std::size_t kMaxInline = 64;

  /// Status::invalid: no such node, or no such depth. The NIC must outlive it.
  static Result<std::unique_ptr<QueuePair>> create(Nic& nic, const QueuePairConfig& config);
  /// Blocks until everything in flight has ended; completions that nobody polled are lost.
  ~QueuePair();
  QueuePair(const QueuePair&) = delete;
  QueuePair& operator=(const QueuePair&) = delete;

  struct Posted {
    std::size_t count;  ///< requests taken, from the first on
    Status status;      ///< ok: all; why the next one was not
  };
  /// Posts requests in order. Never blocks, but for source or landing memory of this node's frames that was evicted (see nic.hpp, posted forms). Status::exhausted: no room, poll() first. E_NO_CREDIT: see QpRequest::try_only. Status::invalid: a request that can never be right (another target,
  /// too many pieces, null memory). What is wrong with a request that is taken shows in its completion.
  Posted post(std::span<const QpRequest> requests);
  Posted post(const QpRequest& request) { return post(std::span(&request, 1)); }

  /// Takes completions that are there. Drives the NIC if there is none. Never blocks.
  std::size_t poll(std::span<QpCompletion> to);
  /// Blocks until there is at least one, and takes what is there; 0 if nothing is in flight that could end. E_TIMEOUT: the deadline
  /// (absolute) came first.
  Result<std::size_t> wait(std::span<QpCompletion> to, Nanos deadline = kForever);
  /// Blocks until everything posted before has ended: is PLACED, or here. Returns the first error of the operations that have ended since the last
  /// flush(), also of those that nobody wanted a completion of; E_TIMEOUT. Completions stay to be polled.
  Status flush(Nanos deadline = kForever);

  /// Operations that have not ended.
  [[nodiscard]] std::uint64_t in_flight() const { return tail_ - head_; }
  [[nodiscard]] NodeId target() const { return config_.target; }

 private:
  struct Slot;

  QueuePair(Nic& nic, const QueuePairConfig& config);
  /// The common request: one piece there or back.
  static bool is_plain_move(const QpRequest& request) {
    return (request.op == QpOp::write || request.op == QpOp::read) && request.pieces.size() == 1 && !request.inlined;
  }
  [[nodiscard]] bool valid(const QpRequest& request) const;
  [[nodiscard]] bool is_valid(const QpRequest& request) const;
  [[nodiscard]] bool has_room() const { return cq_count_ + reserved_ < config_.depth && tail_ - head_ < config_.depth; }
  Slot& slot(std::uint64_t number);
  // wait_until(), in Nic::waits() if it lasts.
  template <class Changed>
  Status wait_told(const Changed& changed, Nanos deadline);

  /// Executes it here and now. False: it must go as packets (nothing has happened that may not happen again).
  bool execute(const QpRequest& request, Status* status, std::uint64_t* old_value);
  bool execute_other(const QpRequest& request, Status* status, std::uint64_t* old_value);
  /// These return the target's device, or null: as packets.
  Device* execute_piece(const QpRequest& request, const Piece& piece, std::uint64_t offset, Status* status);
  Device* execute_unusual(const QpRequest& request, const Piece& piece, std::uint64_t offset, Status* status);
  Device* execute_pieces(const QpRequest& request, Status* status);
  /// Whether the channel could send all packets of the request now.
  [[nodiscard]] bool has_credit(const QpRequest& request) const;
  void keep(const QpRequest& request);
  void start(Slot& slot);
  void send(Slot& slot);
  /// Takes in what has ended and starts what was held back.
  void progress();
  bool harvest();
  void emit(const QpRequest& request, Status status, CompletionLevel level, std::uint64_t old_value);
  void note(Status status) {
    if (!ok(status) && ok(first_error_)) first_error_ = status;
  }
  std::size_t take(std::span<QpCompletion> to);
  static void on_part_end(Completion& part, void* context);

  const Nic::Hot hot_;
  Nic& nic_;
  Nic::Impl& impl_;
  Env& env_;
  QueuePairConfig config_;

  // The send queue holds what did not end while it was posted: [head_, started_) in flight, [started_, tail_) held back.
  std::unique_ptr<Slot[]> slots_;
  std::uint64_t head_ = 0, started_ = 0, tail_ = 0;
  // The completion queue.
  std::unique_ptr<QpCompletion[]> cq_;
  std::uint64_t cq_first_ = 0, cq_count_ = 0;
  std::uint64_t reserved_ = 0;  // places for slots that may still have a completion
  Status first_error_ = Status::ok;

  WaitWord word_;
  std::atomic<std::uint64_t> hooks_{0};  // parts of operations whose hook has not run to its end
};

}  // namespace netvm::nic
