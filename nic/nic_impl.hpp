// The inside of Nic, shared by the files that implement it:
//   nic.cpp          construction, regions, counters, shutting down      nic_post.cpp      the initiator's packets
//   nic_direct.cpp   the verbs, the direct way (direct_path.hpp)         nic_receive.cpp   what arrives: answers, and the sequence
//   nic_progress.cpp driving, waiting, parking, the engine               nic_retire.cpp    what an arriving request does
//   nic_events.cpp   what a counter sets off                             nic_redirect.cpp  pages that are not there
//   nic_transmit.cpp what leaves: credits, acknowledgements, timers        nic_waits.cpp     who waits, for reports
//
// Locks, in the order of taking: driver (a role, only ever tried) > Channel::lock > the request table's. `control`, `local_lock`,
// `ended_lock`, `parked_lock` and that of CounterEvents are taken alone. Completions and handlers run with none of them but the driver's role
// held.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "nic/acknowledger.hpp"
#include "nic/counter_events.hpp"
#include "nic/credit_bank.hpp"
#include "nic/device.hpp"
#include "nic/firmware.hpp"
#include "nic/held_memory.hpp"
#include "nic/message_assembler.hpp"
#include "nic/nic.hpp"
#include "nic/redirect_table.hpp"
#include "nic/request_table.hpp"
#include "nic/sequence_window.hpp"
#include "nic/spin_budget.hpp"
#include "nic/transmitter.hpp"
#include "nic/wire.hpp"
#include "runtime/fork_guard.hpp"
#include "runtime/task_group.hpp"

namespace netvm::nic {

inline bool is_write(Opcode op) { return op == Opcode::write || op == Opcode::write_vector; }
inline void count(std::atomic<std::uint64_t>& counter) {
  counter.fetch_add(1, std::memory_order_relaxed);  // relaxed: statistics order nothing
}

/// This node -> a target, in packets.
struct alignas(kCacheLine) Channel {
  std::atomic<bool> dead{false};
  std::atomic<bool> failed{false};             ///< a write of this era has failed: ORDERED notifications stop
  std::atomic<std::uint8_t> error_era{0};      ///< counts clear_errors()
  std::atomic<Status> ended_with{Status::ok};  ///< why it is dead
  std::atomic<std::uint32_t> own_limit{0};     ///< credits that the target has from this node, cumulative: told with every packet
  std::atomic<std::uint32_t> own_limit_told{0};
  SpinLock lock;  ///< guards what follows; numbers are given, and packets handed to the fabric, under it
  Transmitter transmitter;
  Acknowledger acknowledger;  ///< of what comes from the target; for fabrics that lose
  Nanos timer = kForever;     ///< when on_timer() will run
  Nanos stalled_since = -1;   ///< requests wait for credits since then; negative: none do
};

/// A source -> this node. Belongs to the driver.
struct Inbound {
  SequenceWindow window;
  std::uint32_t credits_heard = 0;  ///< the source's last word on what this node may send it; fabrics that do not lose
  MessageAssembler messages;
  bool failed = false;  ///< a write has failed, in the era below
  std::uint8_t failed_era = 0;
  std::uint64_t retired = 0;       ///< packets so far
  std::uint64_t last_failure = 0;  ///< which packet, counted by `retired`, was the last failed write; 0: none
  bool waits = false;              ///< its next read or atomic waits for a page
  Status fault = Status::ok;       ///< how that page's fault ended
};

/// What a posted write, read or vector wants; nic_post.cpp cuts it into packets.
struct Posting {
  RemoteRegion region;
  std::uint64_t offset = 0;
  const std::byte* source = nullptr;
  std::byte* landing = nullptr;
  std::uint64_t bytes = 0;
  NotifyFlag notify = NotifyFlag::none;
  CounterId counter{};
  std::uint64_t increment = 0;
};

/// When a packet is shown to its target.
enum class Leaves : std::uint8_t {
  now,
  soon,  ///< with one that follows at once
};

struct Nic::Impl final : PacketSink {
  Impl(const NicConfig& config, Env& env, HostVm& vm, Fabric& fabric, Device& device, Stats& stats);

