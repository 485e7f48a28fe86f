// netvm_api_scenarios NAME: runs one scenario in the job that netvmrun started; `list` names those that must succeed.
#include <cstdio>
#include <cstring>
#include <exception>

#include "tests/api/scenario.hpp"

int main(int argc, char** argv) {
  using namespace netvm::test;
  std::vector<Scenario> good = memory_scenarios();
  for (const Scenario& s : sync_scenarios()) good.push_back(s);
  for (const Scenario& s : object_scenarios()) good.push_back(s);
  for (const Scenario& s : stop_scenarios()) good.push_back(s);
  for (const Scenario& s : misuse_scenarios()) good.push_back(s);
  for (const Scenario& s : event_scenarios()) good.push_back(s);
  for (const Scenario& s : budget_scenarios()) good.push_back(s);
  if (argc == 2 && std::strcmp(argv[1], "list") == 0) {
    for (const Scenario& s : good) std::printf("%.*s\n", static_cast<int>(s.name.size()), s.name.data());
    return 0;
  }
  std::vector<Scenario> all = good;
  for (const Scenario& s : failure_scenarios()) all.push_back(s);
  for (const Scenario& s : death_scenarios()) all.push_back(s);
  try {
    for (const Scenario& s : all) {
      const bool chosen = argc == 2 && (s.name == argv[1]);
      if (!chosen) continue;
      netvm::Job job;
      s.run(job);
      return 0;
    }
    if (argc == 2 && std::strcmp(argv[1], "all") == 0) {  // one job, one after the other: nothing is left over between them
      netvm::Job job;
      for (const Scenario& s : good) {
        s.run(job);
        job.barrier();
      }
      return 0;
    }
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
  std::fprintf(stderr, "usage: netvm_api_scenarios list | all | NAME\n");
  return 2;
}
