#include "runtime/bootstrap.hpp"

#include <fmt/format.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <mutex>
#include <system_error>
#include <utility>

#include "runtime/build_identity.hpp"
#include "runtime/job_wire.hpp"

namespace netvm {
namespace {

using namespace std::chrono_literals;
using job::Frame;
using job::FrameType;
using job::Io;
using Clock = std::chrono::steady_clock;

/// The launcher keeps the deadlines of exchanges, for it knows who is missing. A node gives up by itself only this much later.
constexpr auto kLauncherSlack = 5s;

class MemberBootstrap final : public Bootstrap {
 public:
  MemberBootstrap(const Settings& settings, const JobTicket& ticket) : timeout_(std::chrono::seconds(settings.start_timeout_s)) {
    const job::Hello hello = greeting(ticket);
    connect(ticket);
    const auto deadline = Clock::now() + timeout_;
    send(FrameType::hello, hello.encode());
    take_welcome(receive(deadline, "to be let into the job"), hello.node);
    while (memory_.size() < welcome_.nodes) take_descriptors(receive(deadline, "for the other nodes' memory"));
  }

  [[nodiscard]] NodeId node() const override { return NodeId{welcome_.node}; }
  [[nodiscard]] std::uint32_t nodes() const override { return welcome_.nodes; }
  [[nodiscard]] std::uint64_t session() const override { return welcome_.session; }
  [[nodiscard]] std::uint32_t nodes_on_host() const override { return welcome_.nodes_on_host; }
  [[nodiscard]] std::uint32_t index_on_host() const override { return welcome_.index_on_host; }
  [[nodiscard]] int frames_fd(NodeId node) const override { return memory_.at(node.value).frames.get(); }
  [[nodiscard]] int device_fd(NodeId node) const override { return memory_.at(node.value).device.get(); }

  [[nodiscard]] bool outlives_nodes() const override { return welcome_.outlives_nodes; }

  std::vector<std::vector<std::byte>> exchange(std::span<const std::byte> mine) override {
    if (mine.size() > job::kMaxExchange) {
      throw BootstrapError(
          fmt::format("node {} gives {} bytes to an exchange; at most {} fit", welcome_.node, mine.size(), job::kMaxExchange));
    }
    const auto limit_ms = std::chrono::duration_cast<std::chrono::milliseconds>(timeout_).count();
    const job::Exchange out{round_, static_cast<std::uint32_t>(limit_ms), {mine.begin(), mine.end()}};
    const auto deadline = Clock::now() + timeout_ + kLauncherSlack;
    const std::lock_guard reads(reading_);
    send(FrameType::exchange, out.encode());
    std::vector<std::vector<std::byte>> all(welcome_.nodes);
    for (std::uint32_t i = 0; i < welcome_.nodes; ++i) {
      const Frame frame = receive(deadline, fmt::format("for exchange {}", round_ + 1));
      auto gathered = frame.type == FrameType::gathered ? job::Gathered::decode(frame.payload) : std::nullopt;
      if (!gathered || gathered->round != round_ || gathered->node != i) unexpected(frame);
      all[i] = std::move(gathered->bytes);
    }
    ++round_;
    return all;
  }

  void watch_deaths(std::function<void(NodeId)>&& listener) override {
    const std::lock_guard reads(reading_);
    on_death_ = std::move(listener);
    send(FrameType::watching, {});
  }

  void look_for_deaths() override {
    const std::unique_lock reads(reading_, std::try_to_lock);
    if (!reads.owns_lock() || over_) return;  // whoever reads hears of them
    Frame frame;
    std::string why;
    for (;;) {
      const Io io = job::receive_frame(socket_.get(), &frame, &why);
      if (io == Io::done && take_death(frame)) continue;
      over_ = io != Io::would_block && io != Io::crowded;  // the next exchange says it
      return;
    }
  }

  void leave(const std::string& report_json) override {
    auto rest = std::as_bytes(std::span(report_json));
    while (!rest.empty()) {
      const auto piece = rest.first(std::min(rest.size(), job::kMaxExchange));
      send(FrameType::report, piece);
      rest = rest.subspan(piece.size());
    }
    send(FrameType::leave, {});
  }

  [[noreturn]] void abort_job(const std::string& reason) override {
    const auto packet = job::make_packet(FrameType::abort, job::encode_text(reason), 0);
    (void)job::send_packet(socket_.get(), packet, {}, true);  // if the launcher is gone, so is the job
    ::_exit(EXIT_FAILURE);                                    // no destructor, no atexit: they might wait for nodes that are being ended
  }

 private:
  struct Memory {
    UniqueFd frames;
    UniqueFd device;
  };

  static job::Hello greeting(const JobTicket& ticket) {
    job::Hello hello;
    const char* end = ticket.node.data() + ticket.node.size();
    char* parsed = nullptr;
    const unsigned long node = ticket.node.empty() ? 0 : std::strtoul(ticket.node.c_str(), &parsed, 10);
    if (ticket.node.empty() || parsed != end || node >= job::kMaxNodes) {
      throw BootstrapError(fmt::format(
          "NETVM_NODE is '{}', which is no node's number (0 to {}); netvmrun sets it, and NETVM_RENDEZVOUS must not be set without it",
          ticket.node, job::kMaxNodes - 1));
    }
    const auto secret = job::secret_from_hex(ticket.key);
    if (!secret)
      throw BootstrapError(
          "NETVM_JOB_KEY is missing or is not 64 hexadecimal digits; start the program with netvmrun, or without NETVM_RENDEZVOUS");
    hello.node = static_cast<std::uint32_t>(node);
    hello.secret = *secret;
    hello.identity = build_identity();
    hello.executable = executable_path();
    return hello;
  }

