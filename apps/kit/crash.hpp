// A thread of the program that crashes is named before the process dies: node, thread, address, and the allocation that lies there.
#pragma once

#include <csignal>
#include <cstdint>

#include "runtime/log.hpp"

namespace netvm::kit {

class Kit;

/// Installs the handlers. Before the job begins, whose own handlers pass on what is not theirs.
void catch_crashes();

/// From now on a thread of this job that runs into the page below its shared stack crashes. Collective order does not matter; after the job's own handlers.
void watch_guard_pages(Kit& kit);

/// Appends what lies at an address: which global variable, or where it was allocated. Asks other nodes. In signal handlers, too.
void describe_address(Kit& kit, std::uintptr_t address, LineBuffer& line);

}  // namespace netvm::kit
