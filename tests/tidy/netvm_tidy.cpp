// netvm_tidy: the house rules that a compiler does not know, as a test.
//
//   netvm_tidy ROOT          checks the tree and prints file:line: rule
//   netvm_tidy --self-test   shows that every rule catches its violation
//
// Rules: layers (runtime <- nic <- sync <- dsm <- dsm/api <- apps <- tests), #pragma once and a header comment, file length, words that promise
// work not done, worlds (no clock, thread, sleep or exception of its own in nic/, sync/, dsm/), a stated reason for every memory order
// weaker than seq_cst, no unordered container without "lookup only", white space, relative links in documents, top-level entries.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <fstream>
#include <regex>
#include <set>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

namespace {

namespace fs = std::filesystem;

struct Finding {
  std::string file;
  std::size_t line;
  std::string what;
};

/// One file, as lines, with its path from the root.
struct Source {
  std::string path;
  std::vector<std::string> lines;

  [[nodiscard]] bool is_header() const { return path.ends_with(".hpp"); }
  [[nodiscard]] bool is_code() const { return is_header() || path.ends_with(".cpp"); }
  [[nodiscard]] bool is_document() const { return path.ends_with(".md"); }
};

constexpr std::size_t kMaxLines = 600;

/// Height in the order of layers; 0 for what is no layer.
int layer_of(std::string_view path) {
  if (path.starts_with("dsm/api/") || path.starts_with("netvm/")) return 5;
  constexpr std::array<std::string_view, 4> kLower = {"runtime/", "nic/", "sync/", "dsm/"};
  for (std::size_t i = 0; i < kLower.size(); ++i) {
    if (path.starts_with(kLower[i])) return static_cast<int>(i) + 1;
  }
  return path.starts_with("apps/") ? 6 : path.starts_with("tests/") ? 7 : 0;
}

/// Code without its comment.
std::string code_part(const std::string& line) { return line.substr(0, line.find("//")); }

void check_layers(const Source& file, std::vector<Finding>& out) {
  static const std::regex include(R"re(^\s*#include\s+["<]([^">]+)[">])re");
  const int mine = layer_of(file.path);
  if (mine == 0 || !file.is_code()) return;
  for (std::size_t i = 0; i < file.lines.size(); ++i) {
    std::smatch match;
    if (!std::regex_search(file.lines[i], match, include)) continue;
    if (layer_of(match[1].str()) > mine) out.push_back({file.path, i + 1, "includes a higher layer: " + match[1].str()});
  }
}

void check_shape(const Source& file, std::vector<Finding>& out) {
  if (!file.is_code()) return;
  if (file.lines.size() > kMaxLines) out.push_back({file.path, file.lines.size(), fmt::format("more than {} lines: split it", kMaxLines)});
  if (file.is_header()) {
    if (file.lines.empty() || !file.lines.front().starts_with("//"))
      out.push_back({file.path, 1, "a header begins with a comment that says what it is for"});
    if (std::find(file.lines.begin(), file.lines.end(), "#pragma once") == file.lines.end())
      out.push_back({file.path, 1, "no #pragma once"});
  }
}

void check_words(const Source& file, std::vector<Finding>& out) {
  // Assembled from halves so that this file passes its own test.
  static const std::regex words(std::string("\\b(TO") + "DO|FIX" + "ME|XX" + "X|HA" + "CK|not impl" + "emented|unimpl" + "emented)\\b");
  for (std::size_t i = 0; i < file.lines.size(); ++i) {
    if (std::regex_search(file.lines[i], words)) out.push_back({file.path, i + 1, "a word that promises work not done"});
  }
}

void check_worlds(const Source& file, std::vector<Finding>& out) {
  const int layer = layer_of(file.path);
  if (layer < 2 || layer > 4 || !file.is_code()) return;
  static const std::regex world(
      R"re(std::chrono|std::thread|std::this_thread|std::jthread|\busleep\(|\bnanosleep\(|\bsleep\(|\brand\(|std::random_device|std::mt19937)re");
  static const std::regex exception(R"re(\bthrow\b|\btry\s*\{|\bcatch\s*\()re");
  for (std::size_t i = 0; i < file.lines.size(); ++i) {
    const std::string code = code_part(file.lines[i]);
    if (std::regex_search(code, world))
      out.push_back({file.path, i + 1, "nic/, sync/ and dsm/ see time, tasks and randomness through Env only"});
    if (std::regex_search(code, exception)) out.push_back({file.path, i + 1, "no exceptions in nic/, sync/ and dsm/: return a Status"});
    if (code.find("std::unordered_") != std::string::npos && file.lines[i].find("lookup only") == std::string::npos) {
      out.push_back(
          {file.path, i + 1, "an unordered container needs the remark \"lookup only\": iteration order must not influence the simulator"});
    }
  }
}

void check_memory_orders(const Source& file, std::vector<Finding>& out) {
  if (!file.is_code() || layer_of(file.path) > 6) return;
  static const std::regex weak(R"re(memory_order(_|::)(relaxed|acquire|release|acq_rel|consume))re");
  for (std::size_t i = 0; i < file.lines.size(); ++i) {
    if (!std::regex_search(code_part(file.lines[i]), weak)) continue;
    const bool here = file.lines[i].find("//") != std::string::npos;
    const bool above = i > 0 && file.lines[i - 1].find("//") != std::string::npos;
    if (!here && !above)
      out.push_back({file.path, i + 1, "a memory order weaker than seq_cst says why and names its partner on its line or the one above"});
  }
}

void check_white_space(const Source& file, std::vector<Finding>& out) {
  for (std::size_t i = 0; i < file.lines.size(); ++i) {
    if (!file.lines[i].empty() && (file.lines[i].back() == ' ' || file.lines[i].back() == '\t'))
      out.push_back({file.path, i + 1, "white space at the end of the line"});
    if (file.is_code() && file.lines[i].find('\t') != std::string::npos) out.push_back({file.path, i + 1, "a tab"});
  }
}

void check_links(const Source& file, const fs::path& root, std::vector<Finding>& out) {
  if (!file.is_document()) return;
  static const std::regex link(R"re(\]\(([^)#: ]+)(#[^)]*)?\))re");
  for (std::size_t i = 0; i < file.lines.size(); ++i) {
    for (std::sregex_iterator it(file.lines[i].begin(), file.lines[i].end(), link), end; it != end; ++it) {
      const fs::path target = root / fs::path(file.path).parent_path() / (*it)[1].str();
      if (!fs::exists(target)) out.push_back({file.path, i + 1, "a link to nothing: " + (*it)[1].str()});
    }
  }
}

void check_file(const Source& file, const fs::path& root, std::vector<Finding>& out) {
  check_layers(file, out);
  check_shape(file, out);
  check_words(file, out);
  check_worlds(file, out);
  check_memory_orders(file, out);
  check_white_space(file, out);
  check_links(file, root, out);
}

void check_top_level(const fs::path& root, std::vector<Finding>& out) {
  static const std::set<std::string> allowed = {
      "runtime", "nic", "dsm", "sync", "apps", "tests", "docs", "build", "CMakeLists.txt", "CMakePresets.json", "README.md", "LICENSE"};
  for (const auto& entry : fs::directory_iterator(root)) {
    const std::string name = entry.path().filename().string();
    if (!name.starts_with(".") && !allowed.contains(name)) out.push_back({name, 1, "not part of the agreed top level"});
  }
}

Source read_source(const fs::path& root, const fs::path& path) {
  Source file{fs::relative(path, root).generic_string(), {}};
  std::ifstream in(path);
  for (std::string line; std::getline(in, line);) file.lines.push_back(line);
  return file;
}

int check_tree(const fs::path& root) {
  std::vector<Finding> findings;
  check_top_level(root, findings);
  std::size_t files = 0;
  for (auto it = fs::recursive_directory_iterator(root); it != fs::recursive_directory_iterator(); ++it) {
    const std::string name = it->path().filename().string();
    if (it->is_directory() && (name == "build" || (name.starts_with(".") && name != ".ci"))) it.disable_recursion_pending();
    static const std::set<std::string> kinds = {".hpp", ".cpp", ".md", ".sh", ".txt", ".json"};
    if (!it->is_regular_file() || !kinds.contains(it->path().extension().string())) continue;
    check_file(read_source(root, it->path()), root, findings);
    ++files;
  }
  for (const Finding& f : findings) fmt::print("{}:{}: {}\n", f.file, f.line, f.what);
  fmt::print("tidy: {} files, {} findings\n", files, findings.size());
  return findings.empty() && files > 0 ? 0 : 1;
}

/// Each rule against a text that breaks it, and against its innocent neighbour.
int self_test() {
  struct Case {
    const char* name;
    Source file;
    bool bad;
  };
  const std::string weak = std::string("x.load(std::memory_order") + "_relaxed);";
  const std::vector<Case> cases = {
      {"a climbing include", {"nic/a.cpp", {"#include \"dsm/dsm.hpp\""}}, true},
      {"the public header from below", {"dsm/a.cpp", {"#include <netvm/netvm.hpp>"}}, true},
      {"an include downwards", {"dsm/a.cpp", {"#include \"nic/nic.hpp\""}}, false},
      {"a header without its guard", {"nic/a.hpp", {"// A."}}, true},
      {"a header without its comment", {"nic/a.hpp", {"#pragma once"}}, true},
      {"a proper header", {"nic/a.hpp", {"// A.", "#pragma once"}}, false},
      {"a long file", {"nic/a.cpp", std::vector<std::string>(kMaxLines + 1, "int x;")}, true},
      {"a promise", {"nic/a.cpp", {std::string("// TO") + "DO later"}}, true},
      {"a clock of its own", {"dsm/a.cpp", {"auto t = std::chrono::steady_clock::now();"}}, true},
      {"a clock in the real world", {"runtime/a.cpp", {"auto t = std::chrono::steady_clock::now();"}}, false},
      {"an exception", {"sync/a.cpp", {"throw 1;"}}, true},
      {"an exception in the public interface", {"dsm/api/a.cpp", {"throw 1;"}}, false},
      {"hash order", {"dsm/a.cpp", {"std::unordered_map<int, int> m;"}}, true},
      {"an admitted look-up", {"dsm/a.cpp", {"std::unordered_map<int, int> m;  // lookup only"}}, false},
      {"an unexplained weak order", {"nic/a.cpp", {weak}}, true},
      {"an explained weak order", {"nic/a.cpp", {weak + "  // relaxed: a count"}}, false},
      {"trailing white space", {"nic/a.cpp", {"int x; "}}, true},
      {"a tab", {"nic/a.cpp", {"\tint x;"}}, true},
      {"a dead link", {"docs/a.md", {"[x](no/such/file.md)"}}, true},
  };
  int failures = 0;
  for (const Case& c : cases) {
    std::vector<Finding> findings;
    check_file(c.file, ".", findings);
    if (findings.empty() == c.bad) {
      fmt::print("self-test: {}: {}\n", c.name, c.bad ? "not caught" : "wrongly reported: " + findings.front().what);
      ++failures;
    }
  }
  fmt::print("tidy: {} of {} canaries behaved\n", cases.size() - static_cast<std::size_t>(failures), cases.size());
  return failures == 0 ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc == 2 && std::string_view(argv[1]) == "--self-test") return self_test();
  if (argc == 2 && fs::is_directory(argv[1])) return check_tree(argv[1]);
  fmt::print(stderr, "usage: netvm_tidy ROOT | --self-test\n");
  return 2;
}
