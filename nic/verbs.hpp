// The vocabulary of the NIC: what a work request is. See nic.hpp for who executes it.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>

#include "runtime/env.hpp"
#include "runtime/ids.hpp"
#include "runtime/status.hpp"

namespace netvm::nic {

/// Rights of a region, granted when it is created.
enum class Rights : std::uint8_t { none = 0, read = 1, write = 2, atomic = 4, all = 7 };
constexpr Rights operator|(Rights a, Rights b) { return static_cast<Rights>(static_cast<unsigned>(a) | static_cast<unsigned>(b)); }
constexpr bool allows(Rights have, Rights need) {
  return (static_cast<unsigned>(have) & static_cast<unsigned>(need)) == static_cast<unsigned>(need);
}

/// A region of some node's memory as another node names it. A plain value: send it to whoever may use it.
/// The key is random; without it the target refuses (E_KEY).
struct RemoteRegion {
  NodeId node{};
  RegionId id{};
  std::uint64_t key = 0;
  std::uint64_t length = 0;  ///< bytes; offsets of work requests count from the region's start
};

/// An event counter of some node as another node names it.
struct RemoteCounter {
  NodeId node{};
  CounterId id{};
};

/// What becomes of a posted operation whose packets cannot all leave now, for want of credits at the target.
enum class WhenFull : std::uint8_t {
  queue,   ///< it waits, and what is posted to that target after it waits behind it
  refuse,  ///< it ends with E_NO_CREDIT, and nothing has happened
};

/// Whose an event counter is.
enum class CounterUse : std::uint8_t { program, library };

/// When the increment of a write_notify happens.
enum class NotifyMode : std::uint8_t {
  own,      ///< when this write's own bytes have landed
  ordered,  ///< when this write and every earlier write of the same channel (source node -> target node) have landed
};

/// The atomics. Operands are 64 bit, addresses 8-byte aligned (else E_ALIGN); each returns the old value. Atomic with
/// std::atomic_ref<std::uint64_t> on the same word at the host.
enum class AtomicOp : std::uint8_t {
  fetch_add,     ///< old + operand
  swap,          ///< operand
  compare_swap,  ///< operand if old == compare
  masked_cas,    ///< (old & ~swap_mask) | (operand & swap_mask) if ((old ^ compare) & compare_mask) == 0
  fetch_or,      ///< old | operand
};

struct AtomicArgs {
  AtomicOp op = AtomicOp::fetch_add;
  std::uint64_t operand = 0;
  std::uint64_t compare = 0;
  std::uint64_t compare_mask = ~std::uint64_t{0};
  std::uint64_t swap_mask = ~std::uint64_t{0};
};

/// One piece of a vectored write: `bytes` at `data` go to `offset` of the region.
struct Segment {
  std::uint64_t offset = 0;
  const std::byte* data = nullptr;
  std::uint32_t bytes = 0;
};

/// A work request that waits for an event counter (Nic::post_triggered). A plain value; the bytes at `source` are read when it fires and
/// must stay until its completion has ended.
struct TriggeredOperation {
  enum class Kind : std::uint8_t { write, write_notify, notify, atomic };

  static TriggeredOperation write(const RemoteRegion& to, std::uint64_t offset, const void* source, std::size_t bytes) {
    return {.kind = Kind::write, .region = to, .offset = offset, .source = source, .bytes = bytes};
  }
  static TriggeredOperation write_notify(const RemoteRegion& to, std::uint64_t offset, const void* source, std::size_t bytes,
                                         const RemoteCounter& counter, std::uint64_t increment, NotifyMode mode) {
    return {.kind = Kind::write_notify,
            .region = to,
            .offset = offset,
            .source = source,
            .bytes = bytes,
            .counter = counter,
            .increment = increment,
            .mode = mode};
  }
  static TriggeredOperation notify(const RemoteCounter& counter, std::uint64_t increment) {
    return {.kind = Kind::notify, .counter = counter, .increment = increment};
  }
  static TriggeredOperation atomic(const RemoteRegion& on, std::uint64_t offset, const AtomicArgs& args) {
    return {.kind = Kind::atomic, .region = on, .offset = offset, .args = args};
  }

