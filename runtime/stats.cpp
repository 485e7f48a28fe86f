#include "runtime/stats.hpp"

namespace netvm {
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
    case Stat::dropped_pages:
      return "dropped_pages";
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
    case Stat::read_faults_away:
      return "read_faults_away";
    case Stat::write_faults_away:
      return "write_faults_away";
    case Stat::home_moves:
      return "home_moves";
    case Stat::read_ahead_pages:
      return "read_ahead_pages";
    case Stat::read_ahead_hits:
      return "read_ahead_hits";
    case Stat::read_ahead_wasted:
      return "read_ahead_wasted";
    case Stat::data_bytes:
      return "data_bytes";
    case Stat::protocol_bytes:
      return "protocol_bytes";
    case Stat::sync_bytes:
      return "sync_bytes";
    case Stat::barrier_imbalance_ns:
      return "barrier_imbalance_ns";
    case Stat::protocol_ns:
      return "protocol_ns";
    case Stat::handler_ns:
      return "handler_ns";
    case Stat::retransmissions:
      return "retransmissions";
    case Stat::duplicate_packets:
      return "duplicate_packets";
    case Stat::credit_stalls:
      return "credit_stalls";
    case Stat::credit_stall_ns:
      return "credit_stall_ns";
    case Stat::kCount:
      break;
  }
  return "unknown";
}

}  // namespace netvm
