#include "apps/netvmrun/program_path.hpp"

#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <sstream>
#include <string_view>
#include <vector>

#include "runtime/build_identity.hpp"

namespace netvm::run {
namespace {

constexpr int kNotFound = 127;
constexpr int kNotExecutable = 126;

/// 0, or the errno that speaks against executing it.
int obstacle(const std::string& path) {
  struct stat info {};
  if (::stat(path.c_str(), &info) != 0) return errno;
  if (S_ISDIR(info.st_mode)) return EISDIR;
  if (!S_ISREG(info.st_mode)) return EACCES;
  return ::access(path.c_str(), X_OK) == 0 ? 0 : errno;
}

ProgramPath judge_path(const std::string& path) {
  const int why_not = obstacle(path);
  if (why_not == 0) return {path, 0, {}};
  if (why_not == ENOENT || why_not == ENOTDIR) return {{}, kNotFound, fmt::format("there is no program {}", path)};
  if (why_not == EISDIR) return {{}, kNotExecutable, fmt::format("{} is a directory, not a program", path)};
  return {{}, kNotExecutable, fmt::format("{} cannot be executed: {} (chmod +x?)", path, std::strerror(why_not))};
}

std::vector<std::string> search_directories() {
  const char* variable = std::getenv("PATH");
  std::string_view rest = variable == nullptr ? "/usr/local/bin:/usr/bin:/bin" : variable;
  std::vector<std::string> out;
  for (;;) {
    const auto colon = rest.find(':');
    const auto directory = rest.substr(0, colon);
    out.emplace_back(directory.empty() ? "." : directory);  // an empty entry is the current directory
    if (colon == std::string_view::npos) break;
    rest.remove_prefix(colon + 1);
  }
  const std::string own = executable_path();
  if (own.find('/') != std::string::npos) out.push_back(own.substr(0, own.rfind('/')));
  return out;
}

}  // namespace

ProgramPath find_program(const std::string& name) {
  if (name.find('/') != std::string::npos) return judge_path(name);
  if (name.empty()) return {{}, kNotFound, "the program's name is empty"};
  ProgramPath found_but_unusable;
  for (const std::string& directory : search_directories()) {
    ProgramPath candidate = judge_path(directory + "/" + name);
    if (candidate.exit_status == 0) return candidate;
    if (candidate.exit_status == kNotExecutable && found_but_unusable.error.empty()) found_but_unusable = std::move(candidate);
  }
  if (!found_but_unusable.error.empty()) return found_but_unusable;
  const bool is_here = obstacle("./" + name) == 0;
  return {
      {},
      kNotFound,
      fmt::format("there is no program '{}' in PATH or beside netvmrun; {}", name,
                  is_here ? fmt::format("for the one in this directory write ./{}", name) : "give its path, or add its directory to PATH")};
}

bool creates_threads(const std::string& path) {
  std::ostringstream contents;
  contents << std::ifstream(path, std::ios::binary).rdbuf();
  const std::string bytes = contents.str();
  if (bytes.compare(0, 4, "\177ELF") != 0) return false;
  // Names that a program wants of libraries lie in its table of strings, each between two zeros.
  constexpr std::array<std::string_view, 3> kNames{"pthread_create", "thrd_create", "GOMP_parallel"};
  return std::any_of(kNames.begin(), kNames.end(),
                     [&](std::string_view name) { return bytes.find('\0' + std::string(name) + '\0') != std::string::npos; });
}

}  // namespace netvm::run
