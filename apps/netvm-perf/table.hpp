// Tables: what a measurement hands over, and its forms for people (text), machines (JSON, CSV) and eyes (plot.hpp).
#pragma once

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

namespace netvm::perf {

/// Nothing, a figure, or words.
using Cell = std::variant<std::monostate, double, std::string>;

struct Column {
  std::string key;    ///< in JSON and CSV: "median_us"
  std::string title;  ///< on paper: "us"
  int digits = 2;     ///< behind the point
  bool left = false;  ///< words stand at the left
  bool paper = true;  ///< false: for machines only
};

/// What of a table is worth a picture.
struct PlotPlan {
  std::string x;               ///< key
  std::vector<std::string> y;  ///< keys
  std::string x_label;
  std::string y_label;
  bool log_y = false;
  std::vector<std::string> by = {};  ///< keys of columns of words: rows that differ in them are lines of their own
};

struct Table {
  std::string title;
  std::vector<Column> columns;
  std::vector<std::vector<Cell>> rows;
  std::vector<std::string> notes;  ///< sentences below it
  PlotPlan plot;                   ///< x empty: nothing to draw

  /// The column's place; columns.size() if there is none.
  [[nodiscard]] std::size_t column(const std::string& key) const;
  /// Appends the rows and notes of a table with the same columns.
  void append(const Table& other);
};

[[nodiscard]] std::string to_text(const Table& table);
[[nodiscard]] std::string to_csv(const Table& table);
/// {"title", "machine": {...}, "rows": [{key: value}], "notes": [...], ...}; read_json() reads it back.
[[nodiscard]] std::string to_json(const Table& table);
/// Throws std::exception on what to_json() did not write.
[[nodiscard]] Table read_json(const std::string& text);

/// 65536 -> "64K"
[[nodiscard]] std::string size_text(std::uint64_t bytes);

}  // namespace netvm::perf
