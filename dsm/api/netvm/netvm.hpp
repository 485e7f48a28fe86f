// NetVM: shared memory for C++ programs that run on several nodes. The whole public interface.
//
//   int main() {
//     netvm::Job job;                                    // this process joins the job that netvmrun started
//     long* sums = job.allocate_all<long>(job.nodes());   // the same pointer on every node
//     job.parallel([&](netvm::Thread& me) {               // runs on every thread of every node
//       sums[me.node()] += 1;                             // ordinary loads and stores
//       me.barrier();                                     // what was written before is visible after
//     });
//   }
//
// Start it with `netvmrun -n 4 ./program`; started alone it is a job of one node. Every node runs main(). "Collective" below means:
// every node calls it, in the same order. What a racy program may see depends on the protocol: docs/memory_model.md.
//
// Errors: constructors and allocation throw netvm::Error (a std::runtime_error); locks throw std::system_error as std::mutex does.
#pragma once

#if __cplusplus < 202002L
#error "NetVM's headers are C++20: compile with -std=c++20"
#endif

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <span>
#include <stdexcept>
#include <stop_token>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

namespace netvm {

/// Something that cannot go on; what() says what was wrong, where, and what to do.
class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// No shared memory left (or a size that can never fit). what() says how much was asked and how much is left.
class AllocationError : public Error {
 public:
  using Error::Error;
};

/// A node of the job has died and the others go on (netvmrun --on-death=continue): barriers, reductions and other collective calls throw this from then on.
class NodeDied : public Error {
 public:
  using Error::Error;
};

/// Where the master copies of an allocation's pages live.
struct Placement {
  enum class Kind : std::uint8_t { first_touch, block, cyclic, at_node };
  Kind kind = Kind::first_touch;
  int node = 0;
  static Placement first_touch() { return {Kind::first_touch, 0}; }  ///< at the node that touches a page first
  static Placement block() { return {Kind::block, 0}; }              ///< node 0 the first 1/N of the pages, and so on
  static Placement cyclic() { return {Kind::cyclic, 0}; }            ///< page i at node i mod N
  static Placement at(int node) { return {Kind::at_node, node}; }    ///< all at one node
};

class mutex;
namespace detail {
/// Of a mutex or another synchronisation object, which is placed with the memory that is allocated for it.
template <class T>
inline constexpr bool is_object = false;
template <>
inline constexpr bool is_object<mutex> = true;
}  // namespace detail

/// What a program relies on where threads of different nodes use the same memory. From the weakest to the strongest: each promises what those before it do.
enum class Consistency : std::uint8_t {
  any,         ///< barriers: what was written before one is seen after it. Every protocol gives that
  entry,       ///< and: after lock(), what was written under the same mutex to memory that is bound to it (mutex::bind)
  scope,       ///< and: ... to any memory
  release,     ///< and: what was written before an unlock is seen after every lock that follows it, directly or through others
  sequential,  ///< all accesses happen in one order, also racy ones
};

/// How an allocation behaves.
struct AllocationOptions {
  Placement placement = {};        ///< of mutexes and other synchronisation objects also their home, one by one: see place()
  std::string_view protocol = {};  ///< "hlrc", "sc-directory", ... (netvmrun --help lists them); empty: the run's (netvmrun --protocol)
  std::size_t alignment = 0;       ///< bytes, a power of two; 0: the type's own, and a page for 4 KiB and more
  /// Bytes that are kept coherent as one: a power of two from 4 KiB to 64 KiB; 0: the run's (netvmrun --granularity). Large units need fewer
  /// faults and messages where neighbours are used together; two nodes that write to one unit pay for it. Objects up to 2 KiB always have 4 KiB.
  std::size_t granularity = 0;
  Consistency needs = Consistency::any;  ///< a protocol that gives less is refused, with the names of those that give it
  /// What statistics (netvmrun --stats, --report) and messages call it; 31 bytes of it are kept, none of them a control character. What has a name has pages of its own, however small it is.
  std::string_view name = {};
};

/// The names of all coherence protocols: what AllocationOptions::protocol and netvmrun --protocol take.
[[nodiscard]] std::vector<std::string_view> protocol_names();

class Job;

namespace detail {
/// How long an operation waits for others: nanoseconds, 0 tries. Times beyond what nanoseconds can say are no limit, those that are over are 0.
inline constexpr std::int64_t kNoLimit = INT64_MAX;
template <class Rep, class Period>
std::int64_t limit_of(const std::chrono::duration<Rep, Period>& time) {
  if (time <= time.zero()) return 0;
  if (std::chrono::duration<double>(time) >= std::chrono::duration<double>(std::chrono::nanoseconds::max())) return kNoLimit;
  return std::chrono::ceil<std::chrono::nanoseconds>(time).count();
}
/// Until a moment of a clock; time_point::min() and max() are moments as others.
template <class Clock, class Duration>
std::int64_t limit_until(const std::chrono::time_point<Clock, Duration>& moment) {
  using Rough = std::chrono::duration<double>;  // the difference of two moments may be more than their type can hold
  const auto now = Clock::now();
  const Rough rough = Rough(moment.time_since_epoch()) - Rough(now.time_since_epoch());
  if (rough >= Rough(std::chrono::nanoseconds::max())) return kNoLimit;
  return rough < std::chrono::seconds(-1) ? 0 : limit_of(moment - now);
}

struct Runtime;
// `object_bytes`: not 0: objects of that size, which are placed, too.
void* allocate(std::size_t bytes, std::size_t alignment, const AllocationOptions& options, std::size_t object_bytes);
void* allocate_all(std::size_t bytes, std::size_t alignment, const AllocationOptions& options, std::size_t object_bytes);
void place(const void* first, std::size_t bytes, std::size_t stride, const Placement& placement);
void* symmetric_all(std::size_t bytes, std::size_t alignment);
void put(int node, void* to, const void* from, std::size_t bytes);
void get(int node, const void* from, void* to, std::size_t bytes);
enum class Atomic : std::uint8_t { fetch_add, swap, compare_swap, masked_compare_swap, fetch_or };
/// `operand` is what is added, written or set; the others are of compare_swap and masked_compare_swap.
struct AtomicWords {
  std::uint64_t operand = 0;
  std::uint64_t expected = 0;
  std::uint64_t compare_mask = ~std::uint64_t{0};
  std::uint64_t swap_mask = ~std::uint64_t{0};
};
std::uint64_t atomic(int node, std::uint64_t* on, Atomic op, const AtomicWords& words);
void checked_load(const void* from, void* to, std::size_t bytes);
void checked_store(void* to, const void* from, std::size_t bytes);
template <class T>
std::size_t bytes_of(std::size_t n) {
  if (n > SIZE_MAX / 2 / sizeof(T)) {
    throw AllocationError("netvm: " + std::to_string(n) + " objects of " + std::to_string(sizeof(T)) + " bytes exceed any address space");
  }
  return n * sizeof(T);
}
}  // namespace detail

/// One thread of a parallel() section, as handed to the function. Lives on that thread.
class Thread {
 public:
  /// 0 .. count()-1 over all nodes; threads of one node are neighbours.
  [[nodiscard]] int rank() const { return node_ * threads_ + local_; }
  [[nodiscard]] int count() const { return nodes_ * threads_; }
  [[nodiscard]] int node() const { return node_; }
  [[nodiscard]] int nodes() const { return nodes_; }
  /// 0 .. threads()-1 inside this node.
  [[nodiscard]] int local() const { return local_; }
  [[nodiscard]] int threads() const { return threads_; }

