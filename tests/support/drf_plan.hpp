// What a random race-free program does that all its threads agree on without talking: its memory, its objects and locks, and who may use what in which
// phase. See drf_program.hpp.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "tests/support/drf_program.hpp"
#include "tests/support/machine.hpp"

namespace netvm::test {

inline constexpr std::uint64_t kPlacesOfPhase = 8;  // of objects that end it

enum class Mode : std::uint8_t { locked, owned, read_only, untouched };
/// A phase; or what lies between the halves of the split barrier at its end, where some threads are in the next phase already.
struct When {
  std::uint32_t phase = 0;
  bool between = false;
};
enum class Guard : std::uint8_t { mutex, semaphore, rwlock, monitor };
enum class Separator : std::uint8_t { barrier, latch, flag, barriers_of_some };

struct Object {
  std::uint64_t at = 0;  // in the ledger
  Place place = 0;
  std::uint32_t bytes = 0;
  std::uint32_t lock = 0;
  std::uint32_t pages = 1;     // of a column: so many pieces of that many bytes, a page apart
  bool always_locked = false;  // in every phase, so that threads beside the section may use it

  [[nodiscard]] Object piece(std::uint64_t page) const {
    return {at + page * kPageSize, place + page * kPageSize, bytes, lock, 1, always_locked};
  }
};

struct Plan {
  std::vector<Place> areas;
  Place locks = 0;
  Place busy = 0;        // a byte for each lock: its monitor is taken
  Place separators = 0;  // kPlacesOfPhase for each phase
  bool transitive = true;
  bool bound = false;  // locks bring what is bound to them, and nothing else
  std::vector<Object> objects;
  std::vector<std::uint32_t> for_all;  // those that are always locked
  std::uint32_t lock_count = 1;
  std::size_t ledger_bytes = 0;
  std::string text;

  [[nodiscard]] Place lock_place(std::uint32_t lock) const { return locks + std::uint64_t{lock} * 8; }
};

[[nodiscard]] Plan make_plan(Machine& machine, const DrfOptions& options);
void free_memory(Machine& machine, const Plan& plan);

[[nodiscard]] std::uint32_t owner_of(const DrfOptions& options, std::uint32_t phase, std::size_t object, std::uint32_t threads);
[[nodiscard]] Mode mode_of(const Plan& plan, const DrfOptions& options, When when, std::size_t object, std::uint32_t threads);
/// Whether the barrier at the phase's end is split, by the threads that do not call barrier(). Not the last: everybody reads everything after it.
[[nodiscard]] bool is_split(const DrfOptions& options, std::uint32_t phase);
/// What everything that the lock guards is guarded by.
[[nodiscard]] Guard guard_of(const Plan& plan, const DrfOptions& options, std::uint32_t lock);
[[nodiscard]] Separator separator_of(const Plan& plan, const DrfOptions& options, std::uint32_t phase);

}  // namespace netvm::test
