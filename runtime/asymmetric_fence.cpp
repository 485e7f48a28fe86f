#include "runtime/asymmetric_fence.hpp"

#include <linux/membarrier.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "runtime/check.hpp"
#include "runtime/cpu.hpp"

namespace netvm {
namespace {

long membarrier(int command) { return ::syscall(SYS_membarrier, command, 0, 0); }

void fence(int command, const char* name) {
  NETVM_CHECK(membarrier(command) == 0, "membarrier(%s), which was offered: %s", name, strerrordesc_np(errno));
}

std::int64_t now_ns() {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return std::int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec;
}

}  // namespace

bool AsymmetricFence::available() {
  constexpr long kNeeded = MEMBARRIER_CMD_GLOBAL_EXPEDITED | MEMBARRIER_CMD_PRIVATE_EXPEDITED;
  const long commands = membarrier(MEMBARRIER_CMD_QUERY);
  return commands > 0 && (commands & kNeeded) == kNeeded;
}

bool AsymmetricFence::enrol() {
  return membarrier(MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED) == 0 && membarrier(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED) == 0;
}

void AsymmetricFence::heavy(Reach reach) {
  fence(MEMBARRIER_CMD_PRIVATE_EXPEDITED, "PRIVATE_EXPEDITED");
  if (reach == Reach::process) return;
  fence(MEMBARRIER_CMD_GLOBAL_EXPEDITED, "GLOBAL_EXPEDITED");
  for (const std::int64_t end = now_ns() + kSettle; now_ns() < end;) cpu_pause();
}

}  // namespace netvm
