// Nic: a node's network interface, its firmware in software (Ong 2003, chapters 3 and 4; shared memory on one host: initiator execution).
//
// A request goes one of two ways, and both end in the same function, Firmware::execute():
//   direct   the target's device is mapped here (Fabric::device_of) and nothing of this channel is on its way in packets: this thread
//            executes the target's firmware step: key, range, rights, shadow page table lock, one memcpy, unlock, counter.
//   packet   encoded, carried by the fabric, retired in sequence at the target by whoever drives its NIC, answered.
// A direct request that meets a page that is not resident goes on as packets, to this node itself, too, so that posting never waits for a
// page: the data stays in a system buffer until the target's host has brought the page in (nic_redirect.cpp).
//
// Invariants
//  1. Every posted request ends exactly once. ok means PLACED.
//  2. Per channel (this node -> target): atomics, reads, ORDERED notifications and messages take effect in the order of posting,
//     each after every earlier write of the channel is visible. Writes land in any order. One exception: what is posted after a
//     message need not wait until the message has been handled.
//  3. No page lock of the shadow page table is held across a wait; one is held for one copy of at most 16 pages.
//  4. Message handlers and completion hooks run under the driver lock of this node or in the posting thread, and never block.
//  5. Nothing of a peer is trusted: keys, offsets, lengths, ids are validated once, in decode and Firmware::execute().
//  6. Source and landing memory is touched under locks of the NIC: it must not fault into a user of the NIC. A coherent page's
//     application view does; its frame, and private memory, do not. Memory of this node's frames is pinned for as long as the request needs
//     it, before the request begins (held_memory.hpp).
//  7. In a child made by fork() the object is dead: every verb ends with Status::forked, nothing of the parent's device, rings or locks is touched.
// Threads: everything is thread-safe. "Blocks" below means: drives the NIC while it spins, then parks.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "nic/fabric.hpp"
#include "nic/reliability.hpp"
#include "nic/spin_budget.hpp"
#include "nic/verbs.hpp"
#include "runtime/cpu.hpp"
#include "runtime/host_vm.hpp"
#include "runtime/settings.hpp"
#include "runtime/stats.hpp"

namespace netvm::nic {

class QueuePair;
struct DirectTarget;

enum class WaitMode : std::uint8_t { spin, block, adaptive };

struct NicConfig {
  NodeId node{};
  std::uint32_t nodes = 1;
  std::uint64_t session = 1;  ///< of the job: packets of another session are dropped and counted
  ShmMode mode = ShmMode::direct;
  std::uint32_t first_sequence = 0;  ///< where every channel begins to count packets and credits; the same on all nodes
  /// Packets of peers that may wait here for a page or for their turn, in all; at least one for each node. The same on all nodes.
  std::uint32_t system_buffers = 4096;
  Reliability reliability = {};  ///< over fabrics that lose packets
};

/// Packets that were dropped, by reason. All 0 with honest peers and a fabric that neither loses nor doubles nor damages.
struct Drops {
  std::uint64_t malformed = 0;  ///< did not decode
  std::uint64_t stale = 0;      ///< of another session
  std::uint64_t duplicate = 0;  ///< a sequence number that has been here
  std::uint64_t outside = 0;    ///< a sequence number further ahead than the window
  std::uint64_t unmatched = 0;  ///< an answer to nothing that is outstanding
  std::uint64_t fragments = 0;  ///< of a message, out of place
  std::uint64_t unhandled = 0;  ///< a message that nobody has a handler for
  std::uint64_t from_dead = 0;  ///< of a node that has been declared dead, or was given up
  std::uint64_t no_credit = 0;  ///< beyond what its source may send
};

/// A thread of this node that waits for something of the NIC's.
struct NicWait {
  enum class What : std::uint8_t {
    counter,     ///< one of this node's event counters, in counter_wait()
    operation,   ///< a completion, in wait() and in blocking verbs
    trigger,     ///< the completion of an operation that is still to be triggered
    queue_pair,  ///< completions of a queue pair
  };
  What what = What::counter;
  CounterId counter{};
  std::uint64_t threshold = 0;
  std::uint64_t value = 0;  ///< a counter's, now
  NodeId target{};          ///< of an operation, of a queue pair: who has not answered
  Nanos since = 0;
  std::uint64_t who = 0;  ///< as it was given to counter_wait(); 0: not known
};

template <class Translation>
class DirectPath;

class Nic final {
 public:
  struct Impl;  ///< nic_impl.hpp: for the parts of the NIC
  /// `device` is this node's own device memory (device.hpp), made over the job's memfd or private memory.
  Nic(const NicConfig& config, Env& env, HostVm& vm, Fabric& fabric, Device& device, Stats& stats);
  ~Nic();
  Nic(const Nic&) = delete;
  Nic& operator=(const Nic&) = delete;

