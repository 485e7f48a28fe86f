// Whose file it is: what every call on a FILE looks at first.
#pragma once

#include "apps/kit/file_area.hpp"

namespace netvm::kit {

[[noreturn]] void refuse_foreign_file(const char* call, const void* file, const void* code);

/// Ends the job, naming the call and `code`, the place in the program that makes it, if another node has opened that FILE. Null is nobody's.
inline void require_own_file(const char* call, const void* file, const void* code) {
  if (FileArea::is_foreign(file)) [[unlikely]]
    refuse_foreign_file(call, file, code);
}

}  // namespace netvm::kit
