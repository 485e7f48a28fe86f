#include "runtime/settings.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cctype>
#include <charconv>
#include <iterator>
#include <optional>
#include <vector>

#include "runtime/memory_budget.hpp"

namespace netvm {
namespace {

constexpr std::string_view kPrefix = "NETVM_";
constexpr std::uint64_t kMiB = std::uint64_t{1} << 20;
constexpr std::uint64_t kTiB = std::uint64_t{1} << 40;

// ---- values -----------------------------------------------------------------------------------------------------------

[[noreturn]] void reject(std::string_view variable, std::string_view value, std::string_view accepted) {
  throw SettingError(fmt::format("{}: \"{}\" is not a value for it; it takes {}", variable, value, accepted));
}

std::string join(std::span<const std::string_view> words) { return fmt::format("{}", fmt::join(words.begin(), words.end(), ", ")); }

std::optional<std::uint64_t> parse_number(std::string_view text) {
  std::uint64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (text.empty() || error != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return number;
}

std::uint64_t number_between(std::string_view variable, std::string_view value, std::uint64_t low, std::uint64_t high) {
  const std::optional<std::uint64_t> number = parse_number(value);
  if (!number || *number < low || *number > high) reject(variable, value, fmt::format("a whole number from {} to {}", low, high));
  return *number;
}

bool on_or_off(std::string_view variable, std::string_view value) {
  for (const std::string_view yes : {"on", "1", "true", "yes"}) {
    if (value == yes) return true;
  }
  for (const std::string_view no : {"off", "0", "false", "no"}) {
    if (value == no) return false;
  }
  reject(variable, value, "on or off");
}

/// Index of the value among the choices.
std::size_t one_of(std::string_view variable, std::string_view value, std::span<const std::string_view> choices) {
  const auto found = std::find(choices.begin(), choices.end(), value);
  if (found != choices.end()) return static_cast<std::size_t>(found - choices.begin());
  const std::string_view near = nearest(value, choices);
  reject(variable, value, join(choices) + (near.empty() ? std::string() : fmt::format(" (did you mean {}?)", near)));
}

// ---- one function a setting: what its text becomes --------------------------------------------------------------------

using Apply = void (*)(Settings& settings, std::string_view variable, std::string_view value);

void apply_protocol(Settings& s, std::string_view variable, std::string_view value) {
  if (value.empty()) reject(variable, value, "the name of a protocol, such as hlrc or sc-directory");
  s.protocol = value;
}

void apply_granularity(Settings& s, std::string_view variable, std::string_view value) {
  constexpr std::uint64_t kLeast = kPageSize;
  constexpr std::uint64_t kMost = 16 * kPageSize;
  const std::uint64_t bytes = parse_bytes(value, variable);
  if (bytes < kLeast || bytes > kMost || !std::has_single_bit(bytes)) reject(variable, value, "a power of two from 4K to 64K");
  s.granularity = static_cast<std::uint32_t>(bytes);
}

void apply_read_ahead(Settings& s, std::string_view variable, std::string_view value) { s.read_ahead = on_or_off(variable, value); }

void apply_home_moves(Settings& s, std::string_view variable, std::string_view value) { s.home_moves = on_or_off(variable, value); }

void apply_trap(Settings& s, std::string_view variable, std::string_view value) {
  static constexpr std::array<std::string_view, 4> kNames{"auto", "userfaultfd", "mprotect", "checked"};
  s.trap = static_cast<TrapChoice>(one_of(variable, value, kNames));
}
static_assert(static_cast<int>(TrapChoice::automatic) == 0 && static_cast<int>(TrapChoice::checked) == 3);

void apply_shm(Settings& s, std::string_view variable, std::string_view value) {
  static constexpr std::array<std::string_view, 2> kNames{"direct", "packet"};
  s.shm_mode = static_cast<ShmMode>(one_of(variable, value, kNames));
}
static_assert(static_cast<int>(ShmMode::direct) == 0 && static_cast<int>(ShmMode::packet) == 1);

void apply_address_space(Settings& s, std::string_view variable, std::string_view value) {
  const std::uint64_t bytes = parse_bytes(value, variable);
  if (bytes < kMiB || bytes > kTiB) reject(variable, value, "a size from 1M to 1T");
  s.address_space = bytes;
}

void apply_memory(Settings& s, std::string_view variable, std::string_view value) {
  const std::uint64_t bytes = value == "unlimited" ? 0 : parse_bytes(value, variable);
  const std::uint64_t least = least_budget_pages(1) * kPageSize;  // a node says so if its threads need more
  if (bytes != 0 && bytes < least) reject(variable, value, fmt::format("unlimited, or {}K and more", least / 1024));
  s.memory = bytes;
}

void apply_backing(Settings& s, std::string_view, std::string_view value) { s.backing = value; }

void apply_threads(Settings& s, std::string_view variable, std::string_view value) {
  s.threads = static_cast<std::uint32_t>(number_between(variable, value, 1, Settings::kMostThreads));
}

void apply_place(Settings& s, std::string_view variable, std::string_view value) {
  constexpr std::string_view kRight = "cyclic, block, block:N, or a list of nodes such as 0,1,1,3";
  const bool named = value == "cyclic" || value.substr(0, 5) == "block";
  if (value.empty() || (!named && value.find_first_not_of("0123456789,") != std::string_view::npos))
    reject(variable, value, std::string(kRight));
  s.place = value;
}

void apply_spin(Settings& s, std::string_view variable, std::string_view value) {
  constexpr std::uint64_t kMostMicroseconds = 1'000'000;
  const std::optional<std::uint64_t> number = parse_number(value);
  if (value == "auto") {
    s.spin_us = UINT32_MAX;
  } else if (number && *number <= kMostMicroseconds) {
    s.spin_us = static_cast<std::uint32_t>(*number);
  } else {
    reject(variable, value, fmt::format("auto, or microseconds from 0 to {}", kMostMicroseconds));
  }
}

void apply_bind(Settings& s, std::string_view variable, std::string_view value) { s.bind = on_or_off(variable, value); }

void apply_start_timeout(Settings& s, std::string_view variable, std::string_view value) {
  s.start_timeout_s = static_cast<std::uint32_t>(number_between(variable, value, 1, 86'400));
}

void apply_system_buffers(Settings& s, std::string_view variable, std::string_view value) {
  s.system_buffers = static_cast<std::uint32_t>(number_between(variable, value, 256, 1'048'576));
}

void apply_peer_timeout(Settings& s, std::string_view variable, std::string_view value) {
  s.peer_timeout_s = static_cast<std::uint32_t>(number_between(variable, value, 1, 86'400));
}

void apply_watchdog(Settings& s, std::string_view variable, std::string_view value) {
  double seconds = 0;
  const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), seconds);
  const bool whole = error == std::errc{} && end == value.data() + value.size();
  if (value.empty() || !whole || !(seconds == 0 || (seconds >= 0.01 && seconds <= 86'400))) {
    reject(variable, value, "0, or seconds from 0.01 to 86400");
  }
  s.watchdog_s = seconds;
}

void apply_check_frames(Settings& s, std::string_view variable, std::string_view value) { s.check_frames = on_or_off(variable, value); }

void apply_stats(Settings& s, std::string_view variable, std::string_view value) { s.stats = on_or_off(variable, value); }

void apply_verbose(Settings& s, std::string_view variable, std::string_view value) {
  s.verbose = static_cast<std::uint32_t>(number_between(variable, value, 0, 2));
}

void apply_seed(Settings& s, std::string_view variable, std::string_view value) { s.seed = number_between(variable, value, 0, UINT64_MAX); }

// ---- the list -----------------------------------------------------------------------------------------------------------

constexpr std::array kInfos{
    SettingInfo{"NETVM_PROTOCOL", "--protocol", "NAME", "hlrc",
                "Coherence protocol of every allocation that names none. docs/protocols/ describes them."},
    SettingInfo{
        "NETVM_GRANULARITY", "--granularity", "BYTES", "4K",
        "How much memory is kept coherent as one, of every allocation that names no granularity: 4K, 8K, 16K, 32K or 64K. More means "
        "fewer faults and messages, and more false sharing. The same on all nodes."},
    SettingInfo{"NETVM_READ_AHEAD", "--read-ahead", "on|off", "on",
                "Fetch pages that a thread will want next when it reads one after the other."},
    SettingInfo{
        "NETVM_HOME_MOVES", "--home-moves", "on|off", "on",
        "At barriers, let a page's home become the node that alone writes it, where the protocol knows how (hlrc). The same on all nodes."},
    SettingInfo{
        "NETVM_TRAP", "--trap", "NAME", "auto",
        "How a missing right to a page is noticed: userfaultfd (Linux 6.4), mprotect (any Linux), auto (the first of these two that works "
        "here), or checked (no hardware: for tests)."},
    SettingInfo{
        "NETVM_SHM", "--shm", "MODE", "direct",
        "Between nodes of one host: direct lets the initiator execute the target's firmware step itself; packet sends every request "
        "through a ring to the target's engine."},
    SettingInfo{
        "NETVM_ADDRESS_SPACE", "--address-space", "BYTES", "64G",
        "Size of the shared range, from 1M to 1T, with a suffix K, M, G or T. Reserving it costs no memory. The same on all nodes."},
    SettingInfo{
        "NETVM_MEMORY", "--memory", "BYTES", "unlimited",
        "Memory that a node's part of shared and symmetric memory may take, with a suffix K, M, G or T: 320K at least, and 64K more for "
        "each further thread. What does not fit goes to the backing "
        "file and comes back when it is used. unlimited (or 0): everything stays in memory."},
    SettingInfo{
        "NETVM_BACKING", "--backing", "PATH", "TMPDIR or /var/tmp",
        "With NETVM_MEMORY, where the rest goes: a folder, for a nameless file in it; or the name of a new file, to which each node adds a "
        "point and its number. Neither outlives the job, however it ends: a new file's name goes as soon as it is open."},
    SettingInfo{"NETVM_THREADS", "--threads", "N", "1", "Application threads of each node in parallel(), from 1 to 1024."},
    SettingInfo{"NETVM_PLACE", "--place", "PLACE", "cyclic",
                "On which nodes the threads of a pthreads program run (netvm-cc): cyclic, one node after the other; block or block:N, N "
                "threads (as "
                "--threads says) to a node, then the next; or a list of nodes that are taken in turn, such as 0,1,1,3."},
    SettingInfo{
        "NETVM_SPIN", "--spin", "auto|MICROSECONDS", "auto",
        "How long a thread spins before it sleeps, counted anew whenever it was of use to another node; up to 8 times as long after "
        "sleeps that this would have spared. auto is 0 where the application threads of this host's nodes outnumber its cores, and else "
        "200. "
        "Give 0 where other programs compute on the same cores: who spins there is served last, and auto knows of the job's own threads "
        "only."},
    SettingInfo{"NETVM_BIND", "--bind", "on|off", "on",
                "Bind each application thread and each engine to a core of its own, where there are enough cores for all of them."},
    SettingInfo{"NETVM_START_TIMEOUT", "--start-timeout", "SECONDS", "30",
                "How long a node waits for the others at the start before it gives up and names those that are missing."},
    SettingInfo{
        "NETVM_SYSTEM_BUFFERS", "--system-buffers", "N", "4096",
        "Packets of other nodes that may wait at a node, for a page or for their turn, from 256 to 1048576; senders wait beyond that. "
        "The same on all nodes."},
    SettingInfo{
        "NETVM_PEER_TIMEOUT", "--peer-timeout", "SECONDS", "30",
        "Over a network that may lose packets: how long another node may be silent while an answer is due before it is given up, from "
        "1 to 86400."},
    SettingInfo{"NETVM_WATCHDOG", "--watchdog", "SECONDS", "0",
                "Report waits for a mutex, another synchronisation object, an event counter or another node's answer that last longer than "
                "that: who waits for "
                "what, who holds it or how it stands, and whether waits for mutexes form a circle (of others nobody can say who will end "
                "them); and "
                "threads that spin on a variable which its protocol may never show them changed. 0: never."},
    SettingInfo{"NETVM_CHECK_FRAMES", "--check-frames", "on|off", "off",
                "For debugging the runtime itself: stop at once, with the page's name, if the NIC or a protocol touches a frame that was "
                "taken away or never "
                "made. Such an access reads zeros otherwise. Needs userfaultfd."},
    SettingInfo{"NETVM_STATS", "--stats", "on|off", "off", "Print faults, messages, bytes and waiting times at the end."},
    SettingInfo{"NETVM_VERBOSE", "--verbose", "0|1|2", "0",
                "What is told on standard error: 0 errors, 1 also a line at the start that says what was chosen, 2 more."},
    SettingInfo{"NETVM_SEED", "--seed", "N", "0", "Seed of everything random in the runtime; 0 takes one from the kernel."},
};

constexpr std::array<Apply, kInfos.size()> kApply{
    apply_protocol,       apply_granularity,  apply_read_ahead, apply_home_moves,   apply_trap,  apply_shm,     apply_address_space,
    apply_memory,         apply_backing,      apply_threads,    apply_place,        apply_spin,  apply_bind,    apply_start_timeout,
    apply_system_buffers, apply_peer_timeout, apply_watchdog,   apply_check_frames, apply_stats, apply_verbose, apply_seed,
};

constexpr std::array<std::string_view, 4> kInternal{"NETVM_RENDEZVOUS", "NETVM_JOB_KEY", "NETVM_NODE", "NETVM_NODES"};
constexpr std::array<std::string_view, 2> kOfTheCompiler{"NETVM_CC", "NETVM_CXX"};  // netvm-cc's, who may have exported them

void apply_setting(Settings& settings, std::string_view variable, std::string_view value) {
  for (std::size_t i = 0; i < kInfos.size(); ++i) {
    if (kInfos[i].variable == variable) return kApply[i](settings, variable, value);
  }
  for (const std::span<const std::string_view> others : {std::span<const std::string_view>(kInternal), {kOfTheCompiler}}) {
    if (std::find(others.begin(), others.end(), variable) != others.end()) return;
  }
  std::vector<std::string_view> names;
  names.reserve(kInfos.size());
  for (const SettingInfo& info : kInfos) names.push_back(info.variable);
  const std::string_view near = nearest(variable, names);
  throw SettingError(fmt::format("{} is not a setting of NetVM{}; `netvmrun --help` lists them all", variable,
                                 near.empty() ? std::string() : fmt::format(" (did you mean {}?)", near)));
}

/// Breaks text at spaces so that no line is longer than `width`; every line but the first starts with `indent` spaces.
std::string wrap(std::string_view text, std::size_t width, std::size_t indent) {
  std::string out;
  std::size_t column = indent;
  while (!text.empty()) {
    const std::string_view word = text.substr(0, text.find(' '));
    text.remove_prefix(std::min(word.size() + 1, text.size()));
    if (column > indent && column + 1 + word.size() > width) {
      out += '\n' + std::string(indent, ' ');
      column = indent;
    } else if (column > indent) {
      out += ' ';
      ++column;
    }
    out += word;
    column += word.size();
  }
  return out;
}

std::string without_bars(std::string_view value) {
  std::string out;
  for (const char c : value) out += c == '|' ? std::string("\\|") : std::string(1, c);
  return out;
}

/// Levenshtein's distance, blind to case.
std::size_t edit_distance(std::string_view a, std::string_view b) {
  const auto lower = [](char c) { return std::tolower(static_cast<unsigned char>(c)); };
  std::vector<std::size_t> row(b.size() + 1);
  for (std::size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (std::size_t i = 1; i <= a.size(); ++i) {
    std::size_t diagonal = row[0];
    row[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t replaced = diagonal + (lower(a[i - 1]) == lower(b[j - 1]) ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, replaced});
    }
  }
  return row[b.size()];
}

}  // namespace

std::string_view to_string(ShmMode mode) { return mode == ShmMode::direct ? "direct" : "packet"; }

std::span<const SettingInfo> setting_list() { return kInfos; }
std::span<const std::string_view> internal_variables() { return kInternal; }

void check_setting(std::string_view variable, std::string_view value) {
  Settings scratch;
  apply_setting(scratch, variable, value);
}

Settings Settings::from_environment() {
  Settings settings;
  for (char** entry = environ; entry != nullptr && *entry != nullptr; ++entry) {
    const std::string_view text = *entry;
    const std::size_t equals = text.find('=');
    if (!text.starts_with(kPrefix) || equals == std::string_view::npos) continue;
    apply_setting(settings, text.substr(0, equals), text.substr(equals + 1));
  }
  return settings;
}

std::string settings_help() {
  constexpr std::size_t kWidth = 80;
  constexpr std::size_t kIndent = 6;
  std::string out;
  for (const SettingInfo& info : kInfos) {
    const std::string text = fmt::format("{} Default: {}. Environment: {}.", info.help, info.fallback, info.variable);
    out += fmt::format("  {} {}\n{:{}}{}\n", info.flag, info.value, "", kIndent, wrap(text, kWidth, kIndent));
  }
  return out;
}

std::string settings_markdown() {
  std::string out =
      "# Settings\n\n"
      "<!-- Made from the list in runtime/settings.cpp; a unit test says how to make it again. -->\n\n"
      "Each can be given as a flag of `netvmrun` or as an environment variable of the program; a flag wins. An unknown `NETVM_` variable "
      "and a\n"
      "malformed value are errors that name what is right.\n\n"
      "| flag | variable | value | default | meaning |\n"
      "|---|---|---|---|---|\n";
  for (const SettingInfo& info : kInfos) {
    out += fmt::format("| `{}` | `{}` | {} | `{}` | {} |\n", info.flag, info.variable, without_bars(info.value), info.fallback, info.help);
  }
  out += "\nThe launcher sets these itself, for the nodes that it starts; leave them alone:\n";
  for (const std::string_view name : kInternal) out += fmt::format("`{}`{}", name, name == kInternal.back() ? ".\n" : ", ");
  return out;
}

std::uint64_t parse_bytes(std::string_view text, std::string_view what) {
  static constexpr std::string_view kAccepted = "a whole number of bytes, or one with a suffix K, M, G or T (powers of 1024), such as 64G";
  static constexpr std::string_view kSuffixes = "KMGT";
  const std::size_t digits = std::min(text.find_first_not_of("0123456789"), text.size());
  const std::optional<std::uint64_t> number = parse_number(text.substr(0, digits));
  std::string_view unit = text.substr(digits);
  std::uint64_t shift = 0;
  if (!unit.empty()) {
    const std::size_t index = kSuffixes.find(static_cast<char>(std::toupper(static_cast<unsigned char>(unit.front()))));
    const std::string_view rest = unit.substr(1);
    if (index == std::string_view::npos || !(rest.empty() || rest == "B" || rest == "iB")) reject(what, text, kAccepted);
    shift = 10 * (index + 1);
  }
  if (!number) reject(what, text, kAccepted);
  if (*number > (UINT64_MAX >> shift)) reject(what, text, "a size below 2^64 bytes");
  return *number << shift;
}

std::string format_bytes(std::uint64_t bytes) {
  static constexpr std::array<std::string_view, 5> kUnits{"bytes", "KiB", "MiB", "GiB", "TiB"};
  std::size_t unit = 0;
  std::uint64_t size = 1;
  while (unit + 1 < kUnits.size() && bytes / size >= 1024) {
    size <<= 10;
    ++unit;
  }
  if (bytes == 1) return "1 byte";
  if (bytes % size == 0) return fmt::format("{} {}", bytes / size, kUnits[unit]);
  return fmt::format("{:.1f} {}", static_cast<double>(bytes) / static_cast<double>(size), kUnits[unit]);
}

std::string_view nearest(std::string_view text, std::span<const std::string_view> choices) {
  std::string_view best;
  std::size_t least = std::max<std::size_t>(2, text.size() / 3) + 1;
  for (const std::string_view choice : choices) {
    const std::size_t distance = edit_distance(text, choice);
    // A name that shares no letter is not near, however short it is.
    if (distance < least && distance < std::max(text.size(), choice.size())) {
      least = distance;
      best = choice;
    }
  }
  return best;
}

}  // namespace netvm
