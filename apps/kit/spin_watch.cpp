#include "apps/kit/spin_watch.hpp"

#include <fmt/format.h>

#include <utility>

#include "apps/kit/crash.hpp"
#include "apps/kit/kit.hpp"
#include "dsm/api/spin_watch.hpp"
#include "dsm/protocol.hpp"

namespace netvm::kit {

void SpinWatch::begin(Kit& kit) {
  const std::string& protocol = kit.runtime().settings.protocol;
  const int chosen = dsm::find_protocol(protocol);
  if (dsm::protocols()[static_cast<std::size_t>(chosen)].traits.consistency == dsm::Consistency::sequential) return;
  detail::SpinWatch::Program program;
  program.describe = [&kit](std::uintptr_t address, LineBuffer& line) { describe_address(kit, address, line); };
  program.advice = fmt::format(
      ". Under protocol {} it may never see what another thread writes there without a lock or a barrier. If it hangs, choose a "
      "sequentially consistent one: netvmrun --protocol sc-directory",
      protocol);
  detail::SpinWatch::begin(kit.runtime(), std::move(program));
}

void SpinWatch::end() { detail::SpinWatch::end(); }

void SpinWatch::enter() {
  ThreadContext& me = this_thread();
  detail::SpinWatch::enter({[&me](LineBuffer& line) { line.append("thread %d (%s)", me.number, me.function); }, &me.calls});
}

void SpinWatch::leave() { detail::SpinWatch::leave(); }

}  // namespace netvm::kit