  // ---- nic_direct.cpp
  /// The target's device, if a request may go the direct way now.
  Device* direct(NodeId target) {
    const DirectTarget& way = targets[target.value];
    if (way.device.load(std::memory_order_acquire) == nullptr && !find_device(target)) [[unlikely]]  // acquire: as open()'s
      return nullptr;
    return way.open();
  }
  /// Opens the direct way, if there is one. True: it has.
  bool find_device(NodeId target);
  void close_direct_way(NodeId target) { targets[target.value].device.store(nullptr); }
  void close_direct_ways() {
    for (std::uint32_t node = 0; node < config.nodes; ++node) close_direct_way(NodeId{node});
  }
  /// After a direct execution that did not simply work: brings a page of this node in and tries again, or notes the failure.
  /// False: it must go as packets.
  bool direct_failed(NodeId target, const WorkRequest& request, Outcome* outcome);
  bool try_direct_vector(const RemoteRegion& to, std::span<const Segment> segments, Status* status);
  /// The notification of a direct write that ended with `written`, or of none. Returns how both together ended.
  Status notify_direct(Device& target, const RemoteCounter& counter, std::uint64_t increment, NotifyMode mode, Status written);
  Status note_lost_source(NodeId target, Status why);
  /// The same of a write with a notification: it counts as an error, whatever its mode.
  Status notify_lost_source(const RemoteCounter& counter, std::uint64_t increment, Status why);
  void note_write_failure(Channel& channel, std::uint8_t era) {
    if (channel.error_era.load() == era) channel.failed.store(true);
  }
  [[nodiscard]] bool is_node(NodeId n) const { return n.value < config.nodes; }

  // ---- nic_post.cpp: everything here goes as packets
  /// How many packets a write or read makes. Cut at pages of the target: a write has as many in each as fit, so that headers and answers are few; a read
  /// one, which the target stages whole before it answers. An empty request still travels: the target judges its key.
  struct Cut {
    std::uint64_t pages;
    std::uint64_t pages_each;
    std::uint64_t packets;
  };
  [[nodiscard]] Cut cut(Opcode opcode, std::uint64_t offset, std::uint64_t bytes) const {
    const std::uint64_t pages = bytes == 0 ? 1 : (offset % kPageSize + bytes + kPageSize - 1) / kPageSize;
    const std::uint64_t each = opcode == Opcode::write ? max_payload() / kPageSize : 1;
    return {pages, each, (pages + each - 1) / each};
  }
  void post_move(Opcode opcode, const Posting& posting, Completion* completion, WhenFull when_full = WhenFull::queue);
  void post_vector(const RemoteRegion& to, std::span<const Segment> segments, Completion* completion, WhenFull when_full = WhenFull::queue);
  void post_atomic(const RemoteRegion& on, std::uint64_t offset, const AtomicArgs& args, Completion* completion,
                   WhenFull when_full = WhenFull::queue);
  void post_notify(const RemoteCounter& counter, std::uint64_t increment, Completion* completion, WhenFull when_full = WhenFull::queue);
  void post_message(NodeId to, MessageKind kind, std::span<const std::byte> body);
  /// Sends all fragments at once. False: there are not enough credits, and nothing has happened.
  bool send_fragments(Channel& channel, PacketHeader& header, std::span<const std::byte> body, std::uint32_t packets);
  void post_local(MessageKind kind, std::span<const std::byte> body);
  PacketHeader header_for(NodeId target, Opcode opcode);
  /// Whether `packets` may be posted; if not, *refused says why. The caller holds the channel's lock.
  static bool admits(const Channel& channel, Opcode opcode, std::uint32_t packets, WhenFull when_full, Status* refused);
  /// Registers one request of an operation and sends it, or queues it if there is no credit; the caller holds the channel's lock. False: refused, and *refused says why.
  bool send_request(Channel& channel, PacketHeader& header, std::span<const std::byte> payload, const RequestTable::Request& request,
                    Status* refused);
  /// Ends `count` requests of the operation that were never sent. Without the channel's lock.
  void end_refused(RequestTable::Operation* operation, std::uint32_t count, Status status);
  [[nodiscard]] std::size_t max_payload() const { return max_packet - kMaxHeader; }
  [[nodiscard]] std::uint32_t packets_of(std::size_t message_bytes) const {
    return static_cast<std::uint32_t>(std::max<std::size_t>(1, (message_bytes + max_payload() - 1) / max_payload()));
  }

