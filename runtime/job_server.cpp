#include "runtime/job_server.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <system_error>

namespace netvm::job {
namespace {

using namespace std::chrono_literals;

constexpr std::uint64_t kListening = 0;  // in epoll's data; connections count from 1
constexpr auto kHelloTimeout = 10s;      // for somebody who connects and says nothing
constexpr std::size_t kMaxStrangers = 64;
constexpr auto kCrowdedRetry = 2ms;

void watch(int epoll, int operation, int fd, std::uint32_t events, std::uint64_t id) {
  epoll_event event{};
  event.events = events;
  event.data.u64 = id;
  if (::epoll_ctl(epoll, operation, fd, &event) != 0) throw_errno("cannot watch a descriptor");
}

std::string list_nodes(const std::vector<std::uint32_t>& nodes) {
  return fmt::format("node{} {}", nodes.size() == 1 ? "" : "s", fmt::join(nodes, ", "));
}

}  // namespace

JobServer::JobServer(std::uint32_t nodes, JobListener& listener, bool outlives_nodes)
    : listener_(listener),
      outlives_nodes_(outlives_nodes),
      name_(fmt::format("@netvm-{:016x}{:016x}", random_nonzero(), random_nonzero())),
      secret_(make_secret()),
      session_(random_nonzero()),
      listening_(listen_at(name_)),
      epoll_(::epoll_create1(EPOLL_CLOEXEC)),
      members_(nodes) {
  if (!epoll_) throw_errno("cannot make an epoll descriptor");
  for (std::uint32_t node = 0; node < nodes; ++node) {
    members_[node].frames = make_memory_file(fmt::format("netvm-frames-{}", node));
    members_[node].device = make_memory_file(fmt::format("netvm-device-{}", node));
  }
  watch(epoll_.get(), EPOLL_CTL_ADD, listening_.get(), EPOLLIN, kListening);
}

std::optional<Clock::time_point> JobServer::deadline() const {
  std::optional<Clock::time_point> first = round_deadline_;
  const auto consider = [&first](Clock::time_point when) {
    if (!first || when < *first) first = when;
  };
  for (const auto& [id, connection] : connections_) {
    if (!connection.node) consider(connection.since + kHelloTimeout);
  }
  if (crowded_) consider(Clock::now() + kCrowdedRetry);
  return first;
}

void JobServer::serve() {
  std::array<epoll_event, 64> events;
  for (;;) {
    const int count = ::epoll_wait(epoll_.get(), events.data(), static_cast<int>(events.size()), 0);
    if (count <= 0) break;
    for (int i = 0; i < count; ++i) {
      if (events[i].data.u64 == kListening) {
        accept_all();
      } else {
        serve_connection(events[i].data.u64, (events[i].events & EPOLLOUT) != 0);
      }
    }
    if (static_cast<std::size_t>(count) < events.size()) break;
  }
  const auto now = Clock::now();
  std::vector<std::uint64_t> late;
  std::vector<std::uint64_t> unsent;
  for (const auto& [id, connection] : connections_) {
    if (!connection.node && now - connection.since >= kHelloTimeout) late.push_back(id);
    if (crowded_ && !connection.outgoing.empty()) unsent.push_back(id);
  }
  for (const std::uint64_t id : late) {
    mention_stranger(connections_.at(id).peer, "it said nothing");
    close_connection(id);
  }
  crowded_ = false;
  for (const std::uint64_t id : unsent) serve_connection(id, true);
  check_overdue(now);
}

// ---- connections --------------------------------------------------------------------------------------------------

void JobServer::accept_all() {
  for (;;) {
    UniqueFd socket{::accept4(listening_.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC)};
    if (!socket) {
      if (errno == EINTR || errno == ECONNABORTED) continue;
      return;
    }
    const auto peer = peer_of(socket.get());
    if (!peer || peer->uid != ::geteuid()) {
      mention_stranger(peer.value_or(Peer{}), "it runs as another user");
      continue;
    }
    std::size_t strangers = 0;
    std::uint64_t oldest = 0;
    for (const auto& [id, connection] : connections_) {
      if (connection.node) continue;
      if (strangers++ == 0) oldest = id;  // ids grow, and the map is in their order
    }
    if (strangers >= kMaxStrangers + members_.size()) close_connection(oldest);
    const std::uint64_t id = next_connection_++;
    watch(epoll_.get(), EPOLL_CTL_ADD, socket.get(), EPOLLIN, id);
    Connection& connection = connections_[id];
    connection.socket = std::move(socket);
    connection.peer = *peer;
    connection.since = Clock::now();
    receive_from(id);  // its greeting may be there already, and its end
  }
}

void JobServer::serve_connection(std::uint64_t id, bool output) {
  const auto found = connections_.find(id);
  if (found == connections_.end()) return;
  if ((output || found->second.closing) && !flush(found->second, id)) {
    close_connection(id);
    return;
  }
  receive_from(id);
}

void JobServer::receive_from(std::uint64_t id) {
  for (;;) {
    const auto found = connections_.find(id);
    if (found == connections_.end() || found->second.closing) return;
    Frame frame;
    std::string why;
    switch (receive_frame(found->second.socket.get(), &frame, &why)) {
      case Io::done:
        if (found->second.node) {
          handle_member(id, frame);
        } else {
          handle_stranger(id, frame);
        }
        break;
      case Io::would_block:
      case Io::crowded:
        return;
      case Io::closed:
        close_connection(id);
        return;
      case Io::broken:
        if (found->second.node) {
          listener_.on_abort(NodeId{*found->second.node}, "it broke the job's protocol: " + why);
          close_connection(id);
        } else {
          refuse(id, why, true);
        }
        return;
    }
  }
}

void JobServer::close_connection(std::uint64_t id) {
  const auto found = connections_.find(id);
  if (found == connections_.end()) return;
  const auto node = found->second.node;
  connections_.erase(found);  // closing the socket takes it out of epoll
  if (!node) return;
  Member& member = members_[*node];
  member.connection = 0;
  if (member.state == State::joined) {
    member.state = State::lost;
    listener_.on_lost(NodeId{*node});
  }
}

// ---- joining ------------------------------------------------------------------------------------------------------

std::string JobServer::objection(const Connection& connection, const Hello& hello) const {
  if (hello.node >= members_.size()) return fmt::format("there is no node {} in this job of {}", hello.node, members_.size());
  const Member& member = members_[hello.node];
  if (member.state != State::absent) {
    return fmt::format(
        "node {} has joined already, as pid {}{}; a node is one process that joins once: use a netvmrun of its own for each program, and "
        "build "
        "one that has a netvm::Job with the compiler itself, not with netvm-cc or netvm-c++, whose programs join before main()",
        hello.node, member.pid, member.state == State::joined ? "" : " which has ended its part");
  }
  if (!identity_.empty() && hello.identity != identity_) {
    return fmt::format(
        "node {} (pid {}) runs another executable than the nodes before it: {} (build {}), they run {} (build {}); all nodes of a job run "
        "the "
        "same one",
        hello.node, connection.peer.pid, hello.executable, hello.identity, executable_, identity_);
  }
  return {};
}

void JobServer::handle_stranger(std::uint64_t id, const Frame& frame) {
  const auto hello = frame.type == FrameType::hello ? Hello::decode(frame.payload) : std::nullopt;
  if (!hello) return refuse(id, "its first frame is not a proper greeting", true);
  if (!same_secret(hello->secret, secret_)) return refuse(id, "it does not know the job's secret (NETVM_JOB_KEY)", true);
  const std::string reason = objection(connections_.at(id), *hello);
  if (!reason.empty()) return refuse(id, reason, false);
  admit(id, *hello);
}

void JobServer::admit(std::uint64_t id, const Hello& hello) {
  Connection& connection = connections_.at(id);
  Member& member = members_[hello.node];
  if (identity_.empty()) {
    identity_ = hello.identity;
    executable_ = hello.executable;
  }
  member.state = State::joined;
  member.pid = connection.peer.pid;
  member.connection = id;
  connection.node = hello.node;

  const auto nodes = static_cast<std::uint32_t>(members_.size());
  const Welcome welcome{hello.node, nodes, nodes, hello.node, session_, outlives_nodes_};
  send(id, FrameType::welcome, welcome.encode());
  for (std::uint32_t first = 0; first < nodes; first += kNodesPerDescriptors) {
    const Descriptors some{first, std::min(kNodesPerDescriptors, nodes - first)};
    std::vector<int> descriptors;
    for (std::uint32_t node = first; node < first + some.count; ++node) {
      descriptors.push_back(members_[node].frames.get());
      descriptors.push_back(members_[node].device.get());
    }
    send(id, FrameType::descriptors, some.encode(), std::move(descriptors));
  }
  listener_.on_joined(NodeId{hello.node}, member.pid);
}

void JobServer::refuse(std::uint64_t id, const std::string& reason, bool stranger) {
  Connection& connection = connections_.at(id);
  if (stranger) mention_stranger(connection.peer, reason);
  send(id, FrameType::refused, encode_text(reason));
  connection.closing = true;
  if (!flush(connection, id)) close_connection(id);  // sent: flush() is false once a closing connection has nothing left to say
}

void JobServer::mention_stranger(const Peer& peer, const std::string& reason) {
  if (std::exchange(stranger_mentioned_, true)) return;
  listener_.on_stranger(
      fmt::format("refused a connection to the job's socket by pid {} (uid {}): {}; the job goes on, further ones are not mentioned",
                  peer.pid, peer.uid, reason));
}

// ---- members ------------------------------------------------------------------------------------------------------

void JobServer::handle_member(std::uint64_t id, Frame& frame) {
  const std::uint32_t node = *connections_.at(id).node;
  Member& member = members_[node];
  switch (frame.type) {
    case FrameType::exchange:
      return handle_exchange(id, frame.payload);
    case FrameType::report:
      if (member.report.size() + frame.payload.size() <= kMaxReport) {
        member.report.append(reinterpret_cast<const char*>(frame.payload.data()), frame.payload.size());
      }
      return;
    case FrameType::leave:
      if (member.state == State::joined) {
        member.state = State::left;
        listener_.on_left(NodeId{node});
      }
      return;
    case FrameType::watching:
      member.watching = true;
      return;
    case FrameType::abort:
      listener_.on_abort(NodeId{node}, decode_text(frame.payload));
      return;
    default:
      listener_.on_abort(NodeId{node}, fmt::format("it broke the job's protocol with a frame of type {}", static_cast<int>(frame.type)));
      close_connection(id);
  }
}

void JobServer::handle_exchange(std::uint64_t id, std::span<const std::byte> payload) {
  const std::uint32_t node = *connections_.at(id).node;
  auto exchange = Exchange::decode(payload);
  Member& member = members_[node];
  if (!exchange || exchange->round != round_ || member.contribution || member.state != State::joined) {
    listener_.on_abort(NodeId{node}, "it broke the job's protocol with an exchange out of turn");
    return close_connection(id);
  }
  if (!failure_.empty()) return send(id, FrameType::failed, encode_text(failure_));
  member.contribution = std::move(exchange->bytes);
  const auto when = Clock::now() + std::chrono::milliseconds(exchange->limit_ms);
  if (!round_deadline_ || when < *round_deadline_) {
    round_deadline_ = when;
    round_limit_ms_ = exchange->limit_ms;
  }
  ++contributions_;
  complete_round_if_whole();
}

void JobServer::complete_round_if_whole() {
  const bool whole = contributions_ != 0 && std::all_of(members_.begin(), members_.end(), [](const Member& member) {
                       return member.contribution.has_value() || member.dead;
                     });
  if (!whole) return;
  std::vector<std::shared_ptr<const std::vector<std::byte>>> packets;
  for (std::uint32_t node = 0; node < members_.size(); ++node) {
    const Gathered gathered{round_, node, std::move(members_[node].contribution).value_or(std::vector<std::byte>())};
    packets.push_back(std::make_shared<const std::vector<std::byte>>(make_packet(FrameType::gathered, gathered.encode(), 0)));
    members_[node].contribution.reset();
  }
  ++round_;
  contributions_ = 0;
  round_deadline_.reset();
  for (const Member& member : members_) {
    for (const auto& packet : packets) {
      const auto found = connections_.find(member.connection);
      if (found != connections_.end()) send(found->second, found->first, {packet, {}});
    }
  }
}

bool JobServer::can_lose_nodes() const {
  return std::all_of(members_.begin(), members_.end(), [](const Member& member) { return member.watching || member.dead; });
}

void JobServer::declare_dead(NodeId node) {
  Member& dead = members_[node.value];
  dead.dead = true;
  if (dead.connection != 0) close_connection(dead.connection);
  for (const Member& member : members_) {
    if (member.state == State::joined && member.watching && member.connection != 0)
      send(member.connection, FrameType::died, Died{node.value}.encode());
  }
  complete_round_if_whole();
}

void JobServer::fail_exchanges(const std::string& reason) {
  if (failure_.empty()) failure_ = reason;  // the first one is the cause; those that follow are nodes that ended because of it
  round_deadline_.reset();
  contributions_ = 0;
  for (Member& member : members_) {
    if (!member.contribution) continue;
    member.contribution.reset();
    if (member.connection != 0) send(member.connection, FrameType::failed, encode_text(failure_));
  }
}

std::vector<std::uint32_t> JobServer::waiting() const {
  std::vector<std::uint32_t> nodes;
  for (std::uint32_t node = 0; node < members_.size(); ++node) {
    if (members_[node].contribution) nodes.push_back(node);
  }
  return nodes;
}

void JobServer::check_overdue(Clock::time_point now) {
  if (!round_deadline_ || now < *round_deadline_) return;
  const std::string sentence = fmt::format("{} waited {:.3g} s for {} (NETVM_START_TIMEOUT, --start-timeout)", list_nodes(waiting()),
                                           round_limit_ms_ / 1e3, missing());
  round_deadline_.reset();
  listener_.on_overdue(sentence);
}

std::string JobServer::missing() const {
  std::vector<std::uint32_t> absent;
  std::vector<std::uint32_t> late;
  for (std::uint32_t node = 0; node < members_.size(); ++node) {
    if (members_[node].state == State::absent) {
      absent.push_back(node);
    } else if (!members_[node].contribution) {
      late.push_back(node);
    }
  }
  std::string text;
  if (!absent.empty()) text += list_nodes(absent) + ", which never joined the job";
  if (!late.empty())
    text += fmt::format("{}{}, which joined but did not come to exchange {}", text.empty() ? "" : ", and ", list_nodes(late), round_ + 1);
  return text;
}

// ---- sending ------------------------------------------------------------------------------------------------------

void JobServer::send(std::uint64_t id, FrameType type, std::span<const std::byte> payload, std::vector<int> descriptors) {
  auto packet = std::make_shared<const std::vector<std::byte>>(make_packet(type, payload, descriptors.size()));
  send(connections_.at(id), id, {std::move(packet), std::move(descriptors)});
}

void JobServer::send(Connection& connection, std::uint64_t id, Outgoing outgoing) {
  connection.outgoing.push_back(std::move(outgoing));
  // A dead peer's queue is of no interest: its end shows as a readable socket, and is handled there.
  if (!flush(connection, id)) connection.outgoing.clear();
}

bool JobServer::flush(Connection& connection, std::uint64_t id) {
  bool blocked = false;
  while (!connection.outgoing.empty()) {
    const Outgoing& next = connection.outgoing.front();
    const Io result = send_packet(connection.socket.get(), *next.packet, next.descriptors, false);
    if (result == Io::would_block) {
      blocked = true;
      break;
    }
    if (result == Io::crowded) {
      crowded_ = true;
      break;
    }
    if (result != Io::done) return false;
    connection.outgoing.pop_front();
  }
  if (blocked != connection.polls_output) {
    connection.polls_output = blocked;
    watch(epoll_.get(), EPOLL_CTL_MOD, connection.socket.get(), blocked ? EPOLLIN | EPOLLOUT : EPOLLIN, id);
  }
  return !(connection.closing && connection.outgoing.empty());
}

}  // namespace netvm::job
