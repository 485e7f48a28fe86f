#include "runtime/file_size.hpp"

#include <sys/resource.h>

namespace netvm {

bool fits_file_size_limit(std::string_view file, std::uint64_t bytes, std::string* why) {
  rlimit limit{};
  if (::getrlimit(RLIMIT_FSIZE, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY || limit.rlim_cur >= bytes) return true;
  *why = "files of this process may have " + std::to_string(limit.rlim_cur) + " bytes at most (ulimit -f), and ";
  why->append(file).append(" has " + std::to_string(bytes) + ": raise the limit, or lower NETVM_ADDRESS_SPACE");
  return false;
}

}  // namespace netvm
