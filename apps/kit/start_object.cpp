// Linked into every program by netvm-cc, with --wrap=main: the program starts here. It knows nothing of the library but this one entry.
extern "C" {

int __real_main(int argc, char** argv, char** envp);
int netvm_kit_main(int argc, char** argv, char** envp, int (*program)(int, char**, char**), int private_globals);

// netvm-cc --private-globals defines it (--defsym).
extern char netvm_private_globals __attribute__((weak));

int __wrap_main(int argc, char** argv, char** envp) {
  return netvm_kit_main(argc, argv, envp, &__real_main, &netvm_private_globals != nullptr ? 1 : 0);
}
}
