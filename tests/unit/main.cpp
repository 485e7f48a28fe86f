// The entry point of netvm_unit; `netvm_unit --help` lists doctest's filters.
#define DOCTEST_CONFIG_IMPLEMENT_WITH_MAIN
#include <doctest/doctest.h>