  // ---- nic_transmit.cpp. With a Channel& as argument: the caller holds its lock.
  /// Encodes and hands to the fabric, with the newest credits and acknowledgement.
  void put_on_wire(Channel& channel, PacketHeader& header, std::span<const std::byte> payload, Leaves leaves = Leaves::now);
  /// Numbers the packet and sends it, or queues a copy.
  void send_packet(Channel& channel, PacketHeader& header, std::span<const std::byte> payload, Leaves leaves = Leaves::now);
  /// Notes that requests have begun or ceased to wait for credits.
  void watch_credits(Channel& channel);
  void send_ack(Channel& channel, NodeId to, AckCode code, std::uint32_t wanted_back);
  /// Sends some of what may leave now; returns how many.
  int send_burst(Channel& channel);
  /// Sends all that may leave now.
  void pump(NodeId to);
  void arm(Channel& channel, NodeId peer);
  /// Takes what a packet says about the opposite channel.
  void hear(NodeId from, const Packet& packet);
  void on_ack(NodeId from, const PacketHeader& header);
  void note_arrival(NodeId from, std::uint32_t sequence);
  void acknowledge(NodeId from);
  /// A packet that takes a credit has arrived. False: the source had none.
  bool accept_credit(NodeId from);
  /// Its system buffer is free: it has retired, and what was redirected is in place.
  void credit_returned(NodeId from);
  void publish_limit(NodeId peer);
  void tell_news();
  void on_timer(NodeId peer);
  /// Ends everything towards the peer, now and later, with `why`.
  void end_channel(NodeId peer, Status why);
  void close_accounts();
  /// Blocks until everything that was sent has arrived, or nobody hears it any more; at most for the peer timeout.
  void linger();
  bool all_flushed();

  // ---- nic_receive.cpp
  void on_packet(NodeId from, std::span<const std::byte> packet) noexcept override;
  void on_answer(NodeId from, const Packet& packet);
  void on_sequenced(NodeId from, const Packet& packet);
  /// What takes effect on arrival, whatever is missing before it.
  void on_arrival(NodeId from, const Packet& packet);
  void keep(Inbound& channel, HeldPacket held, const Packet& packet);
  void retire_held(NodeId from, Inbound& channel);
  /// The head of the window has retired.
  void advance(NodeId from, Inbound& channel);
  /// Leaves by send_answers().
  void answer(const PacketHeader& request, Status status, std::uint64_t old_value = 0);
  void answer_data(const PacketHeader& request, std::span<const std::byte> data);

  // ---- nic_retire.cpp
  HeldPacket arrive(const Packet& packet);
  /// False: it cannot take effect yet, and nothing has happened.
  bool retire(NodeId from, Inbound& channel, HeldPacket& held, std::span<const std::byte> payload);
  bool retire_write(Inbound& channel, HeldPacket& held);
  bool execute_read(NodeId from, Inbound& channel, const PacketHeader& header);
  bool execute_atomic(NodeId from, Inbound& channel, const PacketHeader& header);
  /// Ends a write that has landed (or failed), unless it has to wait for its turn: then false.
  bool end_at_once(const PacketHeader& header, Status written);
  void on_fragment(NodeId from, Inbound& channel, const PacketHeader& header, std::span<const std::byte> payload);
  Status land(const Packet& packet, std::shared_ptr<RedirectedWrite>* redirected);
  Status land_vector(const Packet& packet, std::shared_ptr<RedirectedWrite>* redirected);
  Status count_ordered(Inbound& channel, const PacketHeader& header, Status written);
  void deliver(NodeId from, std::uint8_t kind, std::span<const std::byte> body);

  // ---- nic_redirect.cpp
  /// A fault that the host has ended, on its way to the driver.
  struct EndedFault {
    RedirectTable::Fault fault;
    Status status = Status::ok;
    FramePins pins;
  };
  /// The pages to bring in for a request that misses one: the rest of its work request, within its region.
  [[nodiscard]] PageRange fault_range(const WorkRequest& request, PageId missing, std::uint64_t pages_ahead) const;
  /// Pins the range, or its first page, if that takes no waiting.
  FramePins pin_at_once(PageRange range, bool write);
  /// Goes on with a request that has met a page of this node, as far as the host can bring in what is missing without waiting. False: it
  /// cannot, and *outcome says which page is missing. Any thread.
  bool execute_at_once(const WorkRequest& request, std::uint64_t pages_ahead, Outcome* outcome);
  /// Executes on this node's memory and brings in what takes no waiting. Not resident: the page waits, and the caller queues at it.
  Outcome execute_or_fault(const WorkRequest& request, std::uint64_t pages_ahead);
  /// For what a channel does in its turn. Not resident: the channel waits.
  Outcome execute_in_turn(NodeId from, Inbound& channel, const WorkRequest& request, std::uint64_t pages_ahead);
  /// Writes what can be written; the rest of the packet's payload goes to *redirected, which is made if need be.
  Status land_or_redirect(const Packet& packet, const WorkRequest& request, std::shared_ptr<RedirectedWrite>* redirected);
  void start_faults();
  /// In a task of the host: never with the driver's role.
  void on_pinned(const RedirectTable::Fault& fault, Result<FramePins> pins);
  bool finish_faults();
  void finish_fault(const EndedFault& ended);
  /// What waits no more.
  struct Released {
    std::vector<std::shared_ptr<RedirectedWrite>> writes;
    std::vector<NodeId> channels;
  };
  /// Copies what waits for a page that is there, and opens it.
  void drain(PageId page, Released* released);
  void fail(PageId page, Status status, Released* released);
  /// Nothing waits for the page any more, wherever it is: its entry refuses nobody on that account.
  void open(PageId page);
  void end_piece(PageId page, Status status, Released* released);
  void end_waiting(PageId page, Status status, Released* released);
  void resume(NodeId source);

