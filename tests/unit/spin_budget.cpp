// How long a wait spins: nic/spin_budget.hpp. The clock is given, so nothing here takes time.
#include "nic/spin_budget.hpp"

#include <doctest/doctest.h>

#include "runtime/real_env.hpp"

namespace netvm::nic {

TEST_CASE("a wait spins for its budget, and for another one whenever it was of use") {
  RealEnv env({.spin_budget = 1000});
  SpinBudget spin(env);
  REQUIRE(spin.any());
  CHECK(spin.lasts(10));  // from here on
  CHECK(spin.lasts(900));
  spin.renew();
  CHECK(spin.lasts(5000));  // from here on: what it was at work for does not count
  CHECK(spin.lasts(5900));
  CHECK_FALSE(spin.lasts(6100));
  CHECK_FALSE(spin.lasts(6100));
  CHECK_FALSE(spin.any());
  spin.renew();
  CHECK(spin.any());
  CHECK(spin.lasts(9000));
  CHECK_FALSE(spin.lasts(10'000));
}

TEST_CASE("who is not to spin does not, of use or not") {
  RealEnv env({.spin_budget = 0});
  SpinBudget spin(env);
  CHECK_FALSE(spin.any());
  CHECK_FALSE(spin.lasts(10));
  spin.renew();
  CHECK_FALSE(spin.any());
  CHECK_FALSE(spin.turn());
  CHECK_FALSE(spin.lasts(20));
}

}  // namespace netvm::nic
