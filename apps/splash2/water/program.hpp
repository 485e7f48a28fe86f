// What both water programs do from their command line to their exit status.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "apps/splash2/water/simulation.hpp"

namespace splash2::water {

struct WaterOptions {
  CommonOptions common;
  LayoutOptions layout;
  std::int64_t molecules = 512;
  std::int64_t steps = 3;
  double time_step = 0.15;  ///< femtoseconds
  double cutoff = 6.2;      ///< Angstrom; at most half the box is used

  void add_to(Options& options);
  [[nodiscard]] Parameters parameters() const;
};

using MakeSimulation = std::function<std::unique_ptr<Simulation>(Store& store, const Parameters& parameters)>;

/// The command line is parsed. Runs, checks, reports; the exit status.
int run_water(const std::string& program, const WaterOptions& options, const MakeSimulation& make);

}  // namespace splash2::water