  /// Blocks until every thread of the section is here. Everything written before is visible after.
  void barrier();
  void arrive_and_wait() { barrier(); }

  /// What arrive() returns and wait() takes.
  class arrival_token {
   private:
    friend class Thread;
    arrival_token(std::uint64_t number, bool has_arrived) : number_(number), has_arrived_(has_arrived) {}
    std::uint64_t number_;
    bool has_arrived_;
  };
  /// The barrier in two halves: arrive() says that this thread has come and goes on, wait() blocks until every thread of the section has. What was
  /// written before anybody's arrive() is visible after wait(); in between work on what nobody else needs. A thread waits before it calls anything
  /// collective again (else std::system_error, operation_not_permitted); others may call barrier() meanwhile. Under the protocols "scope" and "entry" the arrival takes effect in wait():
  /// there nothing between the two may wait for a thread that has passed.
  [[nodiscard]] arrival_token arrive();
  void wait(arrival_token&& arrival);

  /// Gives everybody the value of the thread whose rank is `root`. A barrier, too.
  template <class T>
  T broadcast(const T& value, int root = 0) {
    static_assert(std::is_trivially_copyable_v<T>);
    T result = value;
    broadcast_bytes(&result, sizeof(T), root);
    return result;
  }
  /// The same of `count` objects in private memory.
  template <class T>
  void broadcast(T* values, std::size_t count, int root) {
    static_assert(std::is_trivially_copyable_v<T>);
    broadcast_bytes(values, detail::bytes_of<T>(count), root);
  }

