#include "runtime/asymmetric_fence.hpp"

#include <linux/membarrier.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "runtime/check.hpp"

namespace netvm {
namespace {

long membarrier(int command) { return ::syscall(SYS_membarrier, command, 0, 0); }

}  // namespace

bool AsymmetricFence::available() {
  const long commands = membarrier(MEMBARRIER_CMD_QUERY);
  return commands > 0 && (commands & MEMBARRIER_CMD_GLOBAL_EXPEDITED) != 0;
}

bool AsymmetricFence::enrol() { return membarrier(MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED) == 0; }

void AsymmetricFence::heavy() {
  NETVM_CHECK(membarrier(MEMBARRIER_CMD_GLOBAL_EXPEDITED) == 0, "membarrier(GLOBAL_EXPEDITED), which was offered: %s",
              strerrordesc_np(errno));
}

}  // namespace netvm
