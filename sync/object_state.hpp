// The state of one synchronisation object: what its token carries from node to node (token_cargo.hpp). A count or two, and those who wait.
//
// Invariants
//  1. Only the holder of the object's token reads or changes it. No bytes at all are an object that nobody used yet.
//  2. Waiters stand in the order in which they came; each is known by its node and a number that its node uses once.
//  3. Answers are those to changes that rode ahead of a request (object_change.hpp), until the token comes to the node that sent them.
//  4. Users are the nodes that had the token since the object began, and so all that others can wait for; who has the token now is one without being named,
//     unless it has shares. Broken: one of them has died, and nobody can know whether what is waited for would have come from it; who would have to wait
//     is told instead.
//  5. A waiter of another node brings what its coherence layer tells with a request, so whoever wakes it can grant it everything in one message.
//  6. An object at rest, of one node, takes 48 bytes: all lists but the queue's end are made when they are needed.
#pragma once

#include <cstdint>
#include <iterator>
#include <memory>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "runtime/ids.hpp"
#include "sync/coherence_hook.hpp"

namespace netvm::sync {

enum class ObjectKind : std::uint8_t { none = 0, semaphore = 1, rwlock = 2, wait_queue = 3, barrier = 4, latch = 5, flag = 6, once = 7 };
[[nodiscard]] const char* to_string(ObjectKind kind);

struct QueuedWaiter {
  enum class Role : std::uint8_t { any = 0, reader = 1, writer = 2 };
  std::uint64_t id = 0;
  NodeId node{};
  Role role = Role::any;
  Bytes request = {};  ///< of another node's; this node's gets one when it leaves with the token
};

/// Waiters in order: a ring of nodes, of which only the last is known here.
class WaiterQueue {
  struct Link {
    QueuedWaiter waiter;
    Link* next = nullptr;
  };

 public:
  template <class Value, class LinkPointer>
  class Iterator {
   public:
    using iterator_category = std::forward_iterator_tag;
    using value_type = Value;
    using difference_type = std::ptrdiff_t;
    using pointer = Value*;
    using reference = Value&;
    Iterator() = default;
    Iterator(LinkPointer at, LinkPointer last) : at_(at), last_(last) {}
    reference operator*() const { return at_->waiter; }
    pointer operator->() const { return &at_->waiter; }
    Iterator& operator++() {
      at_ = at_ == last_ ? nullptr : at_->next;
      return *this;
    }
    Iterator operator++(int) {
      Iterator before = *this;
      ++*this;
      return before;
    }
    friend bool operator==(const Iterator& a, const Iterator& b) { return a.at_ == b.at_; }

   private:
    LinkPointer at_ = nullptr;
    LinkPointer last_ = nullptr;
  };
  using iterator = Iterator<QueuedWaiter, Link*>;
  using const_iterator = Iterator<const QueuedWaiter, const Link*>;

  WaiterQueue() = default;
  WaiterQueue(WaiterQueue&& other) noexcept : last_(std::exchange(other.last_, nullptr)) {}
  WaiterQueue& operator=(WaiterQueue&& other) noexcept {
    std::swap(last_, other.last_);
    return *this;
  }
  ~WaiterQueue() { clear(); }

  [[nodiscard]] bool empty() const { return last_ == nullptr; }
  [[nodiscard]] std::size_t size() const { return static_cast<std::size_t>(std::distance(begin(), end())); }
  [[nodiscard]] iterator begin() { return {last_ == nullptr ? nullptr : last_->next, last_}; }
  [[nodiscard]] iterator end() { return {nullptr, last_}; }
  [[nodiscard]] const_iterator begin() const { return {last_ == nullptr ? nullptr : last_->next, last_}; }
  [[nodiscard]] const_iterator end() const { return {nullptr, last_}; }
  [[nodiscard]] QueuedWaiter& front() { return last_->next->waiter; }
  [[nodiscard]] const QueuedWaiter& front() const { return last_->next->waiter; }

  void push_back(QueuedWaiter waiter) { append(new Link{std::move(waiter), nullptr}); }
  /// The first one goes to the other queue's end. It is not empty.
  void move_first_to(WaiterQueue& other) { other.append(unlink_first()); }
  template <class Predicate>
  void remove_if(Predicate&& unwanted) {
    WaiterQueue kept;
    while (!empty()) {
      if (unwanted(std::as_const(front()))) {
        delete unlink_first();
      } else {
        move_first_to(kept);
      }
    }
    *this = std::move(kept);
  }
  void clear() {
    while (!empty()) delete unlink_first();
  }

 private:
  void append(Link* link) {
    link->next = last_ == nullptr ? link : last_->next;
    if (last_ != nullptr) last_->next = link;
    last_ = link;
  }
  Link* unlink_first() {
    Link* const first = last_->next;
    if (first == last_) {
      last_ = nullptr;
    } else {
      last_->next = first->next;
    }
    return first;
  }
  Link* last_ = nullptr;
};

struct RideAnswer {
  NodeId node{};  ///< to whom
  bool refused = false;
  std::uint64_t number = 0;
  std::uint64_t value = 0;
};

/// A waiter that a node has taken out of the queue and is about to send its wake-up, or has sent it. Forgotten where it waited, once the token comes there.
struct Waking {
  std::uint64_t id = 0;
  NodeId node{};  ///< where it waits
  NodeId waker{};
  QueuedWaiter::Role role = QueuedWaiter::Role::any;
};

struct ObjectUser {
  NodeId node{};
  std::uint32_t shares = 0;  ///< of a reader-writer lock
};

/// What few objects have at any time.
struct ObjectLists {
  std::vector<RideAnswer> answers;
  std::vector<ObjectUser> users;
  std::vector<Waking> waking;
};

struct ObjectState {
  ObjectKind kind = ObjectKind::none;
  bool broken = false;
  std::uint32_t deaths = 0;  ///< that have been looked at here; does not travel
  /// semaphore: permits. latch and barrier: arrivals that are missing. flag: 1 = set. once: 0, 1 = runs, 2 = done. rwlock: shares that readers have.
  std::uint64_t count = 0;
  std::uint64_t limit = 0;  ///< barrier: arrivals of a phase. rwlock: the writer's node + 1. once: that of who runs it
  std::uint64_t phase = 0;  ///< barrier: phases that have ended. rwlock: writers that were let in, its fencing token
  WaiterQueue queue;
  std::unique_ptr<ObjectLists> lists;

  [[nodiscard]] bool has_answers() const { return lists != nullptr && !lists->answers.empty(); }
  [[nodiscard]] bool has_waking() const { return lists != nullptr && !lists->waking.empty(); }
  /// Made if need be.
  ObjectLists& more() {
    if (lists == nullptr) lists = std::make_unique<ObjectLists>();
    return *lists;
  }
  /// False: it is not there.
  bool remove(NodeId node, std::uint64_t id);
  /// The node is one from now on.
  ObjectUser& user(NodeId node);
  /// Takes it out, if it is there.
  std::optional<RideAnswer> take_answer(NodeId node, std::uint64_t number);
  /// An object that nobody used yet, but for what is on its way.
  void begin_anew();
};
static_assert(sizeof(ObjectState) == 48);

void encode_object(const ObjectState& state, Bytes& out);
/// Nothing if the bytes are not a state, or name nodes beyond `nodes`.
[[nodiscard]] std::optional<ObjectState> decode_object(std::span<const std::byte> bytes, std::uint32_t nodes);

}  // namespace netvm::sync