  /// Combines every thread's value with an associative `op` (in rank order of nodes) and returns the result to all. A barrier, too.
  /// Where `op` throws, nobody has a result: Error on all nodes, which says who threw what, and collectives end for good. Catch it in `op`.
  template <class T, class Op>
  T reduce(const T& value, Op op) {
    static_assert(std::is_trivially_copyable_v<T>);
    T result = value;
    all_reduce(&result, sizeof(T), [op](void* sum, const void* other) {
      T a;
      T b;
      std::memcpy(&a, sum, sizeof(T));
      std::memcpy(&b, other, sizeof(T));
      a = op(a, b);
      std::memcpy(sum, &a, sizeof(T));
    });
    return result;
  }
  template <class T>
  T sum(const T& value) {
    return reduce(value, std::plus<T>{});
  }
  template <class T>
  T max(const T& value) {
    return reduce(value, [](const T& a, const T& b) { return a < b ? b : a; });
  }
  template <class T>
  T min(const T& value) {
    return reduce(value, [](const T& a, const T& b) { return b < a ? b : a; });
  }

 private:
  friend class Job;
  Thread(int node, int nodes, int local, int threads) : node_(node), nodes_(nodes), local_(local), threads_(threads) {}
  void all_reduce(void* value, std::size_t bytes, const std::function<void(void*, const void*)>& combine);
  void broadcast_bytes(void* value, std::size_t bytes, int root);
  void must_not_owe(const char* what) const;
  int node_, nodes_, local_, threads_;
  bool owes_wait_ = false;  // has arrived, and not waited
};

/// This process's membership in a job. Make one at the start of main(), before other threads use shared memory; it leaves in its
/// destructor (which waits for all nodes). One in a process: under netvmrun a process joins once. A child made by fork() is no node: it
/// must not use shared memory or this interface. SIGSEGV and SIGBUS belong to NetVM while the Job lives: a handler of your own must be
/// installed before it (it is called for what is not ours).
class Job {
 public:
  /// Joins the job named by the environment (netvmrun sets it), or starts a job of one node. Collective. Throws Error.
  Job();
  /// The same with this many threads a node for parallel(), whatever NETVM_THREADS says. 0: what it says.
  explicit Job(int threads_per_node);
  ~Job();
  Job(const Job&) = delete;
  Job& operator=(const Job&) = delete;

  [[nodiscard]] int node() const;
  [[nodiscard]] int nodes() const;
  [[nodiscard]] int threads_per_node() const;
  /// The protocol of allocations that name none.
  [[nodiscard]] std::string_view protocol() const;

  /// Runs f(Thread&) on every thread of every node and returns when all are done. Collective; a barrier at both ends. An exception that
  /// leaves f ends the job with its message; NodeDied leaves parallel() instead, when all threads of this node have come out of f.
  template <class F>
  void parallel(F&& f) {
    run_parallel([&f](Thread& me) { f(me); });
  }

