// What files of canaries share. Each family of protocols has its own file and its own function here.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "dsm/protocol.hpp"
#include "dsm/protocol_env.hpp"
#include "tests/support/canaries.hpp"

namespace netvm::test {

template <class P>
std::unique_ptr<dsm::Protocol> make_canary(dsm::ProtocolEnv& env) {
  return std::make_unique<P>(env);
}

/// One of so many chances is missed.
inline bool misses(dsm::ProtocolEnv& env) {
  constexpr std::uint64_t kOneOf = 8;
  return env.env().random() % kOneOf == 0;
}

void add_sc_canaries(std::vector<Canary>& all);
void add_release_canaries(std::vector<Canary>& all);
void add_unasked_canaries(std::vector<Canary>& all);

}  // namespace netvm::test
