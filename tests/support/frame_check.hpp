// Whether the tests' memories run with the frame check (runtime/frame_check.hpp): with NETVM_CHECK_FRAMES=on in the environment, as jobs do, but only where
// the kernel can do it. The ctest entries of tests/frame_check run the pager's, the redirect's and the DSM's tests so, all others without, as the product is.
#pragma once

#include <cstdio>
#include <cstdlib>
#include <string_view>

#include "runtime/frame_check.hpp"

namespace netvm::test {

inline bool frames_are_checked() {
  static const bool checked = [] {
    const char* const wanted = std::getenv("NETVM_CHECK_FRAMES");
    if (wanted == nullptr || std::string_view(wanted) != "on") return false;
    const TrapProbe probe = FrameCheck::probe();
    std::fprintf(stderr, "frame check: %s%s\n", probe.usable ? "" : "SKIPPED: ", probe.reason.c_str());
    return probe.usable;
  }();
  return checked;
}

}  // namespace netvm::test
