// The heap's memory in a job: allocations of the DSM, mutexes of sync/.
#pragma once

namespace netvm::detail {
struct Runtime;
}

namespace netvm::kit {

/// Opens the heap on the job's shared memory. Collective. Throws Error.
void open_heap(detail::Runtime& runtime);

}  // namespace netvm::kit