  Kind kind = Kind::notify;
  RemoteRegion region{};
  std::uint64_t offset = 0;
  const void* source = nullptr;
  std::size_t bytes = 0;
  RemoteCounter counter{};
  std::uint64_t increment = 0;
  NotifyMode mode = NotifyMode::ordered;
  AtomicArgs args{};
};

/// Names a triggered operation that has not fired yet, for cancelling it. Never used twice by one NIC.
struct TriggeredId {
  std::uint64_t value = 0;
};

/// Runs when a counter has reached a threshold or has counted an error (Nic::set_handler). Is told both halves and returns the threshold of
/// the next run. May block and use every verb. Must not throw.
using CounterHandler = std::function<std::uint64_t(std::uint64_t ok, std::uint64_t errors)>;
/// A handler's threshold that is never reached: errors alone run it.
inline constexpr std::uint64_t kErrorsOnly = UINT64_MAX - 1;

/// Where the end of a posted operation shows. Owned by the poster, must stay put until done() (or until `hook` has run).
/// Exactly one end per operation.
class Completion {
 public:
  /// Runs at the end of the operation in the context that noticed it (the posting thread, a thread that drives the NIC, the
  /// simulator's loop). Must not block. After it ran the NIC does not touch the object: the hook may delete it.
  using Hook = void (*)(Completion& self, void* context);

  Completion() = default;
  explicit Completion(Hook hook, void* context) : hook_(hook), context_(context) {}
  Completion(const Completion&) = delete;
  Completion& operator=(const Completion&) = delete;

  [[nodiscard]] bool done() const { return state_.load(std::memory_order_acquire) == kDone; }  // acquire: partner is finish()'s release
  /// Valid once done. ok means PLACED: the bytes are visible at the target (write), here (read, atomic).
  [[nodiscard]] Status status() const { return status_; }
  /// Old value of an atomic; valid once done with ok.
  [[nodiscard]] std::uint64_t old_value() const { return old_value_; }

  /// For the NIC: ends it, if there is one.
  static void end(Completion* completion, Env& env, Status status, std::uint64_t old_value = 0) {
    if (completion != nullptr) completion->finish(env, status, old_value);
  }
  /// For the NIC.
  void finish(Env& env, Status status, std::uint64_t old_value = 0) {
    status_ = status;
    old_value_ = old_value;
    if (hook_ != nullptr) {
      state_.store(kDone, std::memory_order_release);  // release: partner is done()'s acquire
      hook_(*this, context_);
      return;
    }
    // The poster may return, and its stack frame with this object vanish, as soon as it sees kDone: the wake-up goes by address only.
    const std::atomic<std::uint32_t>& word = state_;
    if (state_.exchange(kDone, std::memory_order_acq_rel) == kParked) env.wake(word, INT32_MAX);  // acq_rel: partner is done()'s acquire
  }
  /// For a waiter that is about to park: pending still, and from now on finish() wakes. If it has ended meanwhile, parking returns at once.
  [[nodiscard]] ParkOn prepare_park() {
    std::uint32_t pending = kPending;
    state_.compare_exchange_strong(pending, kParked);
    return {&state_, kParked};
  }

 private:
  static constexpr std::uint32_t kPending = 0, kDone = 1, kParked = 2;
  std::atomic<std::uint32_t> state_{kPending};
  Status status_ = Status::ok;
  std::uint64_t old_value_ = 0;
  Hook hook_ = nullptr;
  void* context_ = nullptr;
};

/// Who handles a message. Values are fixed: they travel on the wire.
enum class MessageKind : std::uint8_t {
  sync_lock = 1,
  sync_collective = 2,
  dsm_allocator = 3,
  dsm_protocol = 4,
  sync_wake = 5,
  sync_recovery = 6,
  sync_watch = 7,
  test = 15
};

/// A handler of two-sided messages. Messages of one channel arrive in the order of sending, exactly once.
class MessageHandler {
 public:
  virtual ~MessageHandler() = default;
  /// Runs to completion in the context that drives the NIC: must not block, park or drive; may send() and post_*().
  /// `body` is valid during the call only.
  virtual void on_message(NodeId from, std::span<const std::byte> body) noexcept = 0;
};

}  // namespace netvm::nic