  /// Waits for all nodes (one thread of each, outside of parallel()). Collective.
  void barrier();
  /// Gives every node the value of node `root` (one thread of each, outside of parallel()). Collective; a barrier, too.
  template <class T>
  [[nodiscard]] T broadcast(const T& value, int root = 0) {
    static_assert(std::is_trivially_copyable_v<T>);
    T result = value;
    broadcast_bytes(&result, sizeof(T), root);
    return result;
  }

  /// Zeroed shared memory for n objects (0 of them: a pointer to none, as of new T[0]); any thread of any node may call at any time. The pointer means the same on every node: hand it
  /// over through shared memory. Throws AllocationError. No constructor runs: T must be fine as zero bytes.
  template <class T>
  [[nodiscard]] T* allocate(std::size_t n = 1, const AllocationOptions& options = {}) {
    check_shareable<T>();
    return static_cast<T*>(detail::allocate(detail::bytes_of<T>(n), alignof(T), options, detail::is_object<T> ? sizeof(T) : 0));
  }
  /// The same, collective (outside of parallel()): every node gets the same pointer.
  template <class T>
  [[nodiscard]] T* allocate_all(std::size_t n = 1, const AllocationOptions& options = {}) {
    check_shareable<T>();
    return static_cast<T*>(detail::allocate_all(detail::bytes_of<T>(n), alignof(T), options, detail::is_object<T> ? sizeof(T) : 0));
  }
  /// Returns memory of allocate() or allocate_all(); once, from one node. Throws Error if it is not such memory. Null is fine.
  void free(void* memory);

  /// Global-address-space memory: n objects on *each* node, at the same address everywhere, each node's its own. Reach another node's with put(),
  /// get() and the atomics. Collective; zeroed; lives until the job ends. No coherence, no page faults.
  template <class T>
  [[nodiscard]] T* symmetric_all(std::size_t n = 1) {
    check_shareable<T>();
    return static_cast<T*>(detail::symmetric_all(detail::bytes_of<T>(n), alignof(T)));
  }

  /// Takes the page faults of a range now instead of one by one, or before a system call gets the buffer (system calls on
  /// memory without rights fail with EFAULT). With a memory budget (NETVM_MEMORY) pages may go again: touch little, use it at once, and try
  /// again after EFAULT. Throws Error on memory that is not allocated.
  void touch(const void* memory, std::size_t bytes, bool write);

  /// Adds a line to the job's report (netvmrun --report): seconds, verified... Later values replace earlier ones of the same key.
  void annotate(std::string_view key, std::string_view value);
  void annotate(std::string_view key, double value);