  // ---- nic_progress.cpp
  /// Answers go out together when everything that is there has been looked at.
  bool drive();
  void send_answers();
  bool deliver_local();
  /// Parks on the word and on the arrival of packets, unless something has arrived.
  void park(ParkOn word, Nanos deadline);
  [[nodiscard]] bool work_pending() const;
  std::uint64_t note_processor();  // where the calling thread runs, for those who wait; plus 1
  bool leave_processor();          // the calling thread goes on where no other node's thread was last, if it may

  NicConfig config;
  Env& env;
  HostVm& vm;
  OwnMemory own;
  Fabric& fabric;
  Device& device;
  Stats& stats;
  std::size_t max_packet;
  bool loses;  ///< the fabric may lose packets

  std::unique_ptr<DirectTarget[]> targets;  // by node
  std::unique_ptr<Channel[]> channels;      // by target
  std::unique_ptr<Inbound[]> inbound;       // by source
  RequestTable requests;
  std::unique_ptr<CounterEvents> events;
  CreditBank bank;                  ///< the driver's
  std::atomic<bool> deaths{false};  ///< of nodes whose credits the driver has to take back
  std::function<void(NodeId)> peer_lost;
  /// What timers hold on to: they may outlive the NIC.
  struct Lifeline {
    Impl* nic;
  };
  std::shared_ptr<Lifeline> lifeline;
  std::array<std::atomic<MessageHandler*>, kMessageKinds> handlers{};

  RedirectTable redirects;  // the driver's
  TaskGroup host_faults;
  SpinLock ended_lock;
  std::vector<EndedFault> ended_faults;
  std::atomic<std::uint32_t> ended_count{0};

  struct alignas(kCacheLine) {
    SpinLock role;                       // who drives; only ever tried
    std::atomic<std::uintptr_t> who{0};  // Env::context(), while somebody does
    bool collects = false;               // drive() runs, and sends the answers at its end; the role's
    std::vector<PacketHeader> answers;   // the role's
  } driver;

  /// Messages of this node to itself.
  struct LocalMessage {
    MessageKind kind;
    std::vector<std::byte> body;
  };
  SpinLock local_lock;
  std::vector<LocalMessage> local_messages;
  std::atomic<std::size_t> local_count{0};
  std::atomic<bool> lingering{false};
  WaitWord flushed;      // linger() waits here
  WaitWord engine_word;  // what the engine parks on beside the fabric's bell
  std::atomic<bool> has_engine{false};
  std::atomic<bool> nudged{false};
  std::atomic<bool> driven_by_application{false};  // since the engine's last look, outside of any wait
  Nanos stand_by_ns = 0;                           // the engine's

  SpinLock control;   // region and counter tables' changes
  PageRange allowed;  // where regions may be created; under `control`
  std::unique_ptr<std::atomic<std::uint64_t>[]>
      processors_seen;  // by node: its DeviceHeader::processor when shares_processor() last found it here
  ProcessorMoves moves;
  std::unique_ptr<std::atomic<std::uint64_t>[]> errors_returned;  // by counter: of its error half, what counter_wait() has returned

  class Waiting;  // nic_waits.hpp
  mutable SpinLock waiting_lock;
  Waiting* waiting = nullptr;

  /// Threads in park_for(), so that shut_down() finds the words they wait on.
  struct Parked {
    WaitWord* word;
    Parked* next;
    Parked** link;
  };
  SpinLock parked_lock;
  Parked* parked = nullptr;
  std::atomic<bool> stopping{false};
  std::atomic<bool> forked{
      false};  // in a child made by fork(): locks may be taken for ever, the device is the parent's. Implies `stopping`
  /// How everything ends while `stopping`.
  [[nodiscard]] Status ended() const { return forked.load() ? Status::forked : Status::cancelled; }
  static void on_fork(void* self) noexcept;
  std::atomic<bool> peer_died{false};

  ForkGuard fork_guard{&Impl::on_fork, this};

  struct {
    std::atomic<std::uint64_t> malformed{0}, stale{0}, duplicate{0}, outside{0}, unmatched{0}, fragments{0}, unhandled{0}, from_dead{0},
        no_credit{0};
  } dropped;
};

}  // namespace netvm::nic
