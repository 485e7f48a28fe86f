#include "dsm/protocols/lock_payloads.hpp"

#include <bit>
#include <utility>

#include "dsm/interval_log.hpp"
#include "runtime/wire_codec.hpp"

namespace netvm::dsm {

bool decode_bound_grant(std::span<const std::byte> wire, PageRange shared, BoundGrant* grant) {
  WireReader reader(wire);
  BoundGrant read;
  read.epoch = reader.varint();
  read.version = reader.varint();
  read.early_version = reader.varint();
  if (read.early_version > read.version) return false;
  std::uint64_t end = 0;
  std::uint64_t serial = 0;
  while (reader.ok() && !reader.at_end()) {
    BoundRun& run = read.runs.emplace_back();
    run.where.offset = end + reader.varint();
    run.where.bytes = reader.varint();
    serial += reader.varint();
    run.serial = serial;
    const std::uint64_t version = reader.varint();
    run.version = version / 2;
    run.early = version % 2 != 0;
    run.bytes = reader.bytes(run.where.bytes).data();
    const bool inside = run.where.bytes != 0 && run.where.bytes <= BoundData::kBlock &&
                        shared.contains(PageId{run.where.offset / kPageSize}) &&
                        run.where.offset % BoundData::kBlock + run.where.bytes <= BoundData::kBlock;
    if (!reader.ok() || !inside || run.version > (run.early ? read.early_version : read.version)) return false;
    end = run.where.offset + run.where.bytes;
  }
  if (!reader.ok()) return false;
  *grant = std::move(read);
  return true;
}

bool decode_bound_barrier(std::span<const std::byte> wire, BoundBarrier* barrier) {
  WireReader reader(wire);
  BoundBarrier read;
  const std::uint64_t run_on = reader.varint();
  if (run_on > 1) return false;
  read.some_run_on = run_on == 1;
  for (std::uint64_t left = reader.varint(); reader.ok() && left != 0; --left) {
    const sync::SyncId object{std::rotr(reader.varint(), 1)};
    const std::uint64_t version = reader.varint();
    if (version == 0 || !read.told.emplace(object, version).second) return false;
  }
  if (!reader.ok()) return false;
  read.notices = reader.rest();
  *barrier = std::move(read);
  return true;
}

bool decode_scope_grant(std::span<const std::byte> wire, PageRange shared, ScopeGrant* grant) {
  WireReader reader(wire);
  ScopeGrant read;
  read.epoch = reader.varint();
  read.version = reader.varint();
  read.early_version = reader.varint();
  if (read.early_version > read.version) return false;
  while (reader.ok() && !reader.at_end()) {
    ScopeGrant::Group& group = read.groups.emplace_back();
    const std::uint64_t version = reader.varint();
    group.version = version / 2;
    group.early = version % 2 != 0;
    const std::span<const std::byte> pages = reader.bytes(reader.varint());
    if (!reader.ok() || group.version > (group.early ? read.early_version : read.version) || !decode_pages(pages, shared, group.pages))
      return false;
  }
  if (!reader.ok()) return false;
  *grant = std::move(read);
  return true;
}

bool decode_seen_version(std::span<const std::byte> wire, SeenVersion* seen) {
  SeenVersion read;
  if (!wire.empty()) {
    WireReader reader(wire);
    read.epoch = reader.varint();
    read.version = reader.varint();
    if (!reader.ok() || !reader.at_end()) return false;
  }
  *seen = read;
  return true;
}

bool decode_lease_time(std::span<const std::byte> wire, std::uint64_t* time) {
  WireReader reader(wire);
  const std::uint64_t read = reader.varint();
  if (!reader.ok() || !reader.at_end() || read >= kEndOfLeaseTime) return false;
  *time = read;
  return true;
}

}  // namespace netvm::dsm
