// The checked trap: accessors ask the access table before each access, so no hardware is involved. For the simulator and ThreadSanitizer.
//
// Invariants
//  1. A piece of an access (the part within one page) happens between enter() and leave(): set_access() cannot lower rights in between.
//  2. Pieces of 1, 2, 4 and 8 aligned bytes are single relaxed atomic accesses, as loads and stores of the hardware are: programs that
//     race on purpose (litmus tests) stay defined, and ThreadSanitizer sees them against everybody's plain accesses.
//  3. Where there is an application view it is reserved and inaccessible: addresses are unique, raw pointers end in SIGSEGV.
#include <cstring>

#include "runtime/check.hpp"
#include "runtime/host_vm_state.hpp"
#include "runtime/trap.hpp"

namespace netvm {
namespace {

class CheckedTrap final : public TrapMechanism {
 public:
  using TrapMechanism::TrapMechanism;
  bool cover(const AppWindow&, std::string*) override { return false; }  // there is nothing to see through one
  void restore(PageId, Access) override {}
  [[nodiscard]] bool reports_fault(const TrapSignal&) const override { return false; }
  bool expose(PageId) override { return false; }
  void conceal(PageId) override {}

 private:
  void apply_to_piece(PageRange, Access, Access) override {}  // the access table has it already
};

template <class Word>
void load_word(const std::byte* from, void* to) {
  const Word value = __atomic_load_n(reinterpret_cast<const Word*>(from), __ATOMIC_RELAXED);  // relaxed: an ordinary load of the program
  std::memcpy(to, &value, sizeof value);
}

template <class Word>
void store_word(std::byte* to, const void* from) {
  Word value;
  std::memcpy(&value, from, sizeof value);
  __atomic_store_n(reinterpret_cast<Word*>(to), value, __ATOMIC_RELAXED);  // relaxed: an ordinary store of the program
}

bool single_access(std::uint64_t offset, std::size_t bytes) {
  return (bytes == 1 || bytes == 2 || bytes == 4 || bytes == 8) && offset % bytes == 0;
}

void load_piece(const std::byte* from, void* to, std::size_t bytes, bool single) {
  if (!single) {
    std::memcpy(to, from, bytes);
    return;
  }
  switch (bytes) {
    case 1:
      return load_word<std::uint8_t>(from, to);
    case 2:
      return load_word<std::uint16_t>(from, to);
    case 4:
      return load_word<std::uint32_t>(from, to);
    default:
      return load_word<std::uint64_t>(from, to);
  }
}

void store_piece(std::byte* to, const void* from, std::size_t bytes, bool single) {
  if (!single) {
    std::memcpy(to, from, bytes);
    return;
  }
  switch (bytes) {
    case 1:
      return store_word<std::uint8_t>(to, from);
    case 2:
      return store_word<std::uint16_t>(to, from);
    case 4:
      return store_word<std::uint32_t>(to, from);
    default:
      return store_word<std::uint64_t>(to, from);
  }
}

// Calls piece(frame address, bytes done before, bytes) for each page's part of the range, with the page entered.
template <class Piece>
bool for_each_piece(const HostVm& vm, HostVm::State& state, Env& env, std::uint64_t offset, std::size_t bytes, Access need, Piece piece) {
  NETVM_CHECK(vm.trap() == TrapKind::checked, "checked accessors on a HostVm whose trap is %s", to_string(vm.trap()).data());
  if (offset > vm.bytes() || bytes > vm.bytes() - offset) return false;
  for (std::size_t done = 0; done < bytes;) {
    const std::uint64_t at = offset + done;
    const PageId page{at >> kPageShift};
    const std::size_t length = std::min<std::size_t>(bytes - done, kPageSize - at % kPageSize);
    while (state.table.enter(page, need, env) == Access::none) {
      if (state.resolve(page, need)) continue;
      if (!state.call_handler(page, need == Access::write)) return false;
    }
    piece(vm.frame_base() + at, done, length);
    state.table.leave(page);
    done += length;
  }
  return true;
}

}  // namespace

std::unique_ptr<TrapMechanism> make_checked_trap(const AppView& view, std::string*) { return std::make_unique<CheckedTrap>(view); }

bool HostVm::checked_load(std::uint64_t offset, void* to, std::size_t bytes) {
  const bool single = single_access(offset, bytes);
  return for_each_piece(*this, *state_, env_, offset, bytes, Access::read,
                        [&](const std::byte* from, std::size_t done, std::size_t length) {
                          load_piece(from, static_cast<std::byte*>(to) + done, length, single);
                        });
}

bool HostVm::checked_store(std::uint64_t offset, const void* from, std::size_t bytes) {
  const bool single = single_access(offset, bytes);
  return for_each_piece(*this, *state_, env_, offset, bytes, Access::write, [&](std::byte* to, std::size_t done, std::size_t length) {
    store_piece(to, static_cast<const std::byte*>(from) + done, length, single);
  });
}

}  // namespace netvm
