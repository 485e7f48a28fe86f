// What start_object.cpp calls: which kind of program this is, and its begin.
//
// A program that creates threads itself begins before its constructors, so that what they allocate and write is shared, and they run once, on node 0. Other
// programs (those of the macros) begin with main(): every node runs the constructors.
#include <cstdio>
#include <cstdlib>

#include "apps/kit/pthreads.hpp"

namespace {

bool g_begun = false;

}  // namespace

extern "C" void netvm_kit_begin(int argc, char** argv, char** envp, int (*program)(int, char**, char**), int private_globals,
                                int pthreads) {
  using netvm::kit::ProgramImage;
  using netvm::kit::Pthreads;
  if (g_begun || (pthreads == 0 && !ProgramImage::creates_threads())) return;
  g_begun = true;
  if (private_globals != 0) {
    std::fputs("netvm: threads share the program's globals: link it without --private-globals\n", stderr);
    std::_Exit(1);
  }
  Pthreads::start({program, false}, argc, argv, envp);
}

extern "C" int netvm_kit_main(int argc, char** argv, char** envp, int (*program)(int, char**, char**), int private_globals) {
  using netvm::kit::Kit;
  if (netvm::kit::Pthreads::find() != nullptr) netvm::kit::Pthreads::run_main(argc, argv, envp);
  Kit::start({program, private_globals != 0}, argv);
  Kit::find()->run(argc, argv, envp);
}