 private:
  template <class T>
  static constexpr void check_shareable() {
    static_assert(std::is_trivially_destructible_v<T>, "shared memory runs no destructors");
  }
  void run_parallel(const std::function<void(Thread&)>& f);
  void broadcast_bytes(void* value, std::size_t bytes, int root);
  std::unique_ptr<detail::Runtime> runtime_;
};

// ---- put, get, atomics on symmetric memory --------------------------------------------------------------------------------------------
// `to` / `from` / `on` on the remote side are addresses inside memory of Job::symmetric_all(). Each call blocks until the bytes are visible
// (put) or here (get). The target's application is not involved: it may compute meanwhile. Throw Error: no such node, not symmetric memory.

/// Copies n objects from private (or own symmetric) memory to node `node`'s instance of `to`.
template <class T>
void put(int node, T* to, const T* from, std::size_t n = 1) {
  static_assert(std::is_trivially_copyable_v<T>);
  detail::put(node, to, from, detail::bytes_of<T>(n));
}
/// Copies n objects from node `node`'s instance of `from`.
template <class T>
void get(int node, const T* from, T* to, std::size_t n = 1) {
  static_assert(std::is_trivially_copyable_v<T>);
  detail::get(node, from, to, detail::bytes_of<T>(n));
}
/// Atomic on node `node`'s instance of the word, also with std::atomic_ref there. Each returns the old value.
inline std::uint64_t fetch_add(int node, std::uint64_t* on, std::uint64_t by) {
  return detail::atomic(node, on, detail::Atomic::fetch_add, {by});
}
inline std::uint64_t fetch_or(int node, std::uint64_t* on, std::uint64_t bits) {
  return detail::atomic(node, on, detail::Atomic::fetch_or, {bits});
}
inline std::uint64_t swap(int node, std::uint64_t* on, std::uint64_t value) {
  return detail::atomic(node, on, detail::Atomic::swap, {value});
}
inline std::uint64_t compare_swap(int node, std::uint64_t* on, std::uint64_t expected, std::uint64_t value) {
  return detail::atomic(node, on, detail::Atomic::compare_swap, {value, expected});
}
/// Of a word with several fields: where the bits under compare_mask are those of `expected`, the bits under swap_mask become those of `value`.
inline std::uint64_t masked_compare_swap(int node, std::uint64_t* on, std::uint64_t expected, std::uint64_t value,
                                         std::uint64_t compare_mask, std::uint64_t swap_mask) {
  return detail::atomic(node, on, detail::Atomic::masked_compare_swap, {value, expected, compare_mask, swap_mask});
}

/// Counts arrivals at one node: a put that announces itself. Make it with Job-wide agreement: every node makes its own instance in the same order.
class EventCounter {
 public:
  /// Collective, outside of parallel(), and through the launcher: a node that comes --start-timeout (30 s) after another ends the job. Throws Error
  /// when the NIC has none left (4096 a node). The destructor is not collective: no other node may notify this one's instance any more (a
  /// Job::barrier() before it sees to that).
  explicit EventCounter(Job& job);
  ~EventCounter();
  EventCounter(const EventCounter&) = delete;
  EventCounter& operator=(const EventCounter&) = delete;

  [[nodiscard]] std::uint64_t value() const;
  /// Blocks until this node's instance has reached the threshold; everything announced is visible then. False if the time is over first.
  void wait(std::uint64_t threshold);
  bool wait_for(std::uint64_t threshold, std::chrono::nanoseconds time);

  /// Is told the value, returns the threshold of its next run (`never`: no more).
  using Handler = std::function<std::uint64_t(std::uint64_t value)>;
  static constexpr std::uint64_t never = UINT64_MAX;
  /// Runs the handler whenever this node's instance has reached the threshold, in a thread of NetVM's, one run after the other; everything
  /// announced is visible to it. No increment is lost: it runs again as long as the value has reached what it returned. It may use shared
  /// memory, locks, put() and get(), but nothing collective. An exception that leaves it ends the job with its message. Throws Error if
  /// there is a handler already.
  void on_reach(std::uint64_t threshold, Handler handler);
  /// Takes the handler away; blocks while it runs, and from inside it makes this run the last. The destructor takes it away, too.
  void clear_handler();

  /// Increments node `node`'s instance, after every earlier put of this node to it is visible.
  void notify(int node, std::uint64_t by = 1);
  /// put() that increments node `node`'s instance once it and every earlier put to that node are visible.
  template <class T>
  void put(int node, T* to, const T* from, std::size_t n = 1, std::uint64_t by = 1) {
    static_assert(std::is_trivially_copyable_v<T>);
    put_bytes(node, to, from, detail::bytes_of<T>(n), by);
  }

