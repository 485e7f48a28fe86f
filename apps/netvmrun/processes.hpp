// Starting the nodes' processes, and seeing to it that none outlives the job.
//
// Invariants
//  1. A node's process dies with netvmrun, even by SIGKILL: the parent-death signal is set before the program runs. (What the process
//     itself started is the guardian's matter, see guardian.hpp.)
//  2. netvmrun is the subreaper of everything below it: what a wrapper script leaves behind becomes its child and is found.
//
// Nodes stay in netvmrun's own process group. So the terminal's keys reach them as they reach any program: Ctrl-Z and fg stop and
// continue the whole job, node 0 may read from the terminal, and Ctrl-C arrives at each node once, from the kernel (the launcher
// tells that from a signal sent to itself alone, and forwards only the latter).
#pragma once

#include <sys/resource.h>
#include <sys/types.h>

#include <csignal>
#include <cstdint>
#include <string>
#include <vector>

#include "runtime/unique_fd.hpp"

namespace netvm::run {

struct StartOptions {
  std::string path;
  std::vector<std::string> arguments;  ///< with the program's name first
  std::uint32_t node = 0;
  sigset_t signal_mask{};  ///< what the program starts with
  rlimit descriptors{};    ///< likewise
};

struct StartedProcess {
  pid_t pid = -1;
  UniqueFd output;  ///< read ends, not blocking
  UniqueFd error;
};

/// Lets this process have `needed` descriptors more than a usual one, and returns the limits of before. Throws std::runtime_error
/// with advice where the system does not allow it.
[[nodiscard]] rlimit raise_descriptor_limit(rlim_t needed);

/// Opens /dev/null in the place of standard streams that netvmrun was started without, so that nothing else lands there.
void open_standard_streams();

/// Makes this process the one that inherits orphans of its tree.
void become_subreaper();

/// Starts one node; NETVM_NODE is set for it, the rest of the environment is ours. Throws std::system_error (its code is that of
/// execve if the program could not be run).
[[nodiscard]] StartedProcess start_process(const StartOptions& options);

/// All processes below this one (the nodes and whatever they started), without those of `except` and what is below them.
[[nodiscard]] std::vector<pid_t> descendants(const std::vector<pid_t>& except);

/// "exited with status 3", "was killed by signal 11 (Segmentation fault)".
[[nodiscard]] std::string describe_end(int wait_status);
/// What a shell would report: the status, or 128 + the signal.
[[nodiscard]] int exit_status_of(int wait_status);

}  // namespace netvm::run
