// What a tool needs that starts jobs under netvmrun: where netvmrun is, a folder for what passes between them, and signals that end the job first.
#pragma once

#include <string>

namespace netvm::tools {

/// A folder of its own under TMPDIR, or /tmp; gone with the object.
class TemporaryFolder {
 public:
  /// Its name begins with the tool's. Throws std::system_error.
  explicit TemporaryFolder(const std::string& tool);
  ~TemporaryFolder();
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  [[nodiscard]] const std::string& path() const { return path_; }

 private:
  std::string path_;
};

/// Path of a program in PATH; empty if there is none.
[[nodiscard]] std::string find_in_path(const std::string& program);
/// Path of the netvmrun beside this program, or else in PATH; empty if there is none.
[[nodiscard]] std::string find_netvmrun();

/// From here on SIGINT, SIGTERM and SIGHUP interrupt blocking calls (EINTR) and are kept, for the tool to pass on; a reader that goes away shows as a
/// write that fails.
void watch_signals();
/// The number of the last signal that came, or 0.
[[nodiscard]] int interrupted();

}  // namespace netvm::tools