  [[nodiscard]] NodeId node() const { return config_.node; }
  [[nodiscard]] std::uint32_t nodes() const { return config_.nodes; }
  [[nodiscard]] Env& env() { return env_; }
  [[nodiscard]] Stats& stats() { return stats_; }

  // ---- control: regions and counters of this node -----------------------------------------------------------------
  /// Opens pages of this node's memory to others. Returns how they name it. Status::exhausted if the table is full, range outside of the memory, reserved:
  /// see allow_regions().
  Result<RemoteRegion> region_create(PageRange pages, Rights rights);
  /// From now on regions are created in these pages only (at first: in all): whoever divides the memory says which part is the program's. Regions that
  /// exist stay.
  void allow_regions(PageRange pages);
  /// Closes it; complete when it returns: no peer touches the memory through it any more. Later requests get E_KEY or E_REVOKED.
  Status region_revoke(const RemoteRegion& region);
  /// A hint: brings these pages of this node's in, in the background, before requests of peers meet them, or this node's own on their side. Of more than half of
  /// the memory budget only the beginning. Never blocks. E_RANGE: not all in the memory.
  Status prefetch(PageRange pages);
  Result<RemoteCounter> counter_create(CounterUse use = CounterUse::program);
  /// Ends its handler (as clear_handler() does: blocks while it runs, unless called from inside it) and, with E_CANCELLED, what is to be
  /// triggered by it.
  Status counter_destroy(const RemoteCounter& counter);

  // ---- data: blocking forms. Return when PLACED, or with the error -------------------------------------------------
  // Status::invalid, with nothing done, in these and the posted forms: no such node, a null pointer to bytes, a counter of another node than the region's.
  Status write(const RemoteRegion& to, std::uint64_t offset, const void* from, std::size_t bytes);
  Status read(const RemoteRegion& from, std::uint64_t offset, void* to, std::size_t bytes);
  Status write_notify(const RemoteRegion& to, std::uint64_t offset, const void* from, std::size_t bytes, const RemoteCounter& counter,
                      std::uint64_t increment, NotifyMode mode);
  // An ORDERED notification whose channel has seen a write fail does not happen: it counts in the counter's error half and ends with
  // E_CANCELLED, and so do all later ones until clear_errors().
  /// An ORDERED increment without data. Does not wait for it.
  Status notify(const RemoteCounter& counter, std::uint64_t increment);
  /// An increment here and now, or nothing at all: false where the counter's node cannot be reached directly, or the channel has something on its way in packets.
  /// An OWN notification: errors of the channel do not stop it.
  [[nodiscard]] bool try_notify(const RemoteCounter& counter, std::uint64_t increment);
  /// A hint: such an increment is about to come. Its line is fetched meanwhile, where the counter's node is reached directly.
  void prefetch(const RemoteCounter& counter);
  /// Several pieces to one region in one request (a diff).
  Status write_vector(const RemoteRegion& to, std::span<const Segment> segments);
  /// Returns the old value.
  Result<std::uint64_t> atomic(const RemoteRegion& on, std::uint64_t offset, const AtomicArgs& args);

