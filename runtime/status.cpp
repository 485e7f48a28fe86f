#include "runtime/status.hpp"

namespace netvm {
namespace {

struct StatusText {
  std::string_view name;
  std::string_view sentence;
};

// No default: the compiler names the enumerator that a new Status forgot to describe.
StatusText text_of(Status status) {
  switch (status) {
    case Status::ok:
      return {"ok", "the operation succeeded"};
    case Status::key:
      return {"E_KEY", "there is no such region, or the key does not match it"};
    case Status::range:
      return {"E_RANGE", "the access lies outside the region"};
    case Status::perm:
      return {"E_PERM", "the region does not grant this right"};
    case Status::align:
      return {"E_ALIGN", "the address of an atomic must be a multiple of 8"};
    case Status::stale_epoch:
      return {"E_STALE_EPOCH", "the sender belongs to an earlier session of the job"};
    case Status::unmapped:
      return {"E_UNMAPPED", "no memory stands behind the address"};
    case Status::fault_failed:
      return {"E_FAULT_FAILED", "the host could not bring the page in"};
    case Status::no_credit:
      return {"E_NO_CREDIT", "no credit was left, and the caller did not want to wait for one"};
    case Status::timeout:
      return {"E_TIMEOUT", "the deadline passed"};
    case Status::peer_dead:
      return {"E_PEER_DEAD", "the other node is gone"};
    case Status::owner_dead:
      return {"E_OWNER_DEAD", "the node that held the lock is gone"};
    case Status::revoked:
      return {"E_REVOKED", "the region was revoked while the operation was under way"};
    case Status::cancelled:
      return {"E_CANCELLED", "the job is ending"};
    case Status::counter_range:
      return {"E_COUNTER_RANGE", "there is no event counter with this number"};
    case Status::exhausted:
      return {"exhausted", "a table, a ring or the address range is full"};
    case Status::invalid:
      return {"invalid", "an argument has a value that can never be right"};
    case Status::reserved:
      return {"reserved", "the pages are not the program's to open: they are the runtime's, a coherence protocol's, or not allocated"};
    case Status::forked:
      return {"forked", "this process is a child made by fork(): it is no node of the job and must not use its parent's"};
  }
  return {"unknown status", "a number that is no status of this version"};
}

}  // namespace

std::string_view to_string(Status status) { return text_of(status).name; }
std::string_view describe(Status status) { return text_of(status).sentence; }

}  // namespace netvm
