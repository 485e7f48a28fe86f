#include "apps/kit/process_state.hpp"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <clocale>
#include <cstdlib>
#include <cstring>
#include <new>
#include <string>

#include "apps/kit/heap.hpp"
#include "apps/kit/pthreads.hpp"
#include "apps/kit/thread_state.hpp"

extern "C" int __cxa_atexit(void (*handler)(void*), void* argument, void* library);

namespace netvm::kit {

namespace {

using What = ProcessChange::What;

// Far apart, so that generators of nodes that the program seeds alike give other numbers.
constexpr long kSeedStep = 0x9e37'79b9;

std::atomic<bool> g_closed{false};
int g_node = 0;
sigset_t g_handled;      // of the server: signals that have a handler
sigset_t g_main_blocks;  // main()'s mask

long own_seed(long seed) { return seed + g_node * kSeedStep; }

void take_signals_as_main() {
  sigset_t blocked;
  ::sigorset(&blocked, &g_handled, &g_main_blocks);
  ::pthread_sigmask(SIG_SETMASK, &blocked, nullptr);
}

/// The texts behind it: in private memory, for the kernel reads them.
struct Texts {
  explicit Texts(const ProcessChange& change)
      : first(reinterpret_cast<const char*>(&change + 1), change.first_bytes),
        second(reinterpret_cast<const char*>(&change + 1) + change.first_bytes, change.second_bytes) {}
  std::string first, second;
};

}  // namespace

void ProcessState::open(int node) {
  g_node = node;
  sigemptyset(&g_handled);
  sigemptyset(&g_main_blocks);
  if (node == 0) return;
  ::srandom(static_cast<unsigned>(own_seed(1)));
  ::srand48(own_seed(0));
}

bool ProcessState::concerns_others() {
  return program_calls() && Pthreads::find() != nullptr && Pthreads::find()->kit().nodes() > 1 && !g_closed.load();
}

void ProcessState::close() { g_closed.store(true); }

void ProcessState::change(const ProcessChange& what, const char* first, const char* second, const std::function<bool()>& here) {
  // The texts are read here, on the program's stack, where pages that are away come.
  const std::size_t first_bytes = first == nullptr ? 0 : std::strlen(first);
  const std::size_t second_bytes = second == nullptr ? 0 : std::strlen(second);
  void* const memory =
      in_runtime([&] { return Heap::allocate(sizeof(ProcessChange) + first_bytes + second_bytes, alignof(ProcessChange), false); });
  if (memory == nullptr)
    misuse("a change of the process", "no room to tell the other nodes: raise NETVM_ADDRESS_SPACE (netvmrun --address-space)");
  auto* const change = new (memory) ProcessChange(what);
  change->first_bytes = first_bytes;
  change->second_bytes = second_bytes;
  auto* const texts = reinterpret_cast<char*>(change + 1);
  std::copy_n(first, first_bytes, texts);
  std::copy_n(second, second_bytes, texts + first_bytes);
  static_cast<void>(privately([&] {
    Pthreads::find()->change_all(change, here);
    static_cast<void>(Heap::free(change));
    return 0;
  }));
}

void ProcessState::apply(const ProcessChange& shared) {
  const ProcessChange change = shared;
  const Texts texts(shared);
  const auto number = static_cast<int>(change.number);
  switch (change.what) {
    case What::set_variable:
      static_cast<void>(::setenv(texts.first.c_str(), texts.second.c_str(), 1));
      break;
    case What::unset_variable:
      static_cast<void>(::unsetenv(texts.first.c_str()));
      break;
    case What::clear_variables:
      static_cast<void>(::clearenv());
      break;
    case What::directory:
      if (::chdir(texts.first.c_str()) != 0) {
        misuse("chdir()", "node " + std::to_string(g_node) + " cannot change to \"" + texts.first + "\": " + strerrordesc_np(errno) +
                              ". All nodes need the program's files at the same place");
      }
      break;
    case What::file_mask:
      ::umask(static_cast<mode_t>(number));
      break;
    case What::locale:
      static_cast<void>(::setlocale(number, texts.first.c_str()));
      break;
    case What::disposition:
      static_cast<void>(has_handler(change.action) ? sigaddset(&g_handled, number) : sigdelset(&g_handled, number));
      static_cast<void>(::sigaction(number, &change.action, nullptr));
      if (g_node != 0) take_signals_as_main();  // node 0's takes none
      break;
    case What::main_blocks:
      g_main_blocks = change.action.sa_mask;
      take_signals_as_main();
      break;
    case What::random_seed:
      ::srandom(static_cast<unsigned>(own_seed(change.number)));
      break;
    case What::rand48_seed:
      ::srand48(own_seed(change.number));
      break;
    case What::at_exit:
      if (g_node == 0 && __cxa_atexit(change.handler, change.argument, change.library) != 0)
        misuse("atexit()", "node 0 has no memory for the handler");
      break;
  }
}

}  // namespace netvm::kit