 private:
  void put_bytes(int node, void* to, const void* from, std::size_t bytes, std::uint64_t by);
  struct State;
  std::unique_ptr<State> state_;
};

/// Puts, gets and atomics that do not wait, many in flight at once: like OpenSHMEM's non-blocking operations, with this object as the
/// context. Addresses as for put() and get(). One thread at a time; each thread makes its own. On one host an operation is usually over when the
/// call returns.
///
///   netvm::Transfers transfers(job);
///   for (int node = 0; node < job.nodes(); ++node) transfers.put_async(node, &table[me], &mine);
///   transfers.fence();                                       // the flags become visible after the data
///   for (int node = 0; node < job.nodes(); ++node) transfers.put_async(node, &flags[me], &one);
///   transfers.quiet();                                       // `mine` and `one` may change again
class Transfers {
 public:
  /// `depth`: operations in flight to one node before a call waits for one to end; a power of two up to 65536. Throws Error.
  explicit Transfers(Job& job, int depth = 256);
  /// Waits for what is in flight.
  ~Transfers();
  Transfers(const Transfers&) = delete;
  Transfers& operator=(const Transfers&) = delete;

  /// The source must not change before quiet().
  template <class T>
  void put_async(int node, T* to, const T* from, std::size_t n = 1) {
    static_assert(std::is_trivially_copyable_v<T>);
    put_bytes(node, to, from, detail::bytes_of<T>(n));
  }
  /// What is got is here after quiet().
  template <class T>
  void get_async(int node, const T* from, T* to, std::size_t n = 1) {
    static_assert(std::is_trivially_copyable_v<T>);
    get_bytes(node, from, to, detail::bytes_of<T>(n));
  }
  /// The atomics of one word: each leaves the old value in *old (private memory; may be null) by quiet(). Those on one node take effect in the order of
  /// asking.
  void fetch_add_async(int node, std::uint64_t* on, std::uint64_t by, std::uint64_t* old = nullptr) {
    atomic(node, on, detail::Atomic::fetch_add, {by}, old);
  }
  void fetch_or_async(int node, std::uint64_t* on, std::uint64_t bits, std::uint64_t* old = nullptr) {
    atomic(node, on, detail::Atomic::fetch_or, {bits}, old);
  }
  void swap_async(int node, std::uint64_t* on, std::uint64_t value, std::uint64_t* old = nullptr) {
    atomic(node, on, detail::Atomic::swap, {value}, old);
  }
  void compare_swap_async(int node, std::uint64_t* on, std::uint64_t expected, std::uint64_t value, std::uint64_t* old = nullptr) {
    atomic(node, on, detail::Atomic::compare_swap, {value, expected}, old);
  }
  void masked_compare_swap_async(int node, std::uint64_t* on, std::uint64_t expected, std::uint64_t value, std::uint64_t compare_mask,
                                 std::uint64_t swap_mask, std::uint64_t* old = nullptr) {
    atomic(node, on, detail::Atomic::masked_compare_swap, {value, expected, compare_mask, swap_mask}, old);
  }

  /// To each node: what is asked for from now on takes effect after everything before. Does not wait.
  void fence();
  /// Blocks until everything has taken effect: puts are visible, gets are here. Throws Error with the first that failed since the last quiet().
  void quiet();

 private:
  void put_bytes(int node, void* to, const void* from, std::size_t bytes);
  void get_bytes(int node, const void* from, void* to, std::size_t bytes);
  void atomic(int node, std::uint64_t* on, detail::Atomic op, const detail::AtomicWords& words, std::uint64_t* old);
  struct State;
  std::unique_ptr<State> state_;
};

/// A mutex between the threads of all nodes. Lives in shared memory (allocate<netvm::mutex>()) and is known by its address; zeroed memory is an
/// unlocked mutex, it needs no creation and no destruction. Carries the memory it protects: what was written before unlock() is visible
/// after the next lock(). Locking again what this node held last costs no message. FIFO between nodes; bounded hand-over inside a node.
/// Works with std::scoped_lock, std::unique_lock (also the timed forms).
class mutex {
 public:
  mutex() = default;
  mutex(const mutex&) = delete;
  mutex& operator=(const mutex&) = delete;

