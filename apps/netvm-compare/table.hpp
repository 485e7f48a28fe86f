// What a person sees: the table, what went wrong, and how far it is.
#pragma once

#include <string>
#include <vector>

#include "apps/netvm-compare/results.hpp"

namespace netvm::compare {

[[nodiscard]] std::string to_table(const Options& options, const std::vector<Row>& rows);

/// What the table says: the fastest for each program and number of nodes, and what to keep in mind on a machine of so many processors (0: unknown).
[[nodiscard]] std::string to_notes(const Options& options, const std::vector<Row>& rows, unsigned processors);
/// For each row a bar of the threads' time: computing, waiting for pages, for locks, at barriers.
[[nodiscard]] std::string to_bars(const Options& options, const std::vector<Row>& rows);
/// The same for gnuplot, into `file`.
[[nodiscard]] std::string bars_script(const Options& options, const std::vector<Row>& rows, const std::string& file);

/// One line on standard error, rewritten in place on a terminal; nothing elsewhere or when quiet.
class Progress {
 public:
  Progress(std::size_t total, bool quiet);
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;
  void next(const std::string& what);
  void clear();

 private:
  std::size_t total_;
  std::size_t done_ = 0;
  bool shown_;
};

}  // namespace netvm::compare
