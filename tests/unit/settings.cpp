// Settings: values, errors that help, and that docs/settings.md is what the list says.
#include "runtime/settings.hpp"

#include <doctest/doctest.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <set>
#include <string>
#include <vector>

using netvm::SettingError;
using netvm::Settings;

namespace {

/// The environment's NETVM_ variables are exactly these, until the end of the scope.
class Environment {
 public:
  explicit Environment(const std::vector<std::pair<std::string, std::string>>& variables) {
    for (char** entry = environ; *entry != nullptr; ++entry) {
      const std::string text = *entry;
      if (text.rfind("NETVM_", 0) == 0) saved_.emplace_back(text.substr(0, text.find('=')), text.substr(text.find('=') + 1));
    }
    for (const auto& [name, value] : saved_) ::unsetenv(name.c_str());
    for (const auto& [name, value] : variables) {
      ::setenv(name.c_str(), value.c_str(), 1);
      set_.push_back(name);
    }
  }
  ~Environment() {
    for (const std::string& name : set_) ::unsetenv(name.c_str());
    for (const auto& [name, value] : saved_) ::setenv(name.c_str(), value.c_str(), 1);
  }
  Environment(const Environment&) = delete;
  Environment& operator=(const Environment&) = delete;

 private:
  std::vector<std::pair<std::string, std::string>> saved_;
  std::vector<std::string> set_;
};

std::string error_of(const std::string& variable, const std::string& value) {
  const Environment environment({{variable, value}});
  try {
    static_cast<void>(Settings::from_environment());
  } catch (const SettingError& error) {
    return error.what();
  }
  return "";
}

bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

}  // namespace

TEST_CASE("without variables every setting has its documented default") {
  const Environment environment({});
  const Settings read = Settings::from_environment();
  CHECK(read.protocol == "hlrc");
  CHECK(read.granularity == 4096);
  CHECK(read.read_ahead);
  CHECK(read.home_moves);
  CHECK(read.trap == netvm::TrapChoice::automatic);
  CHECK(read.shm_mode == netvm::ShmMode::direct);
  CHECK(read.address_space == std::uint64_t{64} << 30);
  CHECK(read.threads == 1);
  CHECK(read.spin_us == UINT32_MAX);
  CHECK(read.bind);
  CHECK(read.start_timeout_s == 30);
  CHECK_FALSE(read.stats);
  CHECK(read.verbose == 0);
  CHECK(read.seed == 0);
}

TEST_CASE("setting every variable to its documented default changes nothing") {
  std::vector<std::pair<std::string, std::string>> variables;
  for (const netvm::SettingInfo& info : netvm::setting_list()) variables.emplace_back(info.variable, info.fallback);
  const Environment environment(variables);
  const Settings read = Settings::from_environment();
  const Settings defaults;
  CHECK(read.protocol == defaults.protocol);
  CHECK(read.granularity == defaults.granularity);
  CHECK(read.read_ahead == defaults.read_ahead);
  CHECK(read.home_moves == defaults.home_moves);
  CHECK(read.trap == defaults.trap);
  CHECK(read.shm_mode == defaults.shm_mode);
  CHECK(read.address_space == defaults.address_space);
  CHECK(read.threads == defaults.threads);
  CHECK(read.spin_us == defaults.spin_us);
  CHECK(read.bind == defaults.bind);
  CHECK(read.start_timeout_s == defaults.start_timeout_s);
  CHECK(read.check_frames == defaults.check_frames);
  CHECK(read.stats == defaults.stats);
  CHECK(read.verbose == defaults.verbose);
  CHECK(read.seed == defaults.seed);
}

