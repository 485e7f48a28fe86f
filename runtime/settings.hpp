// Settings: one documented list of everything that can be set, by NETVM_* in the environment and by a flag of netvmrun.
// Programs read the environment; netvmrun turns its flags into the environment of the nodes. `netvmrun --help` and
// docs/settings.md are generated from the same list.
#pragma once

#include <cstdint>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>

#include "runtime/host_vm.hpp"

namespace netvm {

/// A malformed or unknown setting. what() names the setting, the value, and the values that are right.
class SettingError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// One row of the list.
struct SettingInfo {
  std::string_view variable;  ///< "NETVM_PROTOCOL"
  std::string_view flag;      ///< "--protocol", empty if netvmrun has none
  std::string_view value;     ///< "NAME", "BYTES", "N", "on|off": shape of the value
  std::string_view fallback;  ///< default, as text
  std::string_view help;      ///< one or two sentences
};
[[nodiscard]] std::span<const SettingInfo> setting_list();

/// Variables that the launcher sets for the nodes. Known, so no error; not for users to set.
[[nodiscard]] std::span<const std::string_view> internal_variables();

/// Throws SettingError as Settings::from_environment() would if the variable had this value: netvmrun checks its flags with it.
void check_setting(std::string_view variable, std::string_view value);

/// The list as part of netvmrun's --help, wrapped to 80 columns; and as docs/settings.md.
[[nodiscard]] std::string settings_help();
[[nodiscard]] std::string settings_markdown();

enum class TrapChoice : std::uint8_t { automatic, userfaultfd, mprotect, checked };
enum class ShmMode : std::uint8_t {
  direct,  ///< the initiator executes the target's firmware step
  packet,  ///< every request travels through the ring to the target's engine
};

[[nodiscard]] std::string_view to_string(ShmMode mode);

/// What one node runs with.
struct Settings {
  static constexpr std::uint32_t kMostThreads = 1024;  // of a node, in parallel()

  std::string protocol = "hlrc";            // NETVM_PROTOCOL: default of every allocation that names none
  std::uint32_t granularity = kPageSize;    // NETVM_GRANULARITY: bytes of a coherence unit, of every allocation that names none
  bool read_ahead = true;                   // NETVM_READ_AHEAD: fetch pages that a sequential reader will want
  bool home_moves = true;                   // NETVM_HOME_MOVES: pages move to the node that alone writes them
  TrapChoice trap = TrapChoice::automatic;  // NETVM_TRAP: auto | userfaultfd | mprotect | checked
  ShmMode shm_mode = ShmMode::direct;       // NETVM_SHM: direct | packet
  std::uint64_t address_space = std::uint64_t{64}
                                << 30;  // NETVM_ADDRESS_SPACE: bytes reserved for shared memory; 1 MiB .. 1 TiB; suffixes K M G T
  std::uint64_t memory = 0;             // NETVM_MEMORY: bytes of frames that a node keeps in memory; 0: all
  std::string backing = {};             // NETVM_BACKING: folder or file for the others; empty: TMPDIR or /var/tmp
  std::uint32_t threads = 1;            // NETVM_THREADS: application threads a node in parallel()
  std::string place = {};               // NETVM_PLACE: nodes of a pthreads program's threads; the porting kit reads it
  std::uint32_t spin_us = UINT32_MAX;   // NETVM_SPIN: microseconds to spin before parking; "auto"
  bool bind = true;                     // NETVM_BIND: bind threads to cores where there are enough
  std::uint32_t start_timeout_s = 30;   // NETVM_START_TIMEOUT: how long to wait for the other nodes to start
  std::uint32_t system_buffers = 4096;  // NETVM_SYSTEM_BUFFERS: packets of peers that may wait at a node
  std::uint32_t peer_timeout_s = 30;    // NETVM_PEER_TIMEOUT: silence of a peer after which it is given up, where packets may be lost
  double watchdog_s = 0;                // NETVM_WATCHDOG: seconds after which a wait for another thread is reported; 0: never
  bool check_frames = false;            // NETVM_CHECK_FRAMES: stop at an access to a frame that is not there
  bool stats = false;                   // NETVM_STATS: print statistics at the end
  std::uint32_t verbose = 0;            // NETVM_VERBOSE: 0 errors, 1 a start-up line, 2 more
  std::uint64_t seed = 0;               // NETVM_SEED: 0 takes one from the kernel

  /// Reads the environment. Throws SettingError on a malformed value, and on an unknown NETVM_ variable (with the nearest
  /// right name). Protocol names are checked later, by dsm/, which knows them.
  static Settings from_environment();
};

/// "64G", "1048576", "16M" -> bytes. Throws SettingError naming `what`.
[[nodiscard]] std::uint64_t parse_bytes(std::string_view text, std::string_view what);
/// 68719476736 -> "64 GiB"
[[nodiscard]] std::string format_bytes(std::uint64_t bytes);
/// The entry of `choices` closest to `text` in edit distance; empty if nothing is near.
[[nodiscard]] std::string_view nearest(std::string_view text, std::span<const std::string_view> choices);

}  // namespace netvm
