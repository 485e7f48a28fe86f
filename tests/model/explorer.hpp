// Explorer: runs a program in the simulator again and again, in every order of its events that could make a difference.
//
// An event is the delivery of a packet, or a thread's way from one wait to the next. Events of different nodes commute (simulator.hpp, invariant
// 4), so two runs differ only if some node sees its events in another order. This is dynamic partial-order reduction: a run is looked through for races,
// two neighbouring events of one node of which the second does not follow from the first; for each, a run is planned that takes them the other way
// round, unless one such is planned already (source sets and sleep sets: Abdulla, Aronis, Jonsson, Sagonas, POPL 2014; without state kept: Godefroid 1997).
//
// Invariants
//  1. A run is replayed from its choices alone: where, and how, it left the order of insertion.
//  2. Runs with fewer reversed races come first. If the runs end before the budget, every order of every node's events was seen (complete);
//     otherwise all that differ from the first run in at most so many reversals (Result::reversals), as far as those runs show races.
//  3. Timers fire when nothing else is left: orders in which a deadline passes early are not explored.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "runtime/simulator.hpp"

namespace netvm::model {

/// Executes the program from its beginning with this chooser. Empty if it ended as it should, else what was wrong.
using Execution = std::function<std::string(const SimChooser&)>;

struct Result {
  std::uint64_t runs = 0;
  std::uint64_t redundant = 0;  ///< of these, how many turned out to be equivalent to another
  std::uint64_t steps = 0;      ///< events of all runs
  std::uint64_t longest = 0;    ///< events of the longest run
  std::uint32_t reversals = 0;  ///< all runs with at most so many reversed races were made
  bool complete = false;        ///< nothing was left
  std::string failure;          ///< of the first run that failed; the search ends there
  std::string choices;          ///< that run's, for replay()
};

/// Runs until nothing is left, `most_runs` are made, or one fails.
[[nodiscard]] Result explore(const Execution& execute, std::uint64_t most_runs);

/// One run with the choices of another. False if `choices` cannot be read.
[[nodiscard]] bool replay(const Execution& execute, const std::string& choices, std::string* failure);

/// The choices of the run that is going on now: for what is printed when the process stops.
[[nodiscard]] std::string current_choices();

}  // namespace netvm::model
