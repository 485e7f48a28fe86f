#include "apps/common/job_host.hpp"

#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <sstream>
#include <system_error>

namespace netvm::tools {
namespace {

namespace fs = std::filesystem;

volatile std::sig_atomic_t received_signal = 0;

void note_signal(int number) { received_signal = number; }

}  // namespace

TemporaryFolder::TemporaryFolder(const std::string& tool) {
  std::error_code none;
  fs::path parent = fs::temp_directory_path(none);
  if (none) parent = "/tmp";
  path_ = (parent / (tool + "-XXXXXX")).string();
  if (::mkdtemp(path_.data()) == nullptr)
    throw std::system_error(errno, std::generic_category(), tool + ": no temporary folder in " + parent.string());
}

TemporaryFolder::~TemporaryFolder() {
  std::error_code ignored;
  fs::remove_all(path_, ignored);
}

std::string find_in_path(const std::string& program) {
  std::istringstream folders(std::getenv("PATH") != nullptr ? std::getenv("PATH") : "");
  for (std::string folder; std::getline(folders, folder, ':');) {
    const fs::path candidate = fs::path(folder.empty() ? "." : folder) / program;
    if (::access(candidate.c_str(), X_OK) == 0) return candidate.string();
  }
  return {};
}

std::string find_netvmrun() {
  std::error_code unknown;
  const fs::path beside = fs::read_symlink("/proc/self/exe", unknown).parent_path() / "netvmrun";
  if (!unknown && ::access(beside.c_str(), X_OK) == 0) return beside.string();
  return find_in_path("netvmrun");
}

void watch_signals() {
  struct sigaction action {};
  action.sa_handler = note_signal;  // without SA_RESTART: who waits for the job is woken and passes it on
  for (const int number : {SIGINT, SIGTERM, SIGHUP}) ::sigaction(number, &action, nullptr);
  ::signal(SIGPIPE, SIG_IGN);
}

int interrupted() { return received_signal; }

}  // namespace netvm::tools
