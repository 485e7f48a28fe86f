#include "apps/splash2/cholesky/symbolic.hpp"

#include <algorithm>
#include <utility>

namespace splash2::cholesky {

namespace {

/// Rows of each column of the factor, the diagonal first. A column's rows below the second are those of its parent in the elimination tree, too.
class Columns {
 public:
  explicit Columns(const Matrix& matrix) : rows_(matrix.order()), children_(matrix.order()), seen_(matrix.order(), -1) {
    for (std::size_t j = 0; j < matrix.order(); ++j) add_column(matrix, j);
  }
  [[nodiscard]] std::vector<std::vector<std::int32_t>>& rows() { return rows_; }

 private:
  void add_column(const Matrix& matrix, std::size_t j) {
    const auto number = static_cast<std::int32_t>(j);
    std::vector<std::int32_t>& rows = rows_[j];
    const auto add = [&](std::int32_t row) {
      if (row >= number && std::exchange(seen_[static_cast<std::size_t>(row)], number) != number) rows.push_back(row);
    };
    add(number);
    for (const Matrix::Entry& entry : matrix.below[j]) add(entry.row);
    for (const std::int32_t child : children_[j]) {
      for (const std::int32_t row : rows_[static_cast<std::size_t>(child)]) add(row);
    }
    std::sort(rows.begin(), rows.end());
    if (rows.size() > 1) children_[static_cast<std::size_t>(rows[1])].push_back(number);
  }

  std::vector<std::vector<std::int32_t>> rows_;
  std::vector<std::vector<std::int32_t>> children_;
  std::vector<std::int32_t> seen_;
};

void make_panels(const Problem& problem, std::vector<std::vector<std::int32_t>>& rows, Structure& structure) {
  structure.panel_of.resize(rows.size());
  for (std::size_t j = 0; j < rows.size(); ++j) {
    const auto number = static_cast<std::int32_t>(j);
    structure.nonzeros += static_cast<std::int64_t>(rows[j].size());
    structure.operations += static_cast<double>(rows[j].size()) * static_cast<double>(rows[j].size());
    const bool goes_on = j > 0 && rows[j - 1].size() == rows[j].size() + 1 && rows[j - 1][1] == number &&
                         static_cast<std::size_t>(structure.panels.back().columns) < problem.panel;
    if (!goes_on) structure.panels.emplace_back().first = number;
    ++structure.panels.back().columns;
    structure.panel_of[j] = static_cast<std::int32_t>(structure.panels.size() - 1);
  }
  for (Panel& panel : structure.panels) panel.rows = std::move(rows[static_cast<std::size_t>(panel.first)]);
}

double work_of(const Panel& panel) {
  return static_cast<double>(panel.columns) * static_cast<double>(panel.rows.size()) * static_cast<double>(panel.rows.size());
}

/// The panel that holds the first row below; -1 for a root.
std::int32_t parent_of(const Structure& structure, const Panel& panel) {
  const auto columns = static_cast<std::size_t>(panel.columns);
  return columns < panel.rows.size() ? structure.panel_of[static_cast<std::size_t>(panel.rows[columns])] : -1;
}

void choose_owners(Structure& structure, int processors) {
  std::vector<double> subtree;
  double all = 0;
  for (const Panel& panel : structure.panels) {
    subtree.push_back(work_of(panel));
    all += subtree.back();
  }
  for (std::size_t i = 0; i < structure.panels.size(); ++i) {  // children come before their parents
    if (const std::int32_t parent = parent_of(structure, structure.panels[i]); parent >= 0)
      subtree[static_cast<std::size_t>(parent)] += subtree[i];
  }
  const double small = all / (4 * processors);
  std::vector<double> load(static_cast<std::size_t>(processors), 0);
  const auto idlest = [&] { return static_cast<int>(std::min_element(load.begin(), load.end()) - load.begin()); };
  for (std::size_t i = structure.panels.size(); i-- > 0;) {
    Panel& panel = structure.panels[i];
    const std::int32_t parent = parent_of(structure, panel);
    if (parent >= 0 && subtree[static_cast<std::size_t>(parent)] <= small) {
      panel.owner = structure.panels[static_cast<std::size_t>(parent)].owner;  // its subtree's work was counted at the top
    } else {
      panel.owner = idlest();
      load[static_cast<std::size_t>(panel.owner)] += subtree[i] <= small ? subtree[i] : work_of(panel);
    }
  }
}

}  // namespace

Structure find_structure(const Problem& problem, const Matrix& matrix, int processors) {
  Structure structure;
  Columns columns(matrix);
  make_panels(problem, columns.rows(), structure);
  choose_owners(structure, processors);
  structure.doubles.resize(static_cast<std::size_t>(processors));
  structure.own.resize(static_cast<std::size_t>(processors));
  for (std::size_t i = 0; i < structure.panels.size(); ++i) {
    Panel& panel = structure.panels[i];
    const auto owner = static_cast<std::size_t>(panel.owner);
    panel.place = structure.doubles[owner];
    structure.doubles[owner] += panel.doubles();
    structure.own[owner].push_back(static_cast<std::int32_t>(i));
  }
  for (const Panel& panel : structure.panels) {
    structure.for_each_target(panel, [&](std::int32_t target, std::size_t /*begin*/, std::size_t /*end*/) {
      ++structure.panels[static_cast<std::size_t>(target)].updates;
    });
  }
  return structure;
}

}  // namespace splash2::cholesky
