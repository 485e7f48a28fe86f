#include "apps/kit/shared_stacks.hpp"

#include <sys/mman.h>

#include <algorithm>
#include <mutex>
#include <string>
#include <vector>

#include "dsm/api/job_runtime.hpp"

namespace netvm::kit {

namespace {

constexpr std::size_t kLeast = std::size_t{64} * 1024;
constexpr std::size_t kReady = std::size_t{64} * 1024;  // buffers that library functions give to the kernel lie here: it takes no faults

std::mutex g_mutex;
std::vector<SharedStack> g_free;

}  // namespace

SharedStack SharedStack::take(detail::Runtime& runtime, std::size_t bytes) {
  bytes = (std::max(bytes, kLeast) + kPageSize - 1) / kPageSize * kPageSize;
  {
    const std::lock_guard guard(g_mutex);
    const auto fits = [bytes](const SharedStack& stack) { return stack.end - stack.begin == bytes; };
    const auto found = std::find_if(g_free.begin(), g_free.end(), fits);
    if (found != g_free.end()) {
      const SharedStack stack = *found;
      g_free.erase(found);
      return stack;
    }
  }
  dsm::AllocOptions options;
  options.alignment = kPageSize;
  options.placement = dsm::Placement::at_node;
  options.home = runtime.boot->node();
  options.name = "stack of a thread";
  std::string why;
  const auto offset = runtime.dsm->allocate(bytes + kPageSize, options, &why);
  if (!offset) return {};
  const auto guard_page = reinterpret_cast<std::uintptr_t>(runtime.address_of(*offset));
  if (runtime.vm->trap() == TrapKind::userfaultfd) (void)::mprotect(reinterpret_cast<void*>(guard_page), kPageSize, PROT_NONE);
  const SharedStack stack{guard_page + kPageSize, guard_page + kPageSize + bytes};
  static_cast<void>(runtime.dsm->touch(*offset + kPageSize + bytes - std::min(bytes, kReady), std::min(bytes, kReady), true));
  return stack;
}

void SharedStack::give_back() const {
  const std::lock_guard guard(g_mutex);
  g_free.push_back(*this);
}

}  // namespace netvm::kit
