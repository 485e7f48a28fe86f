// What netvm_model was asked for on its command line (main.cpp says what the flags mean).
#pragma once

#include <cstdint>
#include <string>

namespace netvm::model {

struct Options {
  std::string program = "netvm_model";
  std::uint64_t runs = 0;  ///< 0: each test's own number
  std::uint64_t draws = 1;
  int setup = -1;
  std::string litmus;
  std::string choices;
  bool has_choices = false;
};
inline Options& options() {
  static Options made;
  return made;
}

}  // namespace netvm::model
