// Expected outcomes as values. A broken invariant is a NETVM_CHECK (check.hpp), never a Status.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <utility>

#include "runtime/check.hpp"

namespace netvm {

/// Every way in which an operation of NetVM can end. The E_ codes of the NIC's specification, and those of set-up and allocation.
enum class [[nodiscard]] Status : std::uint8_t{
    ok = 0,
    key,            ///< E_KEY: no such region, or the key does not match
    range,          ///< E_RANGE: outside the region
    perm,           ///< E_PERM: the region does not grant this right
    align,          ///< E_ALIGN: an atomic's address is not a multiple of 8
    stale_epoch,    ///< E_STALE_EPOCH: the sender belongs to an earlier session
    unmapped,       ///< E_UNMAPPED: no backing at all
    fault_failed,   ///< E_FAULT_FAILED: the host could not bring the page in
    no_credit,      ///< E_NO_CREDIT: try mode and no credit
    timeout,        ///< E_TIMEOUT: the deadline passed
    peer_dead,      ///< E_PEER_DEAD: the other node is gone
    owner_dead,     ///< E_OWNER_DEAD: the holder of a lock is gone
    revoked,        ///< E_REVOKED: the region was revoked while the operation was in flight
    cancelled,      ///< E_CANCELLED: the job ends
    counter_range,  ///< E_COUNTER_RANGE: no such event counter
    exhausted,      ///< a table, ring or range is full
    invalid,        ///< an argument that can never be right
    reserved,       ///< pages that are not the caller's to open: the runtime's, a coherence protocol's, or not allocated. Never travels
    forked,         ///< in a child made by fork(): it is no node. Never travels
};

/// "E_KEY", "ok", ...
[[nodiscard]] std::string_view to_string(Status status);
/// One sentence for a person.
[[nodiscard]] std::string_view describe(Status status);

[[nodiscard]] constexpr bool ok(Status s) { return s == Status::ok; }

/// A value, or the Status that says why there is none.
template <class T>
class [[nodiscard]] Result {
 public:
  Result(T value) : value_(std::move(value)) {}  // NOLINT(google-explicit-constructor): return value;
  Result(Status status) : status_(status) {      // NOLINT(google-explicit-constructor): return Status::key;
    NETVM_CHECK(status != Status::ok, "a Result without a value needs a reason");
  }

  [[nodiscard]] bool has_value() const { return value_.has_value(); }
  explicit operator bool() const { return has_value(); }
  [[nodiscard]] Status status() const { return status_; }

  [[nodiscard]] T& value() & {
    NETVM_CHECK(has_value(), "Result holds no value: %s", to_string(status_).data());
    return *value_;
  }
  [[nodiscard]] const T& value() const& {
    NETVM_CHECK(has_value(), "Result holds no value: %s", to_string(status_).data());
    return *value_;
  }
  [[nodiscard]] T&& value() && {
    NETVM_CHECK(has_value(), "Result holds no value: %s", to_string(status_).data());
    return std::move(*value_);
  }
  T& operator*() & { return value(); }
  const T& operator*() const& { return value(); }
  T* operator->() { return &value(); }
  const T* operator->() const { return &value(); }

 private:
  std::optional<T> value_;
  Status status_ = Status::ok;
};

}  // namespace netvm