  void connect(const JobTicket& ticket) {
    try {
      socket_ = job::connect_to(ticket.rendezvous);
    } catch (const std::system_error& error) {
      throw BootstrapError(fmt::format("cannot join the job of NETVM_RENDEZVOUS={}: {}; has its netvmrun ended?", ticket.rendezvous,
                                       error.code().message()));
    }
    const auto launcher = job::peer_of(socket_.get());
    if (!launcher || launcher->uid != ::geteuid()) {
      throw BootstrapError(fmt::format("{} belongs to another user's process; not joining it", ticket.rendezvous));
    }
  }

  void send(FrameType type, std::span<const std::byte> payload) {
    const auto packet = job::make_packet(type, payload, 0);
    if (job::send_packet(socket_.get(), packet, {}, true) != Io::done) gone();
  }

  /// The next frame, if it comes before the deadline. Throws what the launcher says of refusals and failures.
  Frame receive(Clock::time_point deadline, const std::string& what_for) {
    Frame frame;
    std::string why;
    for (;;) {
      switch (job::receive_frame(socket_.get(), &frame, &why)) {
        case Io::done:
          if (take_death(frame)) continue;
          if (frame.type == FrameType::refused)
            throw BootstrapError("netvmrun refused to let this process in: " + job::decode_text(frame.payload));
          if (frame.type == FrameType::failed) throw BootstrapError(job::decode_text(frame.payload));
          return frame;
        case Io::closed:
          gone();
        case Io::broken:
          throw BootstrapError("netvmrun sent something strange: " + why);
        case Io::would_block:
        case Io::crowded:
          break;
      }
      if (!wait_readable(deadline)) {
        throw BootstrapError(fmt::format("waited {} s for netvmrun {} (NETVM_START_TIMEOUT); is it stopped?", timeout_.count(), what_for));
      }
    }
  }

  // Whether the frame told of one.
  bool take_death(const Frame& frame) {
    const auto died = frame.type == FrameType::died && on_death_ ? job::Died::decode(frame.payload) : std::nullopt;
    if (!died || died->node >= welcome_.nodes) return false;
    on_death_(NodeId{died->node});
    return true;
  }

  [[nodiscard]] bool wait_readable(Clock::time_point deadline) const {
    pollfd poll{socket_.get(), POLLIN, 0};
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - Clock::now());
    if (left <= 0ms) return false;
    (void)::poll(
        &poll, 1,
        static_cast<int>(
            std::min(left, std::chrono::milliseconds(1h)).count()));  // early returns (a signal) lead to another look at socket and clock
    return true;
  }

  void take_welcome(const Frame& frame, std::uint32_t node) {
    const auto welcome = frame.type == FrameType::welcome ? job::Welcome::decode(frame.payload) : std::nullopt;
    if (!welcome || welcome->node != node || !frame.descriptors.empty()) unexpected(frame);
    welcome_ = *welcome;
  }

  void take_descriptors(Frame frame) {
    const auto some = frame.type == FrameType::descriptors ? job::Descriptors::decode(frame.payload) : std::nullopt;
    const bool fits = some && some->first == memory_.size() && some->first + some->count <= welcome_.nodes;
    if (!fits || frame.descriptors.size() != 2 * some->count) unexpected(frame);
    for (std::uint32_t i = 0; i < some->count; ++i) {
      memory_.push_back({std::move(frame.descriptors[2 * i]), std::move(frame.descriptors[2 * i + 1])});
    }
  }

  [[noreturn]] static void gone() { throw BootstrapError("the job is over: netvmrun has ended or has closed the connection"); }
  [[noreturn]] static void unexpected(const Frame& frame) {
    throw BootstrapError(fmt::format("netvmrun sent a frame of type {} that does not belong here", static_cast<int>(frame.type)));
  }

  std::chrono::seconds timeout_;
  UniqueFd socket_;
  job::Welcome welcome_;
  std::vector<Memory> memory_;
  std::uint32_t round_ = 0;
  std::mutex reading_;  // of the socket, and what follows
  std::function<void(NodeId)> on_death_;
  bool over_ = false;  // something else than a death came outside of an exchange
};

std::string variable(std::string_view name) {
  const char* value = std::getenv(std::string(name).c_str());
  return value == nullptr ? std::string() : std::string(value);
}

}  // namespace

std::unique_ptr<Bootstrap> join_job(const Settings& settings, const JobTicket& ticket) {
  try {
    return std::make_unique<MemberBootstrap>(settings, ticket);
  } catch (const std::system_error& error) {
    throw BootstrapError(fmt::format("cannot join the job: {}", error.what()));
  }
}

std::unique_ptr<Bootstrap> join_job(const Settings& settings) {
  JobTicket ticket{variable(job::kRendezvousVariable), variable(job::kNodeVariable), variable(job::kKeyVariable)};
  if (ticket.rendezvous.empty()) return make_solo_job(settings);
  return join_job(settings, ticket);
}

}  // namespace netvm
