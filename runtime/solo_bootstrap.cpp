// A job of one node: a program that was started without netvmrun.
#include <fmt/format.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <system_error>

#include "runtime/bootstrap.hpp"
#include "runtime/check.hpp"
#include "runtime/job_report.hpp"
#include "runtime/job_wire.hpp"

namespace netvm {
namespace {

class SoloBootstrap final : public Bootstrap {
 public:
  explicit SoloBootstrap(const Settings& settings)
      : prints_stats_(settings.stats),
        session_(job::random_nonzero()),
        frames_(job::make_memory_file("netvm-frames-0")),
        device_(job::make_memory_file("netvm-device-0")) {}

  [[nodiscard]] NodeId node() const override { return NodeId{0}; }
  [[nodiscard]] std::uint32_t nodes() const override { return 1; }
  [[nodiscard]] std::uint64_t session() const override { return session_; }
  [[nodiscard]] std::uint32_t nodes_on_host() const override { return 1; }
  [[nodiscard]] std::uint32_t index_on_host() const override { return 0; }
  [[nodiscard]] int frames_fd(NodeId node) const override { return only(node, frames_); }
  [[nodiscard]] int device_fd(NodeId node) const override { return only(node, device_); }

  std::vector<std::vector<std::byte>> exchange(std::span<const std::byte> mine) override {
    if (mine.size() > job::kMaxExchange) {
      throw BootstrapError(fmt::format("node 0 gives {} bytes to an exchange; at most {} fit", mine.size(), job::kMaxExchange));
    }
    return {{mine.begin(), mine.end()}};
  }

  void leave(const std::string& report_json) override {
    if (!prints_stats_) return;
    const std::string reports[] = {report_json};
    std::fputs(job::format_stats(reports).c_str(), stderr);
  }

  [[noreturn]] void abort_job(const std::string& reason) override {
    fmt::print(stderr, "netvm: {}\n", reason);
    ::_exit(EXIT_FAILURE);
  }

 private:
  static int only(NodeId node, const UniqueFd& fd) {
    NETVM_CHECK(node.value == 0, "node %u of a job of one node", node.value);
    return fd.get();
  }

  bool prints_stats_;
  std::uint64_t session_;
  UniqueFd frames_;
  UniqueFd device_;
};

}  // namespace

std::unique_ptr<Bootstrap> make_solo_job(const Settings& settings) {
  try {
    return std::make_unique<SoloBootstrap>(settings);
  } catch (const std::system_error& error) {
    throw BootstrapError(fmt::format("cannot make a job of one node: {}", error.what()));
  }
}

}  // namespace netvm
