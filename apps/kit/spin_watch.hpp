// Spins on plain variables are noticed in programs of the kit (dsm/api/spin_watch.hpp): under every protocol that may never show the change, without being asked.
#pragma once

namespace netvm::kit {

class Kit;

class SpinWatch {
 public:
  /// Once, when the kit has joined the job.
  static void begin(Kit& kit);
  /// Before the job ends.
  static void end();
  /// The calling thread is watched from now on, until leave().
  static void enter();
  static void leave();
};

}  // namespace netvm::kit
