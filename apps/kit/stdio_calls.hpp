// Whose file it is: what every call on a FILE looks at first.
#pragma once

namespace netvm::kit {

/// Ends the job, naming the call and `code`, the place in the program that makes it, if another node has opened that FILE. Null is nobody's.
void require_own_file(const char* call, const void* file, const void* code);

}  // namespace netvm::kit
