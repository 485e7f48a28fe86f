#include "apps/common/manual.hpp"

namespace netvm::tools {

std::string paragraph(std::string_view text, std::size_t indent) {
  std::string out;
  std::string line(indent, ' ');
  bool empty = true;
  while (!text.empty()) {
    const auto end = text.find(' ');
    const auto word = text.substr(0, end);
    if (!empty && line.size() + 1 + word.size() > kPageWidth) {
      out += line + "\n";
      line.assign(indent, ' ');
      empty = true;
    }
    if (!empty) line += ' ';
    line += word;
    empty = false;
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
  }
  return out + line + "\n";
}

std::string entry(std::string_view title, std::string_view text) {
  return std::string(kIndent, ' ') + std::string(title) + "\n" + paragraph(text, kDeepIndent) + "\n";
}

}  // namespace netvm::tools
