// Linked into every program by netvm-cc, with --wrap=main: the program starts here. It knows nothing of the library but its two entries.
extern "C" {

int __real_main(int argc, char** argv, char** envp);
int netvm_kit_main(int argc, char** argv, char** envp, int (*program)(int, char**, char**), int private_globals);
void netvm_kit_begin(int argc, char** argv, char** envp, int (*program)(int, char**, char**), int private_globals, int pthreads);

// netvm-cc --private-globals and --pthreads define them (--defsym).
extern char netvm_private_globals __attribute__((weak));
extern char netvm_pthreads __attribute__((weak));

int __wrap_main(int argc, char** argv, char** envp) {
  return netvm_kit_main(argc, argv, envp, &__real_main, &netvm_private_globals != nullptr ? 1 : 0);
}

// Before all other constructors of the program (101 is the first that is not the compiler's), after those of its libraries.
__attribute__((constructor(101))) static void netvm_begin(int argc, char** argv, char** envp) {
  netvm_kit_begin(argc, argv, envp, &__real_main, &netvm_private_globals != nullptr ? 1 : 0, &netvm_pthreads != nullptr ? 1 : 0);
}
}
