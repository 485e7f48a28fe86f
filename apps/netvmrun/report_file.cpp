#include "apps/netvmrun/report_file.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string_view>
#include <system_error>

#include "runtime/unique_fd.hpp"

namespace netvm::run {
namespace {

std::string directory_of(const std::string& file) {
  const auto slash = file.rfind('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : file.substr(0, slash);
}

/// A terminal, a pipe, /dev/null: written to as it is.
bool is_special(const std::string& file) {
  struct stat info {};
  return ::stat(file.c_str(), &info) == 0 && !S_ISREG(info.st_mode) && !S_ISDIR(info.st_mode);
}

void write_all(int fd, std::string_view text) {
  while (!text.empty()) {
    const ssize_t wrote = ::write(fd, text.data(), text.size());
    if (wrote < 0 && errno != EINTR) throw std::system_error(errno, std::generic_category());
    if (wrote > 0) text.remove_prefix(static_cast<std::size_t>(wrote));
  }
}

}  // namespace

std::string report_obstacle(const std::string& file) {
  struct stat info {};
  const bool exists = ::stat(file.c_str(), &info) == 0;
  if (exists && S_ISDIR(info.st_mode)) return fmt::format("{} is a directory", file);
  if (is_special(file)) {
    return ::access(file.c_str(), W_OK) == 0 ? std::string() : fmt::format("{} cannot be written: {}", file, std::strerror(errno));
  }
  const std::string directory = directory_of(file);
  if (::stat(directory.c_str(), &info) != 0) return fmt::format("there is no directory {}", directory);
  if (!S_ISDIR(info.st_mode)) return fmt::format("{} is not a directory", directory);
  if (::access(directory.c_str(), W_OK | X_OK) != 0) return fmt::format("no file can be made in {}: {}", directory, std::strerror(errno));
  return {};
}

void write_report(const std::string& file, const std::string& text) {
  if (is_special(file)) {
    const UniqueFd fd{::open(file.c_str(), O_WRONLY | O_CLOEXEC)};
    if (!fd) throw std::system_error(errno, std::generic_category());
    return write_all(fd.get(), text);
  }
  std::string temporary = file + ".XXXXXX";
  const UniqueFd fd{::mkostemp(temporary.data(), O_CLOEXEC)};
  if (!fd) throw std::system_error(errno, std::generic_category());
  try {
    write_all(fd.get(), text);
    const mode_t mask = ::umask(0);
    ::umask(mask);
    if (::fchmod(fd.get(), 0666 & ~mask) != 0 || std::rename(temporary.c_str(), file.c_str()) != 0) {
      throw std::system_error(errno, std::generic_category());
    }
  } catch (...) {
    ::unlink(temporary.c_str());
    throw;
  }
}

}  // namespace netvm::run
