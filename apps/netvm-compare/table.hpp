// What a person sees: the table, what went wrong, and how far it is.
#pragma once

#include <string>
#include <vector>

#include "apps/netvm-compare/results.hpp"

namespace netvm::compare {

struct TextColumn {
  std::string title;
  bool left = false;
  std::vector<std::string> cells;
};
/// Columns side by side; an empty line before the rows named in `gaps`.
[[nodiscard]] std::string to_text(const std::vector<TextColumn>& columns, const std::vector<std::size_t>& gaps);

[[nodiscard]] std::string to_table(const Options& options, const std::vector<Row>& rows);

/// What the table says: the fastest for each program and number of nodes, and what to keep in mind on a machine of so many processors (0: unknown).
[[nodiscard]] std::string to_notes(const Options& options, const std::vector<Row>& rows, unsigned processors);

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
