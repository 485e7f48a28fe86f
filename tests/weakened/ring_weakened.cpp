// The ring with its release stores made relaxed. What it includes is included before, so that nothing else is weakened.
#include <atomic>
#include <bit>
#include <cstring>

#include "nic/racy_copy.hpp"
#include "nic/shm_ring.hpp"
#include "runtime/check.hpp"

#define memory_order_release memory_order_relaxed
#include "nic/shm_ring.cpp"
