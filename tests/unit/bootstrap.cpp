// Bootstrap: both sides of the job protocol against each other in one process. The launcher's side runs in a thread.
#include "runtime/bootstrap.hpp"

#include <doctest/doctest.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <chrono>
#include <cstring>
#include <functional>
#include <latch>
#include <memory>
#include <mutex>
#include <thread>

#include "runtime/job_server.hpp"

namespace job = netvm::job;
using namespace std::chrono_literals;
using netvm::Bootstrap;
using netvm::BootstrapError;
using netvm::JobTicket;
using netvm::NodeId;

namespace {

/// A launcher: a JobServer with a thread of its own that writes down what it hears.
class Launcher : job::JobListener {
 public:
  explicit Launcher(std::uint32_t nodes) : server_(nodes, *this) {
    thread_ = std::thread([this] {
      while (!stop_) {
        pollfd poll{server_.epoll_fd(), POLLIN, 0};
        ::poll(&poll, 1, 2);
        server_.serve();
        const std::lock_guard lock(mutex_);
        if (!failure_.empty()) server_.fail_exchanges(std::exchange(failure_, {}));
      }
    });
  }
  Launcher(const Launcher&) = delete;
  Launcher& operator=(const Launcher&) = delete;
  ~Launcher() override { stop(); }

  void stop() {
    stop_ = true;
    if (thread_.joinable()) thread_.join();
  }
  [[nodiscard]] JobTicket ticket(int node) const { return {server_.rendezvous(), std::to_string(node), server_.key()}; }
  /// After stop().
  [[nodiscard]] job::JobServer& server() { return server_; }
  [[nodiscard]] bool heard(const std::string& part) {
    for (int i = 0; i < 500; ++i) {
      {
        const std::lock_guard lock(mutex_);
        if (heard_.find(part) != std::string::npos) return true;
      }
      std::this_thread::sleep_for(2ms);
    }
    return false;
  }
  [[nodiscard]] std::string all_heard() {
    const std::lock_guard lock(mutex_);
    return heard_;
  }

 private:
  void note(const std::string& line) {
    const std::lock_guard lock(mutex_);
    heard_ += line + "\n";
  }
  void fail(const std::string& reason) {
    const std::lock_guard lock(mutex_);
    if (failure_.empty()) failure_ = reason;
  }
  void on_joined(NodeId node, std::int32_t pid) override {
    note(fmt::format("joined {} {}", node.value, pid == ::getpid() ? "as this process" : "?"));
  }
  void on_left(NodeId node) override { note(fmt::format("left {}", node.value)); }
  void on_lost(NodeId node) override {
    note(fmt::format("lost {}", node.value));
    fail(fmt::format("node {} is gone", node.value));
  }
  void on_abort(NodeId node, const std::string& reason) override {
    note(fmt::format("abort {}: {}", node.value, reason));
    fail(reason);
  }
  void on_overdue(const std::string& sentence) override {
    note("overdue: " + sentence);
    fail(sentence);
  }
  void on_stranger(const std::string& sentence) override { note("stranger: " + sentence); }

