// A scenario: a small program against the public interface that checks itself.
#pragma once

#include <cstdio>
#include <cstdlib>
#include <functional>
#include <string_view>
#include <vector>

#include "netvm/netvm.hpp"

namespace netvm::test {

struct Scenario {
  std::string_view name;
  void (*run)(Job& job);
};

/// Fails the process, so the job, with a message.
inline void expect(bool condition, const char* what, int line) {
  if (condition) return;
  std::fprintf(stderr, "scenario failed at line %d: %s\n", line, what);
  std::exit(1);
}

std::vector<Scenario> memory_scenarios();
std::vector<Scenario> budget_scenarios();
std::vector<Scenario> sync_scenarios();
std::vector<Scenario> object_scenarios();
std::vector<Scenario> stop_scenarios();
std::vector<Scenario> misuse_scenarios();
std::vector<Scenario> event_scenarios();
std::vector<Scenario> failure_scenarios();
std::vector<Scenario> death_scenarios();

}  // namespace netvm::test

#define EXPECT(condition) ::netvm::test::expect((condition), #condition, __LINE__)
