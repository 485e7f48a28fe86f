// The shape of a manual page, as --help prints it.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace netvm::tools {

inline constexpr std::size_t kPageWidth = 96;
inline constexpr std::size_t kIndent = 7;
inline constexpr std::size_t kDeepIndent = 14;

/// Breaks a text at blanks into lines of kPageWidth, each indented and ended.
[[nodiscard]] std::string paragraph(std::string_view text, std::size_t indent = kIndent);
/// A title and, deeper, what it means; then an empty line.
[[nodiscard]] std::string entry(std::string_view title, std::string_view text);

}  // namespace netvm::tools
