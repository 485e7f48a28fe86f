// The process's limit on the length of files (ulimit -f): it counts for memory files, too, and who makes one longer is ended by SIGXFSZ. So ask first.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace netvm {

/// Whether `file` may have this many bytes. Not on failure: *why then says in a sentence what to do.
[[nodiscard]] bool fits_file_size_limit(std::string_view file, std::uint64_t bytes, std::string* why);

}  // namespace netvm
