// What is known of the factor before any number is computed: where it is not zero, its panels, and who has which.
//
// 1. A panel is some neighbouring columns with the same structure below them (a supernode, or a piece of a wide one). It is stored as a dense block:
//    row by row, one row for each of `rows`, of which the first are the panel's own columns.
// 2. A panel updates those panels that hold the rows below its own: its targets.
// 3. Panels of a small subtree of the elimination tree belong to one processor; those above are dealt to whoever has least to do.
#pragma once

#include <cstdint>
#include <vector>

#include "apps/splash2/cholesky/grid.hpp"

namespace splash2::cholesky {

struct Panel {
  std::int32_t first = 0;  ///< column
  std::int32_t columns = 0;
  std::vector<std::int32_t> rows;  ///< ascending; the first `columns` are its own
  std::int32_t updates = 0;        ///< panels that update this one
  int owner = 0;
  std::size_t place = 0;  ///< of its values in the owner's memory, in doubles
  [[nodiscard]] std::size_t doubles() const { return rows.size() * static_cast<std::size_t>(columns); }
};

struct Structure {
  std::vector<Panel> panels;
  std::vector<std::int32_t> panel_of;          ///< each column
  std::vector<std::size_t> doubles;            ///< of each processor's memory
  std::vector<std::vector<std::int32_t>> own;  ///< panels of each processor
  std::int64_t nonzeros = 0;
  double operations = 0;

  /// Calls f(target, begin, end): rows [begin, end) of the panel are columns of that target.
  template <class F>
  void for_each_target(const Panel& panel, F f) const {
    const auto row = [&](std::size_t i) { return static_cast<std::size_t>(panel.rows[i]); };
    for (auto begin = static_cast<std::size_t>(panel.columns); begin < panel.rows.size();) {
      const std::int32_t target = panel_of[row(begin)];
      std::size_t end = begin + 1;
      while (end < panel.rows.size() && panel_of[row(end)] == target) ++end;
      f(target, begin, end);
      begin = end;
    }
  }
};

Structure find_structure(const Problem& problem, const Matrix& matrix, int processors);

}  // namespace splash2::cholesky
