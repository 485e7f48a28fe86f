// Bootstrap: how a process becomes a node of a job, finds the others' memory, and leaves again.
//
// netvmrun (or a process that runs alone) owns the job. It listens on an abstract Unix socket named in NETVM_RENDEZVOUS; each
// node connects, proves that it belongs to the job (the secret in NETVM_JOB_KEY, the user's credentials), and is handed the
// file descriptors of all nodes' memory. The connection stays open: it carries exchanges, the final report, and its end
// without a farewell is how a death shows.
//
// Invariants
//  1. Every step has a deadline (NETVM_START_TIMEOUT) and its error names the nodes that are missing.
//  2. Nothing of a job lies in a file system: memory is memfd, the socket is abstract. Nothing is left when processes die.
//  3. A process that never joins (any program under netvmrun) is not disturbed by any of this.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include "runtime/ids.hpp"
#include "runtime/settings.hpp"

namespace netvm {

/// Joining failed; what() says which step, who is missing, what to do.
class BootstrapError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

class Bootstrap {
 public:
  virtual ~Bootstrap() = default;

  [[nodiscard]] virtual NodeId node() const = 0;
  [[nodiscard]] virtual std::uint32_t nodes() const = 0;
  /// Random, the same on all nodes, never 0. Names the session: stale packets carry another one.
  [[nodiscard]] virtual std::uint64_t session() const = 0;
  /// How many nodes of the job run on this host: what spinning and binding adapt to. And which of them this one is.
  [[nodiscard]] virtual std::uint32_t nodes_on_host() const = 0;
  [[nodiscard]] virtual std::uint32_t index_on_host() const = 0;

  /// Memory files (memfd) of a node on this host: its frames, and its NIC's device memory. The owning node gives them their size
  /// before an exchange(); the others map them after it. The descriptors stay open as long as this object.
  [[nodiscard]] virtual int frames_fd(NodeId node) const = 0;
  [[nodiscard]] virtual int device_fd(NodeId node) const = 0;

  /// Everybody gives some bytes (at most 64 KiB) and gets everybody's, indexed by node. A barrier, too. Throws BootstrapError on
  /// the deadline or when a node is gone. Call from one thread at a time.
  virtual std::vector<std::vector<std::byte>> exchange(std::span<const std::byte> mine) = 0;

  /// Whether the launcher lets the job go on when a node dies.
  [[nodiscard]] virtual bool outlives_nodes() const { return false; }
  /// From now on this node can go on without others. The listener is told of each that dies, where the launcher lets the job go on: from inside
  /// look_for_deaths() or exchange(), in the thread that calls it. A dead node gives nothing to an exchange. Call once, after all nodes have started.
  virtual void watch_deaths(std::function<void(NodeId)>&& /*listener*/) {}
  /// Looks whether the launcher has told of any. Does not block; any thread.
  virtual void look_for_deaths() {}

  /// Hands the launcher this node's part of the job's report (a JSON object, as text) and says farewell; afterwards this process may
  /// end in any order with the others. Call once, after the last exchange.
  virtual void leave(const std::string& report_json) = 0;

  /// Tells the launcher that the job must end and why, in one sentence; it ends the other nodes. For broken invariants that this
  /// node notices. Does not return.
  [[noreturn]] virtual void abort_job(const std::string& reason) = 0;
};

/// What a process needs to join: NETVM_RENDEZVOUS, NETVM_NODE and NETVM_JOB_KEY, as netvmrun sets them.
struct JobTicket {
  std::string rendezvous;
  std::string node;
  std::string key;
};
/// Joins the job of the ticket. Throws BootstrapError.
std::unique_ptr<Bootstrap> join_job(const Settings& settings, const JobTicket& ticket);
/// A job of this process alone. Throws BootstrapError.
std::unique_ptr<Bootstrap> make_solo_job(const Settings& settings);
/// Joins the job that the environment names, or makes a job of one node when it names none. Throws BootstrapError.
std::unique_ptr<Bootstrap> join_job(const Settings& settings);

}  // namespace netvm