  job::JobServer server_;
  std::mutex mutex_;
  std::string heard_;
  std::string failure_;
  std::atomic<bool> stop_ = false;
  std::thread thread_;
};

netvm::Settings settings(std::uint32_t start_timeout_s = 10) {
  netvm::Settings out;
  out.start_timeout_s = start_timeout_s;
  return out;
}

/// Runs the body once a node, in threads.
void on_nodes(Launcher& launcher, std::uint32_t nodes, const std::function<void(Bootstrap&)>& body) {
  std::vector<std::thread> threads;
  for (std::uint32_t node = 0; node < nodes; ++node) {
    threads.emplace_back([&launcher, &body, node] {
      const auto me = netvm::join_job(settings(), launcher.ticket(static_cast<int>(node)));
      body(*me);
    });
  }
  for (std::thread& thread : threads) thread.join();
}

/// What joining says when it fails; empty if it does not.
std::string failure_of(const JobTicket& ticket) {
  try {
    (void)netvm::join_job(settings(), ticket);
  } catch (const BootstrapError& error) {
    return error.what();
  }
  return {};
}

std::vector<std::byte> text(const std::string& s) {
  const auto bytes = std::as_bytes(std::span(s));
  return {bytes.begin(), bytes.end()};
}

bool has(const std::string& where, const std::string& what) { return where.find(what) != std::string::npos; }

/// Somebody on the socket who says these bytes; returns what is answered, as text.
std::string stranger(const Launcher& launcher, std::span<const std::byte> says) {
  const netvm::UniqueFd socket = job::connect_to(launcher.ticket(0).rendezvous);
  REQUIRE(::send(socket.get(), says.data(), says.size(), MSG_NOSIGNAL) == static_cast<ssize_t>(says.size()));
  job::Frame frame;
  std::string why;
  for (int i = 0; i < 1000; ++i) {
    const job::Io io = job::receive_frame(socket.get(), &frame, &why);
    if (io == job::Io::done) return job::decode_text(frame.payload);
    if (io != job::Io::would_block) return "closed";
    std::this_thread::sleep_for(1ms);
  }
  return "silence";
}

}  // namespace

