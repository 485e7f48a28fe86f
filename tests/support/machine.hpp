// Machine: some nodes with some threads each that share memory, whatever they are made of: fibers in the simulator (sim_cluster.hpp),
// threads of one process (thread_cluster.hpp), or processes under netvmrun (job_machine.hpp). A test program is written once, against this.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <type_traits>
#include <vector>

#include "dsm/dsm.hpp"
#include "runtime/env.hpp"
#include "sync/objects.hpp"
#include "sync/sync.hpp"

namespace netvm::test {

/// A place in shared memory. An offset or an address, as the machine likes; the same on every node; it may be added to.
using Place = std::uint64_t;

/// One application thread. Lives on that thread. One beside the section (Machine::run_with) has a number of threads() or more, and takes no part in barriers.
class Worker {
 public:
  virtual ~Worker() = default;

  [[nodiscard]] std::uint32_t rank() const { return node_ * threads_ + local_; }
  [[nodiscard]] std::uint32_t count() const { return nodes_ * threads_; }
  [[nodiscard]] std::uint32_t node() const { return node_; }
  [[nodiscard]] std::uint32_t nodes() const { return nodes_; }
  [[nodiscard]] std::uint32_t local() const { return local_; }
  [[nodiscard]] std::uint32_t threads() const { return threads_; }

  /// Any length, any alignment. Aligned 1, 2, 4 and 8 bytes are one access.
  virtual void load_bytes(Place from, void* to, std::size_t bytes) = 0;
  virtual void store_bytes(Place to, const void* from, std::size_t bytes) = 0;
  template <class T>
  T load(Place from) {
    static_assert(std::is_trivially_copyable_v<T>);
    T value;
    load_bytes(from, &value, sizeof value);
    return value;
  }
  template <class T>
  void store(Place to, const T& value) {
    static_assert(std::is_trivially_copyable_v<T>);
    store_bytes(to, &value, sizeof value);
  }

  virtual void lock(Place mutex) = 0;
  virtual void unlock(Place mutex) = 0;
  virtual void barrier() = 0;
  /// The same in two halves. wait() follows arrive(), before the next of either.
  virtual void arrive() = 0;
  virtual void wait() = 0;
  /// The mutex guards these bytes: every node says so before it uses the mutex (Dsm::bind).
  virtual void bind(Place mutex, Place data, std::uint64_t bytes) = 0;
  /// The same of a reader-writer lock.
  virtual void bind_rwlock(Place lock, Place data, std::uint64_t bytes) = 0;
  /// Zeroed shared memory, by this thread alone; 0 if there is no room.
  [[nodiscard]] virtual Place allocate(std::uint64_t bytes, const dsm::AllocOptions& options) = 0;
  virtual void free(Place memory) = 0;

  /// Locks with more to say than lock() and unlock(), and all other objects: named by sync_offset(place), called as who().
  virtual sync::Sync& sync() = 0;
  sync::Objects& objects() { return sync().objects(); }
  [[nodiscard]] virtual std::uint64_t sync_offset(Place place) const = 0;
  [[nodiscard]] virtual std::uint64_t who() const = 0;

  [[nodiscard]] virtual Nanos now() const = 0;
  /// Does something else for about that long.
  virtual void pause(Nanos time) = 0;
  /// Writes the value down in the trace of a machine that keeps one.
  virtual void trace(std::uint64_t) {}

 protected:
  Worker(std::uint32_t node, std::uint32_t nodes, std::uint32_t local, std::uint32_t threads)
      : node_(node), nodes_(nodes), local_(local), threads_(threads) {}

 private:
  std::uint32_t node_, nodes_, local_, threads_;
};

/// Memory beside the shared memory, for what a test expects and finds: not coherent by page protocols, but whoever reads after (by a
/// lock or a barrier) sees what was written before. Zeros at first.
class Ledger {
 public:
  virtual ~Ledger() = default;
  virtual void read(std::size_t at, void* to, std::size_t bytes) = 0;
  virtual void write(std::size_t at, const void* from, std::size_t bytes) = 0;
};

/// How a run ended.
struct Ending {
  bool well = true;
  std::string text;              ///< what went wrong
  std::uint64_t trace_hash = 0;  ///< in the simulator: what happened
};

class Machine {
 public:
  virtual ~Machine() = default;
  [[nodiscard]] virtual std::uint32_t nodes() const = 0;
  [[nodiscard]] virtual std::uint32_t threads() const = 0;
  /// Zeroed shared memory. Outside of run(); on a machine of processes collective.
  virtual Place allocate(std::uint64_t bytes, const dsm::AllocOptions& options) = 0;
  /// Gives it back, to be handed out again. Outside of run(); on a machine of processes collective.
  virtual void free(Place memory) = 0;
  /// Outside of run(); on a machine of processes collective.
  virtual std::unique_ptr<Ledger> make_ledger(std::size_t bytes) = 0;
  using Program = std::function<void(Worker&)>;
  /// Runs the program on every thread of every node, once all of them are there; and `beside`, if it is not empty, on one more thread of every node.
  virtual Ending run_with(const Program& program, const Program& beside) = 0;
  Ending run(const Program& program) { return run_with(program, {}); }
};

/// A ledger of machines that live in one process.
class PrivateLedger final : public Ledger {
 public:
  explicit PrivateLedger(std::size_t bytes) : bytes_(bytes) {}
  void read(std::size_t at, void* to, std::size_t bytes) override { std::memcpy(to, bytes_.data() + at, bytes); }
  void write(std::size_t at, const void* from, std::size_t bytes) override { std::memcpy(bytes_.data() + at, from, bytes); }

 private:
  std::vector<std::byte> bytes_;
};

}  // namespace netvm::test