TEST_CASE("every variable is read into its own setting") {
  const Environment environment({{"NETVM_PROTOCOL", "sc-directory"},
                                 {"NETVM_GRANULARITY", "16K"},
                                 {"NETVM_READ_AHEAD", "off"},
                                 {"NETVM_HOME_MOVES", "off"},
                                 {"NETVM_TRAP", "mprotect"},
                                 {"NETVM_SHM", "packet"},
                                 {"NETVM_ADDRESS_SPACE", "2G"},
                                 {"NETVM_THREADS", "3"},
                                 {"NETVM_SPIN", "25"},
                                 {"NETVM_BIND", "off"},
                                 {"NETVM_START_TIMEOUT", "5"},
                                 {"NETVM_CHECK_FRAMES", "on"},
                                 {"NETVM_STATS", "on"},
                                 {"NETVM_VERBOSE", "2"},
                                 {"NETVM_SEED", "18446744073709551615"},
                                 {"NETVM_RENDEZVOUS", "set by the launcher"}});
  const Settings read = Settings::from_environment();
  CHECK(read.protocol == "sc-directory");
  CHECK(read.granularity == 16384);
  CHECK_FALSE(read.read_ahead);
  CHECK_FALSE(read.home_moves);
  CHECK(read.trap == netvm::TrapChoice::mprotect);
  CHECK(read.shm_mode == netvm::ShmMode::packet);
  CHECK(read.address_space == std::uint64_t{2} << 30);
  CHECK(read.threads == 3);
  CHECK(read.spin_us == 25);
  CHECK_FALSE(read.bind);
  CHECK(read.start_timeout_s == 5);
  CHECK(read.check_frames);
  CHECK(read.stats);
  CHECK(read.verbose == 2);
  CHECK(read.seed == UINT64_MAX);
}

TEST_CASE("an unknown variable is an error that names the nearest right one") {
  const std::string error = error_of("NETVM_PROTOKOL", "hlrc");
  CHECK(contains(error, "NETVM_PROTOKOL is not a setting"));
  CHECK(contains(error, "did you mean NETVM_PROTOCOL?"));
  CHECK(contains(error, "netvmrun --help"));
  CHECK_FALSE(contains(error_of("NETVM_XYZZYPLUGH", "1"), "did you mean"));
  CHECK(error_of("OTHER_NETVM_PROTOKOL", "1").empty());
  CHECK(error_of("NETVM_CC", "gcc").empty());  // another tool's
}

TEST_CASE("a malformed value is an error that names variable, value and what is right") {
  const std::vector<std::array<std::string, 3>> cases{
      {"NETVM_TRAP", "mprotekt", "did you mean mprotect?"},
      {"NETVM_SHM", "fast", "direct, packet"},
      {"NETVM_ADDRESS_SPACE", "64Q", "suffix K, M, G or T"},
      {"NETVM_ADDRESS_SPACE", "", "suffix K, M, G or T"},
      {"NETVM_ADDRESS_SPACE", "-1", "suffix K, M, G or T"},
      {"NETVM_ADDRESS_SPACE", "1000", "from 1M to 1T"},
      {"NETVM_ADDRESS_SPACE", "2T", "from 1M to 1T"},
      {"NETVM_ADDRESS_SPACE", "99999999T", "below 2^64"},
      {"NETVM_THREADS", "0", "from 1 to 1024"},
      {"NETVM_THREADS", "two", "from 1 to 1024"},
      {"NETVM_THREADS", "4 ", "from 1 to 1024"},
      {"NETVM_SPIN", "soon", "auto, or microseconds"},
      {"NETVM_BIND", "maybe", "on or off"},
      {"NETVM_START_TIMEOUT", "0", "from 1 to 86400"},
      {"NETVM_STATS", "2", "on or off"},
      {"NETVM_VERBOSE", "3", "from 0 to 2"},
      {"NETVM_SEED", "99999999999999999999999", "whole number"},
      {"NETVM_PROTOCOL", "", "name of a protocol"},
      {"NETVM_GRANULARITY", "2K", "a power of two from 4K to 64K"},
      {"NETVM_GRANULARITY", "12K", "a power of two from 4K to 64K"},
      {"NETVM_GRANULARITY", "128K", "a power of two from 4K to 64K"},
      {"NETVM_READ_AHEAD", "maybe", "on or off"},
  };
  for (const auto& entry : cases) {
    const std::string& variable = entry[0];
    const std::string& value = entry[1];
    const std::string& accepted = entry[2];
    const std::string error = error_of(variable, value);
    INFO(variable, "=", value, ": ", error);
    CHECK(contains(error, variable));
    CHECK(contains(error, "\"" + value + "\""));
    CHECK(contains(error, accepted));
    CHECK_THROWS_AS(netvm::check_setting(variable, value), SettingError);
  }
}