  // ---- data: posted forms. Never block; the completion ends exactly once (perhaps before the call returns) -----------
  // Source bytes may be reused when the call returns (they are copied or placed); destination and completion stay until the end. One
  // exception: source or landing memory of this node's frames that was evicted is brought in first, and that waits for the host. Who must not wait at all
  // (hooks) gives private memory or holds pins. A landing place there is at most HostVm::most_pins() long (else Status::exhausted). The
  // completion may be null: nobody wants to know. With WhenFull::refuse
  // an operation that would have to wait for credits ends with E_NO_CREDIT instead; one with more packets than the target has system
  // buffers always does.
  void post_write(const RemoteRegion& to, std::uint64_t offset, const void* from, std::size_t bytes, Completion* completion,
                  WhenFull when_full = WhenFull::queue);
  void post_write_vector(const RemoteRegion& to, std::span<const Segment> segments, Completion* completion,
                         WhenFull when_full = WhenFull::queue);
  void post_read(const RemoteRegion& from, std::uint64_t offset, void* to, std::size_t bytes, Completion* completion,
                 WhenFull when_full = WhenFull::queue);
  void post_atomic(const RemoteRegion& on, std::uint64_t offset, const AtomicArgs& args, Completion* completion,
                   WhenFull when_full = WhenFull::queue);
  void post_write_notify(const RemoteRegion& to, std::uint64_t offset, const void* from, std::size_t bytes, const RemoteCounter& counter,
                         std::uint64_t increment, NotifyMode mode, Completion* completion, WhenFull when_full = WhenFull::queue);
  void post_notify(const RemoteCounter& counter, std::uint64_t increment, Completion* completion, WhenFull when_full = WhenFull::queue);

  /// Blocks until the completion's end and returns its status. E_TIMEOUT if the deadline (absolute) comes first: the completion is then still pending.
  Status wait(Completion& completion, Nanos deadline = kForever);

  /// After a failed write: lets ORDERED notifications towards the node happen again. For those posted from now on.
  void clear_errors(NodeId target);

  // ---- messages: two-sided, in order, any length up to 1 GiB -------------------------------------------------------
  void set_message_handler(MessageKind kind, MessageHandler* handler);  ///< null: waits until the old one runs no more; not in a handler
  /// Never blocks. A message to this node itself is delivered too, from drive(), not from inside send().
  void send(NodeId to, MessageKind kind, std::span<const std::byte> body);
  /// How many packets (Stat::messages_sent) a message of so many bytes takes.
  [[nodiscard]] std::uint32_t packets_of(std::size_t bytes) const;

  // ---- event counters ------------------------------------------------------------------------------------------------
  [[nodiscard]] std::uint64_t counter_value(const RemoteCounter& mine) const;
  [[nodiscard]] std::uint64_t counter_errors(const RemoteCounter& mine) const;
  /// Where its increments and errors are announced: for a wait_until() for the counter or something else. Lives as long as the counter.
  [[nodiscard]] WaitWord& counter_word(const RemoteCounter& mine) const;
  /// Blocks until value >= threshold (an acquire of everything notified), until an error is counted that no earlier counter_wait() of this
  /// counter has returned (Status::peer_dead if a peer died, else Status::cancelled), or the deadline. E_COUNTER_RANGE: not a counter of this node.
  /// `who` names the thread in waits().
  Status counter_wait(const RemoteCounter& mine, std::uint64_t threshold, WaitMode mode = WaitMode::adaptive, Nanos deadline = kForever,
                      std::uint64_t who = 0);
  /// Who waits for a counter or for completions now, and has not only begun to: for reports, the longest first. Any thread.
  [[nodiscard]] std::vector<NicWait> waits() const;