  /// Blocks. Throws std::system_error: resource_deadlock_would_occur (this thread holds it), operation_not_permitted (not in shared memory),
  /// owner_dead (a node died that had it: nobody gets it until somebody calls recover()), operation_canceled (the job ends). So do the others.
  void lock();
  /// Blocks until it is this thread's (true) or a stop is requested (false).
  bool lock(const std::stop_token& stop);
  /// Never waits for a holder. Where another node had it last, that node is asked: false also if it has not answered after half a second (it may be stopped).
  bool try_lock();
  /// Throws std::system_error(operation_not_permitted) if this thread does not hold it.
  void unlock();
  /// After owner_dead (what pthread_mutex_consistent() is to a robust pthread mutex): true: the mutex lives again and this thread holds it. Of all who
  /// call that is one, and it puts right what the mutex guards before it unlocks. False: another thread has done so, or does: lock() it as always.
  [[nodiscard]] bool recover();
  /// How often it went from one node to another, as of when it came here: rises from holder to holder. To be asked by its holder, and sent along with what
  /// must not be done by one that has lost it; after owner_dead it is above that of every holder.
  [[nodiscard]] std::uint64_t fencing_token() const;
  /// False: the time is over, whatever other nodes do. A time of 0 is try_lock().
  template <class Rep, class Period>
  bool try_lock_for(const std::chrono::duration<Rep, Period>& time) {
    return try_lock_ns(detail::limit_of(time));
  }
  template <class Clock, class Duration>
  bool try_lock_until(const std::chrono::time_point<Clock, Duration>& moment) {
    return try_lock_ns(detail::limit_until(moment));
  }

  /// Says that this mutex guards these objects: what protocol "entry" needs to know (only bound data travels with a lock there; a barrier makes
  /// everything coherent), and the other protocols ignore. Every node says so before it uses the mutex, the same each time; more than one range
  /// may be bound. Throws Error if they do not lie in one allocation of coherent memory.
  template <class T>
  void bind(const T* first, std::size_t count = 1) {
    bind_bytes(first, detail::bytes_of<T>(count));
  }

 private:
  bool try_lock_ns(std::int64_t ns);
  void bind_bytes(const void* first, std::size_t bytes);
  [[maybe_unused]] std::uint64_t reserved_ = 0;  // no state here: the address is the identity
};

// ---- homes ---------------------------------------------------------------------------------------------------------------------------
/// Chooses the nodes that keep what all nodes must know of mutexes and other synchronisation objects: who has each, or waits for it. Each time another node wants an
/// object it asks the object's home first; and what nobody has used yet is lost with its home, should that die. (Who has it last keeps its state, and what is lost with whom:
/// docs/sync.md.) All objects in these n things go where the thing goes: to one node (Placement::at), in turn to all (cyclic), or the first 1/N of them
/// to node 0, and so on (block). first_touch: nobody chooses; homes follow from the addresses. Holds until the memory is freed or placed again.
/// What allocate<T>() is asked for with a placement, T a mutex or another of these objects, is placed so.
/// From any thread, at any time, also when they have been used or are held. Throws std::system_error: device_or_resource_busy (threads of several nodes
/// want one of them just now, or place it: one node places what all use; nothing has changed), operation_not_permitted (not in shared memory),
/// invalid_argument (no such node), owner_dead (that node has died), no_lock_available (the node's lock table is full).
template <class T>
void place(const T* things, std::size_t n, const Placement& placement) {
  detail::place(things, detail::bytes_of<T>(n), sizeof(T), placement);
}
template <class T>
void place(const T& thing, int node) {
  place(&thing, 1, Placement::at(node));
}

// ---- accessors ----------------------------------------------------------------------------------------------------------------------------
// Plain loads and stores are the normal way. These two work under every trap, also under NETVM_TRAP=checked, where raw pointers do not.
template <class T>
T load(const T* from) {
  static_assert(std::is_trivially_copyable_v<T>);
  T value;
  detail::checked_load(from, &value, sizeof(T));
  return value;
}
template <class T>
void store(T* to, const T& value) {
  static_assert(std::is_trivially_copyable_v<T>);
  detail::checked_store(to, &value, sizeof(T));
}

}  // namespace netvm

#include "netvm/sync.hpp"