TEST_CASE("sizes are read with binary suffixes and written for people") {
  CHECK(netvm::parse_bytes("0", "it") == 0);
  CHECK(netvm::parse_bytes("4096", "it") == 4096);
  CHECK(netvm::parse_bytes("3k", "it") == 3072);
  CHECK(netvm::parse_bytes("16M", "it") == std::uint64_t{16} << 20);
  CHECK(netvm::parse_bytes("16MiB", "it") == std::uint64_t{16} << 20);
  CHECK(netvm::parse_bytes("1T", "it") == std::uint64_t{1} << 40);
  CHECK_THROWS_AS(static_cast<void>(netvm::parse_bytes("1.5G", "it")), SettingError);
  CHECK_THROWS_AS(static_cast<void>(netvm::parse_bytes("G", "it")), SettingError);

  CHECK(netvm::format_bytes(0) == "0 bytes");
  CHECK(netvm::format_bytes(1) == "1 byte");
  CHECK(netvm::format_bytes(1023) == "1023 bytes");
  CHECK(netvm::format_bytes(1536) == "1.5 KiB");
  CHECK(netvm::format_bytes(std::uint64_t{64} << 30) == "64 GiB");
  CHECK(netvm::format_bytes(std::uint64_t{2048} << 40) == "2048 TiB");
}

TEST_CASE("the nearest name forgives typing errors and case, not everything") {
  constexpr std::array<std::string_view, 3> kNames{"hlrc", "sc-directory", "eager"};
  CHECK(netvm::nearest("hlcr", kNames) == "hlrc");
  CHECK(netvm::nearest("HLRC", kNames) == "hlrc");
  CHECK(netvm::nearest("sc-dir", kNames).empty());
  CHECK(netvm::nearest("sc_directory", kNames) == "sc-directory");
  CHECK(netvm::nearest("x", kNames).empty());
  CHECK(netvm::nearest("", kNames).empty());
}

TEST_CASE("the list names every variable and flag once, and the help shows them all within 80 columns") {
  std::set<std::string_view> seen;
  const std::string help = netvm::settings_help();
  for (const netvm::SettingInfo& info : netvm::setting_list()) {
    CHECK(seen.insert(info.variable).second);
    CHECK(seen.insert(info.flag).second);
    CHECK(contains(help, std::string(info.variable)));
    CHECK(contains(help, std::string(info.flag) + " "));
  }
  std::size_t start = 0;
  while (start < help.size()) {
    const std::size_t end = help.find('\n', start);
    REQUIRE(end != std::string::npos);
    CHECK(end - start <= 80);
    start = end + 1;
  }
}

TEST_CASE("docs/settings.md is what the list of settings says") {
  const std::string path = std::string(NETVM_SOURCE_DIR) + "/docs/settings.md";
  if (std::getenv("UPDATE_DOCS") != nullptr) std::ofstream(path) << netvm::settings_markdown();
  std::ifstream file(path);
  const std::string committed{std::istreambuf_iterator<char>(file), {}};
  CHECK_MESSAGE(committed == netvm::settings_markdown(),
                "docs/settings.md is out of date; make it again with: UPDATE_DOCS=1 netvm_unit --test-case='docs/settings.md*'");
}
