// netvm_kit_parts_test: what the porting kit has that needs no job. A file for each.
#define DOCTEST_CONFIG_IMPLEMENT_WITH_MAIN
#include <doctest/doctest.h>