  // ---- what a counter sets off (counter_events.hpp) ----------------------------------------------------------------------------------
  /// Runs the handler whenever the counter's value has reached the threshold, and when it has counted an error that the handler has not been
  /// told of. In a thread of its own, never in one that drives; the runs of one counter come one after the other, those of several at
  /// the same time. Level-triggered: increments while it runs are not lost, it runs again if the value has reached the threshold that it
  /// returned (so a threshold that is reached already makes it run again at once). E_COUNTER_RANGE: not a counter of this node. Status::invalid: it
  /// has a handler. E_CANCELLED after shut_down().
  Status set_handler(const RemoteCounter& mine, std::uint64_t threshold, CounterHandler handler);
  /// When it returns, the handler runs no more, and has been destroyed. Blocks while it runs. From inside it: returns at once, and the run is the
  /// last; the counter can have another handler when it has ended. Status::invalid: it has none.
  Status clear_handler(const RemoteCounter& mine);
  /// Posts the operation when the counter's value (its successes: errors set nothing off) reaches the threshold; at once if it has. By whoever
  /// drives this NIC; no thread of the application need be awake. Operations of a counter fire in the order of their thresholds, equal ones in that of posting,
  /// each once. The completion (may be null) ends like a posted operation's, or with E_CANCELLED if it never fires: cancelled, counter
  /// destroyed, NIC shut down. E_COUNTER_RANGE: not a counter of this node. Status::invalid: an operation that can never be right; E_CANCELLED
  /// after shut_down(): then the completion is not touched. The source is read when the operation fires; until then one in this node's frames is pinned
  /// (what it waits for, and E_FAULT_FAILED, Status::exhausted: see the posted forms), so many of them cost the memory budget.
  Result<TriggeredId> post_triggered(const RemoteCounter& mine, std::uint64_t threshold, const TriggeredOperation& operation,
                                     Completion* completion);
  /// False: it has fired (or was cancelled) before.
  bool cancel_triggered(const RemoteCounter& mine, TriggeredId id);
  /// All of the counter's that have not fired. Returns how many.
  std::size_t cancel_triggered(const RemoteCounter& mine);

  // ---- progress ------------------------------------------------------------------------------------------------------
  /// Processes what has arrived, if no other thread is at it. Returns whether there was anything. Costs a few loads when there is nothing. While a
  /// thread calls it again and again the engine stands by: it then looks by itself only now and then (kLongestStandBy), so who stops
  /// calling leaves the next packet to the engine with that delay, once.
  bool drive();
  /// The same, by who will not come again soon: the engine goes on as it did.
  bool drive_once();
  static constexpr Nanos kLongestStandBy = 1'000'000;
  /// One turn of the engine: drives; with nothing to do for `spin` it parks until a packet or the deadline (absolute).
  void engine_turn(Nanos spin, Nanos deadline);
  /// Blocks until changed() is true, driving meanwhile. Whoever makes it true must announce on `word` afterwards. It is not called again
  /// after it was true, so it may take what it found.
  /// Returns ok, E_TIMEOUT, or E_CANCELLED after shut_down().
  template <class Changed>
  Status wait_until(WaitWord& word, Changed&& changed, Nanos deadline = kForever);

  /// Makes a parked engine_turn() return, from any thread: something outside the NIC (a timer) needs the engine.
  void nudge_engine();

  /// Ends every wait, and everything outstanding, to be triggered, and posted later, with E_CANCELLED. No handler begins to run any more.
  void shut_down();
  /// The end of a node that leaves others behind. Over a fabric that loses packets it first blocks until everything that was sent has arrived
  /// (or its peer is given up: Reliability::peer_timeout at most), so that a packet lost at the last moment is not lost for good. Then shut_down(), and
  /// blocks until no handler runs and no page is on its way for a peer. The destructor does the same, but for the first part, where it may block.
  /// Status::invalid, with a line in the log, from inside a handler, hook or message handler of this NIC, which would wait for itself: nothing
  /// has happened. Those may call shut_down().
  Status close();
  /// Ends everything outstanding towards the peer with E_PEER_DEAD, now and later, and the page locks that it held at this node: a process
  /// that maps this node's device must have ended.
  void declare_dead(NodeId peer);
  /// Over a fabric that loses packets, a peer that says nothing for Reliability::peer_timeout while an answer is due is given up: everything
  /// outstanding towards it ends with E_TIMEOUT, now and later, and all counters count an error, as with declare_dead(). The listener is
  /// told once for each such peer, in the engine's context: it must not block. Set it before traffic.
  void set_peer_lost_listener(std::function<void(NodeId)> listener);

  [[nodiscard]] Drops drops() const;

