// JobServer: the launcher's side of a job. It makes the nodes' memory files and the secret, lets nodes join, carries exchanges and
// collects reports. It decides nothing: what happens to a job when a node is lost is its listener's matter.
//
// Invariants
//  1. Nobody joins without the job's secret, the user's own uid, the same version, and the same executable as the first node.
//     A stranger is refused, mentioned once, and costs the job nothing but a bounded number of descriptors.
//  2. It never blocks: everything happens in serve(), driven by whoever polls epoll_fd() and keeps deadline().
//  3. A round of an exchange completes for all nodes or fails for all; nodes that were declared dead are not waited for and give nothing.
//  4. A node joins once. After its farewell or its loss nobody else can take its place.
//
// Threads: one.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "runtime/ids.hpp"
#include "runtime/job_wire.hpp"

namespace netvm::job {

using Clock = std::chrono::steady_clock;

/// Hears what happens to the job. Called from inside serve(); must neither call it nor destroy the server.
class JobListener {
 public:
  virtual ~JobListener() = default;
  virtual void on_joined(NodeId node, std::int32_t pid) = 0;
  virtual void on_left(NodeId node) = 0;
  /// The connection ended without a farewell.
  virtual void on_lost(NodeId node) = 0;
  virtual void on_abort(NodeId node, const std::string& reason) = 0;
  /// An exchange waited longer than it may. The sentence names who is missing.
  virtual void on_overdue(const std::string& sentence) = 0;
  /// The first refusal of somebody who does not belong to the job.
  virtual void on_stranger(const std::string& sentence) = 0;
};

class JobServer {
 public:
  /// Throws std::system_error when the kernel gives no descriptors or sockets.
  /// `outlives_nodes`: the nodes are told that the job goes on when one dies.
  JobServer(std::uint32_t nodes, JobListener& listener, bool outlives_nodes = false);
  JobServer(const JobServer&) = delete;
  JobServer& operator=(const JobServer&) = delete;

  /// What a node needs to join: NETVM_RENDEZVOUS and NETVM_JOB_KEY.
  [[nodiscard]] const std::string& rendezvous() const { return name_; }
  [[nodiscard]] std::string key() const { return to_hex(secret_); }

  /// Readable when serve() has something to do.
  [[nodiscard]] int epoll_fd() const { return epoll_.get(); }
  /// When serve() must be called at the latest.
  [[nodiscard]] std::optional<Clock::time_point> deadline() const;
  /// Handles all that is there; does not block. To be called before a process's end is judged, so that no farewell is missed.
  void serve();

  enum class State : std::uint8_t { absent, joined, left, lost };
  [[nodiscard]] State state(NodeId node) const { return members_[node.value].state; }
  /// Of the process that joined as this node; 0 before.
  [[nodiscard]] std::int32_t pid(NodeId node) const { return members_[node.value].pid; }
  /// What the node handed over with its farewell.
  [[nodiscard]] const std::string& report(NodeId node) const { return members_[node.value].report; }

  [[nodiscard]] bool outlives_nodes() const { return outlives_nodes_; }
  /// Whether every node can go on without others: all have joined and said so, or have left or been declared dead.
  [[nodiscard]] bool can_lose_nodes() const;
  /// The node has ended, and the job goes on: those that can hear of it are told. Its place stays empty.
  void declare_dead(NodeId node);

  /// The nodes that wait in an exchange now.
  [[nodiscard]] std::vector<std::uint32_t> waiting() const;
  /// The nodes that wait in an exchange, now or later, get a BootstrapError with this text.
  void fail_exchanges(const std::string& reason);

 private:
  struct Outgoing {
    std::shared_ptr<const std::vector<std::byte>> packet;
    std::vector<int> descriptors;
  };
  struct Connection {
    UniqueFd socket;
    Peer peer;
    Clock::time_point since;
    std::optional<std::uint32_t> node;  // set once it has joined
    std::deque<Outgoing> outgoing;
    bool polls_output = false;
    bool closing = false;  // refused: ends when the reason has been sent
  };
  struct Member {
    State state = State::absent;
    std::int32_t pid = 0;
    std::uint64_t connection = 0;
    UniqueFd frames;
    UniqueFd device;
    std::string report;
    bool watching = false;
    bool dead = false;
    std::optional<std::vector<std::byte>> contribution;  // to the round under way
  };
  using Connections = std::map<std::uint64_t, Connection>;

  void accept_all();
  void serve_connection(std::uint64_t id, bool output);
  void receive_from(std::uint64_t id);
  void close_connection(std::uint64_t id);
  void handle_stranger(std::uint64_t id, const Frame& frame);
  /// Empty if the peer may join.
  [[nodiscard]] std::string objection(const Connection& connection, const Hello& hello) const;
  void admit(std::uint64_t id, const Hello& hello);
  void refuse(std::uint64_t id, const std::string& reason, bool stranger);
  void handle_member(std::uint64_t id, Frame& frame);
  void handle_exchange(std::uint64_t id, std::span<const std::byte> payload);
  void complete_round_if_whole();
  void check_overdue(Clock::time_point now);
  [[nodiscard]] std::string missing() const;
  void send(std::uint64_t id, FrameType type, std::span<const std::byte> payload, std::vector<int> descriptors = {});
  void send(Connection& connection, std::uint64_t id, Outgoing outgoing);
  /// False if the connection is dead.
  [[nodiscard]] bool flush(Connection& connection, std::uint64_t id);
  void mention_stranger(const Peer& peer, const std::string& reason);

  JobListener& listener_;
  const bool outlives_nodes_;
  std::string name_;
  Secret secret_;
  std::uint64_t session_;
  UniqueFd listening_;
  UniqueFd epoll_;
  std::vector<Member> members_;
  Connections connections_;
  std::uint64_t next_connection_ = 1;
  std::string identity_;  // of the executable, from the first node
  std::string executable_;
  std::uint32_t round_ = 0;
  std::uint32_t contributions_ = 0;
  std::optional<Clock::time_point> round_deadline_;
  std::uint32_t round_limit_ms_ = 0;
  std::string failure_;  // set: no exchange completes any more
  bool stranger_mentioned_ = false;
  bool crowded_ = false;  // something waits for descriptors to arrive elsewhere
};

}  // namespace netvm::job
