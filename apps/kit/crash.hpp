// A thread of the program that crashes is named before the process dies: node, thread, address, and the allocation that lies there.
#pragma once

namespace netvm::kit {

/// Installs the handlers. Before the job begins, whose own handlers pass on what is not theirs.
void catch_crashes();

}  // namespace netvm::kit
