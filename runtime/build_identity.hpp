// Which executable a process runs: all nodes of a job must run the same build, for they share addresses of data and functions.
#pragma once

#include <string>

namespace netvm {

/// The linker's build id as hex; of an executable without one, its size and time of modification. The same in every process of a build.
[[nodiscard]] std::string build_identity();
/// Path of the running executable, for messages; "?" if the kernel does not tell.
[[nodiscard]] std::string executable_path();

}  // namespace netvm
