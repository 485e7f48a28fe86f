// What stands behind a netvm::Job: one node's layers, composed. Internal to dsm/api.
//
// Invariants
//  1. At most one lives in a process; current() names it while it does.
//  2. Members are declared in the order of the layers, so that they are destroyed from the top down; the engine thread is gone first.
//  3. Collective calls outside of parallel() come from one thread a node; inside, from all its application threads.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "dsm/dsm.hpp"
#include "dsm/layout.hpp"
#include "netvm/netvm.hpp"
#include "nic/device.hpp"
#include "nic/nic.hpp"
#include "nic/shm_fabric.hpp"
#include "runtime/bootstrap.hpp"
#include "runtime/host_vm.hpp"
#include "runtime/real_env.hpp"
#include "runtime/settings.hpp"
#include "runtime/stats.hpp"
#include "runtime/topology.hpp"
#include "sync/sync.hpp"

namespace netvm::detail {

/// Where the global range lies on every node: above everything that Linux, ASan and PMIx-like libraries choose by themselves.
inline constexpr std::uintptr_t kRangeBase = 0x2000'0000'0000;

/// A lock, for messages and for what is bound to it.
struct LockPlace {
  std::string_view kind;
  const void* address = nullptr;
  sync::SyncId id;
};
/// Throws invalid_argument: an object that begins where none can.
[[noreturn]] void refuse_alignment(const char* kind, const void* object);
/// Throws Error if the lock or the bytes do not lie in an allocation of coherent memory.
void bind_to_lock(const LockPlace& lock, const void* first, std::size_t bytes);

/// Whose homes are chosen like this; each thing has so many bytes.
sync::HomeRule home_rule(const Placement& placement, std::size_t thing_bytes);
/// Why Sync::place() did not do it, for people.
std::string_view why_not_placed(Status status);

/// While it lives, a thread is an application thread whose time counts (Stat::thread_ns).
class CountedThread {
 public:
  CountedThread(Env& env, Stats& stats) : env_(env), stats_(stats), since_(env.now()) {}
  ~CountedThread() { stats_.add(Stat::thread_ns, static_cast<std::uint64_t>(env_.now() - since_)); }
  CountedThread(const CountedThread&) = delete;
  CountedThread& operator=(const CountedThread&) = delete;

 private:
  Env& env_;
  Stats& stats_;
  Nanos since_;
};

struct Runtime {
  explicit Runtime(int threads_per_node);
  ~Runtime();
  Runtime(const Runtime&) = delete;
  Runtime& operator=(const Runtime&) = delete;

  /// The process's runtime; throws Error, naming `what`, if there is none.
  static Runtime& current(std::string_view what);
  /// The same, or null.
  static Runtime* current_or_null();

  /// Global offset of an address in the global range; false if it lies elsewhere.
  [[nodiscard]] bool offset_of(const void* address, std::uint64_t* offset) const;
  [[nodiscard]] void* address_of(std::uint64_t offset) const { return vm->app_address(offset); }

  /// Whether the NIC must not be given [address, address + bytes): touching it may fault, and the NIC cannot pin it.
  [[nodiscard]] bool may_fault(const void* address, std::size_t bytes) const;

  /// Ends the job unless the status is ok: for operations that fail only when the job is broken. Where the job outlives its nodes, and one has
  /// died: throws NodeDied.
  void require(Status status, std::string_view what);
  /// What every node gives, by node. Collective. Throws NodeDied where one has died, in a job that goes on without it.
  std::vector<std::vector<std::byte>> exchange_all(std::span<const std::byte> mine);
  /// Everybody's value of a small trivially copyable thing, through the launcher. Collective.
  template <class T>
  std::vector<T> exchange(const T& mine);

  [[nodiscard]] bool is_dead(std::uint32_t node) const;
  /// "node 1 has died", "the nodes 1 and 3 have died"; where nobody is known to: "a node of the job has died".
  [[nodiscard]] std::string deaths() const;

  /// Collective end of the job: waits for all nodes, hands the report over.
  void leave();

  Settings settings;
  int threads = 1;
  std::unique_ptr<Bootstrap> boot;
  Binding binding;
  Stats stats;
  std::unique_ptr<RealEnv> env;
  std::unique_ptr<HostVm> vm;
  dsm::Layout layout;
  std::vector<std::unique_ptr<nic::Device>> devices;  // own and peers', by node
  std::unique_ptr<nic::ShmFabric> fabric;
  std::unique_ptr<nic::Nic> nic;
  std::vector<nic::RemoteRegion> symmetric;  // by node
  std::unique_ptr<dsm::Dsm> dsm;
  std::unique_ptr<sync::Sync> sync;
  std::atomic<bool> stop_engine{false};
  std::thread engine;

  std::uint64_t symmetric_used = 0;  // bytes; the same on every node, as allocation is collective
  std::string trap_reason;
  pid_t owner = 0;  // the process that joined: a child made by fork() is no node
  Nanos started_ns = 0;
  std::optional<CountedThread> counted_main;  // the thread that joined, until it leaves or serves the porting kit's threads
  mutable std::mutex dead_mutex;
  std::vector<std::uint32_t> dead;  // in the order in which this node heard of them
  std::mutex annotations_mutex;
  std::map<std::string, std::string> annotations;

 private:
  void open_memory();
  void connect();
  void check_agreement();
  void start_engine();
  void watch_deaths();
  void look_for_deaths_later();
  void print_start_line() const;
};

/// Of the calling thread: unique in the process, never 0; names the holder of a mutex. A thread of parallel() has its Thread::local() + 1, the one that made the
/// Job 1, all others count on from there in the order in which they come.
std::uint64_t this_thread_id();
/// The calling thread is that one of parallel().
void number_this_thread(int local);
/// Whether the calling thread runs inside parallel().
bool& inside_section();

/// Offset of [address, address + bytes) inside the symmetric area of a node; throws Error, naming `what`, if it is not there.
std::uint64_t symmetric_offset(const Runtime& rt, const void* address, std::size_t bytes, int node, const char* what);

/// Puts one piece: offset in the symmetric region, source that never faults, bytes, and whether it is the last.
using PutPiece = std::function<Status(std::uint64_t, const std::byte*, std::size_t, bool)>;
/// Puts from memory that may fault when it is touched, in pieces, through private memory. Throws Error.
void put_staged(int node, std::uint64_t offset, const void* from, std::size_t bytes, const PutPiece& piece);
/// Throws Error unless the status is ok: "netvm: put to node 3 failed: ...". `here`: this side's memory, if the transfer has any.
void check_transfer(Status status, const char* what, int node, const void* here = nullptr, std::size_t bytes = 0);
/// What the NIC is asked for.
nic::AtomicArgs atomic_args(Atomic op, const AtomicWords& words);

/// The node's part of the job's report, as JSON text.
std::string report_json(Runtime& runtime);

template <class T>
std::vector<T> Runtime::exchange(const T& mine) {
  static_assert(std::is_trivially_copyable_v<T>);
  const auto all = exchange_all(std::as_bytes(std::span(&mine, 1)));
  std::vector<T> values(all.size());
  for (std::size_t i = 0; i < all.size(); ++i) {
    if (all[i].size() != sizeof(T))
      throw Error("netvm: node " + std::to_string(i) + " runs another version of NetVM: rebuild the program for all nodes");
    std::memcpy(&values[i], all[i].data(), sizeof(T));
  }
  return values;
}

}  // namespace netvm::detail