TEST_CASE("nodes exchange what they give, of any size, in order, many times") {
  constexpr std::uint32_t kNodes = 5;
  Launcher launcher(kNodes);
  std::atomic<int> wrong = 0;
  std::atomic<std::uint64_t> sessions = 0;
  on_nodes(launcher, kNodes, [&](Bootstrap& me) {
    if (me.nodes() != kNodes || me.nodes_on_host() != kNodes || me.index_on_host() != me.node().value || me.session() == 0) ++wrong;
    sessions ^= me.session();  // the same on all nodes: an odd number of them leaves one
    for (std::uint32_t round = 0; round < 20; ++round) {
      const auto size = [round](std::uint32_t node) { return round == 19 ? job::kMaxExchange : round * 17 * (node + 1); };
      const std::vector<std::byte> mine(size(me.node().value), static_cast<std::byte>(me.node().value + round));
      const auto all = me.exchange(mine);
      for (std::uint32_t node = 0; node < kNodes; ++node) {
        if (all[node] != std::vector<std::byte>(size(node), static_cast<std::byte>(node + round))) ++wrong;
      }
    }
    if (me.node().value == 0) {
      const std::vector<std::byte> too_much(job::kMaxExchange + 1);
      try {
        (void)me.exchange(too_much);
        ++wrong;
      } catch (const BootstrapError&) {
      }
    }
    me.leave(std::string(200'000, 'r') + std::to_string(me.node().value));
  });
  CHECK(wrong == 0);
  CHECK(sessions != 0);
  for (std::uint32_t node = 0; node < kNodes; ++node) CHECK(launcher.heard(fmt::format("left {}", node)));
  launcher.stop();
  for (std::uint32_t node = 0; node < kNodes; ++node) {
    CHECK(launcher.server().report(NodeId{node}).size() == 200'001);
    CHECK(launcher.server().state(NodeId{node}) == job::JobServer::State::left);
  }
  CHECK_FALSE(has(launcher.all_heard(), "lost"));
}

TEST_CASE("all nodes see the same memory files, and each its own") {
  Launcher launcher(3);
  std::atomic<int> wrong = 0;
  on_nodes(launcher, 3, [&](Bootstrap& me) {
    const std::uint32_t mark = 100 + me.node().value;
    if (::pwrite(me.frames_fd(me.node()), &mark, sizeof mark, 0) != sizeof mark) ++wrong;
    (void)me.exchange({});
    for (std::uint32_t node = 0; node < 3; ++node) {
      std::uint32_t theirs = 0;
      if (::pread(me.frames_fd(NodeId{node}), &theirs, sizeof theirs, 0) != sizeof theirs || theirs != 100 + node) ++wrong;
      if (::pread(me.device_fd(NodeId{node}), &theirs, sizeof theirs, 0) != 0) ++wrong;  // nobody gave it a size
    }
    me.leave("{}");
  });
  CHECK(wrong == 0);
}

TEST_CASE("a node that dies fails the exchange in which the others wait") {
  Launcher launcher(3);
  std::array<std::string, 3> what;
  on_nodes(launcher, 3, [&](Bootstrap& me) {
    (void)me.exchange({});
    if (me.node().value == 1) return;  // the connection ends with the object
    try {
      (void)me.exchange({});
    } catch (const BootstrapError& error) {
      what[me.node().value] = error.what();
    }
  });
  for (const int node : {0, 2}) {
    INFO(what[node]);
    CHECK(has(what[node], "node 1 is gone"));
  }
  CHECK(launcher.heard("lost 1"));
}

TEST_CASE("who is missing at the deadline is named: those who never came and those who stopped on the way") {
  Launcher launcher(4);
  std::latch over(2);
  std::vector<std::thread> threads;
  std::array<std::string, 3> what;
  for (const int node : {0, 2}) {
    threads.emplace_back([&, node] {
      const auto me = netvm::join_job(settings(1), launcher.ticket(node));
      try {
        (void)me->exchange({});
      } catch (const BootstrapError& error) {
        what[node] = error.what();
      }
      over.count_down();
    });
  }
  const auto late = netvm::join_job(settings(), launcher.ticket(1));
  over.wait();
  for (std::thread& thread : threads) thread.join();
  for (const int node : {0, 2}) {
    INFO(what[node]);
    CHECK(has(what[node], "nodes 0, 2 waited 1 s for node 3, which never joined the job, and node 1, which joined but did not come"));
  }
}

TEST_CASE("what belongs to no job is refused with advice") {
  CHECK(has(failure_of({"@netvm-no-such-job", "0", std::string(64, 'a')}), "has its netvmrun ended?"));
  CHECK(has(failure_of({"no-at-sign", "0", std::string(64, 'a')}), "no-at-sign"));
  CHECK(has(failure_of({"@netvm-x", "", std::string(64, 'a')}), "NETVM_NODE"));
  CHECK(has(failure_of({"@netvm-x", "two", std::string(64, 'a')}), "NETVM_NODE"));
  CHECK(has(failure_of({"@netvm-x", "-1", std::string(64, 'a')}), "NETVM_NODE"));
  CHECK(has(failure_of({"@netvm-x", "0", ""}), "NETVM_JOB_KEY"));
  CHECK(has(failure_of({"@netvm-x", "0", "abc"}), "NETVM_JOB_KEY"));
}

TEST_CASE("a wrong secret, a wrong node and a second process of a node are refused; the job goes on") {
  Launcher launcher(2);
  JobTicket wrong = launcher.ticket(0);
  wrong.key = std::string(64, '0');
  CHECK(has(failure_of(wrong), "secret"));
  CHECK(has(failure_of(launcher.ticket(2)), "no node 2 in this job of 2"));
  std::latch joined(2);
  std::atomic<int> refused = 0;
  on_nodes(launcher, 2, [&](Bootstrap& me) {
    joined.arrive_and_wait();
    if (has(failure_of(launcher.ticket(1)), "node 1 has joined already")) ++refused;
    if (me.exchange({}).size() != 2) refused = -10;
    me.leave("{}");
  });
  CHECK(refused == 2);
  CHECK(launcher.heard("stranger: "));
  CHECK_FALSE(has(launcher.all_heard(), "lost"));
}

TEST_CASE("another version and another executable are refused by name") {
  Launcher launcher(2);
  auto packet = job::make_packet(job::FrameType::hello, job::Hello{0, {}, "build", "/bin/other"}.encode(), 0);
  job::FrameHeader header;
  std::memcpy(&header, packet.data(), sizeof header);
  header.version = 2;
  std::memcpy(header.library, "0.9.9", 6);
  std::memcpy(packet.data(), &header, sizeof header);
  const std::string answer = stranger(launcher, packet);
  CHECK(has(answer, "0.9.9"));
  CHECK(has(answer, std::string(job::kLibraryVersion)));

  const auto first = netvm::join_job(settings(), launcher.ticket(0));
  const job::Hello other{1, *job::secret_from_hex(launcher.ticket(1).key), "another build", "/bin/other"};
  const std::string refusal = stranger(launcher, job::make_packet(job::FrameType::hello, other.encode(), 0));
  CHECK(has(refusal, "another executable"));
  CHECK(has(refusal, "/bin/other"));
}

TEST_CASE("strangers on the socket cost the job nothing") {
  Launcher launcher(2);
  std::vector<netvm::UniqueFd> silent;
  for (int i = 0; i < 200; ++i) silent.push_back(job::connect_to(launcher.ticket(0).rendezvous));
  (void)stranger(launcher, text("GET / HTTP/1.1\r\n"));
  (void)stranger(launcher, job::make_packet(job::FrameType::leave, {}, 0));
  (void)stranger(launcher, job::make_packet(job::FrameType::hello, text("short"), 0));
  std::atomic<int> done = 0;
  on_nodes(launcher, 2, [&](Bootstrap& me) {
    if (me.exchange({}).size() == 2) ++done;
    me.leave("{}");
  });
  CHECK(done == 2);
  CHECK(launcher.heard("left 1"));
  const std::string heard = launcher.all_heard();
  CHECK(has(heard, "stranger: "));
  CHECK(heard.find("stranger: ") == heard.rfind("stranger: "));  // mentioned once
  CHECK_FALSE(has(heard, "lost"));
}

TEST_CASE("a member that breaks the protocol ends the job, by name") {
  Launcher launcher(1);
  const netvm::UniqueFd socket = job::connect_to(launcher.ticket(0).rendezvous);
  const job::Hello hello{0, *job::secret_from_hex(launcher.ticket(0).key), "build", "/bin/program"};
  REQUIRE(job::send_packet(socket.get(), job::make_packet(job::FrameType::hello, hello.encode(), 0), {}, true) == job::Io::done);
  REQUIRE(job::send_packet(socket.get(), job::make_packet(job::FrameType::exchange, job::Exchange{7, 1000, {}}.encode(), 0), {}, true) ==
          job::Io::done);
  CHECK(launcher.heard("abort 0: it broke the job's protocol"));
}

TEST_CASE("when the launcher goes, waiting ends with a message") {
  auto launcher = std::make_unique<Launcher>(2);
  const auto me = netvm::join_job(settings(), launcher->ticket(0));
  std::thread end([&launcher] {
    std::this_thread::sleep_for(20ms);
    launcher.reset();
  });
  std::string what;
  try {
    (void)me->exchange({});
  } catch (const BootstrapError& error) {
    what = error.what();
  }
  end.join();
  CHECK(has(what, "netvmrun has ended"));
}

TEST_CASE("a process alone is a job of one node") {
  const auto me = netvm::make_solo_job(settings());
  CHECK(me->node() == NodeId{0});
  CHECK(me->nodes() == 1);
  CHECK(me->nodes_on_host() == 1);
  CHECK(me->session() != 0);
  CHECK(me->exchange(text("mine")) == std::vector<std::vector<std::byte>>{text("mine")});
  CHECK(me->frames_fd(NodeId{0}) != me->device_fd(NodeId{0}));
  CHECK(::ftruncate(me->frames_fd(NodeId{0}), std::int64_t{1} << 36) == 0);  // sparse: costs nothing
  me->leave("{}");
}