 private:
  friend class QueuePair;
  friend class CounterEvents;
  template <class Translation>
  friend class DirectPath;
  // write_vector(), post_write_vector(). End: Blocking, Posted (direct_path.hpp).
  template <class End>
  Status write_segments(const RemoteRegion& to, std::span<const Segment> segments, const End& end);
  // Parks on `word` and on the arrival of packets, once; the caller has prepared (hence the ticket) and re-checked. shut_down() ends it.
  void park_for(WaitWord& word, std::uint32_t ticket, Nanos deadline);
  [[nodiscard]] bool stopping() const;
  // Whether drive() would find something.
  [[nodiscard]] bool may_drive() const;
  // Looks at changed() for a moment, as long as there is nothing to drive: what an initiator does is seen without a turn of the driver in
  // between. Only where a processor may be spent on it (Env::spin_budget() > 0). Returns whether it was true.
  template <class Changed>
  [[nodiscard]] bool look_for(Changed&& changed) const;
  /// A thread that spins in a wait: while it does, nobody else need be woken for what arrives.
  class Polling {
   public:
    explicit Polling(Nic& nic) : nic_(nic) {}
    Polling(const Polling&) = delete;
    Polling& operator=(const Polling&) = delete;
    ~Polling() { stop(); }
    void start() {
      if (!on_) nic_.announce_poll();
      on_ = true;
    }
    void stop() {
      if (on_) nic_.withdraw_poll();
      on_ = false;
    }

   private:
    Nic& nic_;
    bool on_ = false;
  };
  void stand_by(Nanos wait, Nanos deadline);
  void announce_poll();
  void withdraw_poll();
  // Whether a thread of another node that has waited, or let others go on, since this was asked last did so where this one is now: what this one waits for
  // may need the very processor on which it would spin.
  [[nodiscard]] bool shares_processor();
  // Ends a wait: passes on what this thread may have been woken or counted on for and did not do. Returns its argument.
  Status stop_waiting(Polling& polling, Status status);

  /// What every verb looks at first: in one line, and by value in what has verbs of its own (a queue pair).
  struct alignas(kCacheLine) Hot {
    Impl* impl = nullptr;
    DirectTarget* targets = nullptr;  ///< by node
    Stats* stats = nullptr;
    std::uint32_t self = 0;
    std::uint32_t nodes = 0;
    bool may_go = false;  ///< some of this node's memory may be evicted
  };

  Hot hot_;
  NicConfig config_;
  Env& env_;
  Stats& stats_;
  SpinHistory spins_;
  std::unique_ptr<Impl> impl_;
};

template <class Changed>
bool Nic::look_for(Changed&& changed) const {
  constexpr int kLooks = 64;  // a few microseconds: whoever waits looks at the clock and at stopping() as often
  for (int i = 0; i < kLooks && !may_drive(); ++i) {
    cpu_pause();
    if (changed()) return true;
  }
  return false;
}

template <class Changed>
Status Nic::wait_until(WaitWord& word, Changed&& changed, Nanos deadline) {
  if (changed()) return Status::ok;
  Polling polling(*this);
  SpinBudget spin(env_, spins_);
  const auto come = [&] {
    spin.over();
    return stop_waiting(polling, Status::ok);
  };
  if (spin.any()) {
    polling.start();
    if (look_for(changed)) return come();
  }
  for (;;) {
    const bool progressed = drive_once();
    if (changed()) return come();
    if (stopping()) return Status::cancelled;
    if (progressed) {
      spin.renew();
      continue;
    }
    const Nanos now = env_.now();
    if (now >= deadline) return stop_waiting(polling, Status::timeout);
    if (spin.begins() && shares_processor()) spin.give_up();
    if (spin.lasts(now)) {
      polling.start();
      env_.relax();
      if (look_for(changed)) return come();
      continue;
    }
    polling.stop();
    const std::uint32_t ticket = word.prepare();
    const bool in_time = changed();
    if (!in_time && !stopping()) {
      spin.sleeps(now);
      park_for(word, ticket, deadline);
    }
    word.finish();
    if (in_time) return come();
  }
}

}  // namespace netvm::nic
