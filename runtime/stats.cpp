#include "runtime/stats.hpp"

namespace netvm {
namespace {

// Bit i: column i belongs to a thread. Constant-initialised, so it is there before and after every thread.
constinit std::atomic<std::uint32_t> taken_columns{0};

}  // namespace

// Gives the column back when its thread ends.
struct StatsColumn::Owner {
  std::uint8_t column = kShared;
  ~Owner() {
    column_ = kShared;  // what this thread still adds goes where everybody may
    // release: this thread's additions, before the next owner's; partner is claim()'s acquire
    if (column != kShared) taken_columns.fetch_and(~(std::uint32_t{1} << column), std::memory_order_release);
  }
};

std::uint8_t StatsColumn::claim() {
  static thread_local Owner owner;
  std::uint32_t taken = taken_columns.load(std::memory_order_relaxed);  // relaxed: the exchange decides
  for (;;) {
    const int free = __builtin_ctz(~taken);
    if (free >= kShared) return kShared;
    // acquire: the last owner's additions; partner is ~Owner()'s release
    if (taken_columns.compare_exchange_weak(taken, taken | std::uint32_t{1} << free, std::memory_order_acquire)) {
      owner.column = static_cast<std::uint8_t>(free);
      return owner.column;
    }
  }
}

// No default: the compiler names the enumerator that has no name yet.
std::string_view stat_name(Stat stat) {
  switch (stat) {
    case Stat::read_faults:
      return "read_faults";
    case Stat::write_faults:
      return "write_faults";
    case Stat::remote_faults:
      return "remote_faults";
    case Stat::twins:
      return "twins";
    case Stat::diffs:
      return "diffs";
    case Stat::diff_bytes:
      return "diff_bytes";
    case Stat::invalidations:
      return "invalidations";
    case Stat::notices_sent:
      return "notices_sent";
    case Stat::notices_received:
      return "notices_received";
    case Stat::pages_fetched:
      return "pages_fetched";
    case Stat::messages_sent:
      return "messages_sent";
    case Stat::message_bytes:
      return "message_bytes";
    case Stat::one_sided_ops:
      return "one_sided_ops";
    case Stat::one_sided_bytes:
      return "one_sided_bytes";
    case Stat::lock_acquires:
      return "lock_acquires";
    case Stat::lock_remote:
      return "lock_remote";
    case Stat::lock_wait_ns:
      return "lock_wait_ns";
    case Stat::barriers:
      return "barriers";
    case Stat::barrier_wait_ns:
      return "barrier_wait_ns";
    case Stat::fault_ns:
      return "fault_ns";
    case Stat::engine_wakeups:
      return "engine_wakeups";
    case Stat::page_ins:
      return "page_ins";
    case Stat::evictions:
      return "evictions";
    case Stat::write_backs:
      return "write_backs";
    case Stat::second_chances:
      return "second_chances";
    case Stat::nic_minor_faults:
      return "nic_minor_faults";
    case Stat::nic_major_faults:
      return "nic_major_faults";
    case Stat::redirects:
      return "redirects";
    case Stat::redirected_bytes:
      return "redirected_bytes";
    case Stat::redirect_drains:
      return "redirect_drains";
    case Stat::kCount:
      break;
  }
  return "unknown";
}

}  // namespace netvm
