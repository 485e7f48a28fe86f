// Allocation, symmetric memory, put / get / atomics, accessors.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <optional>

#include "dsm/api/job_runtime.hpp"
#include "dsm/protocol.hpp"
#include "sync/objects.hpp"

namespace netvm {

namespace {

std::optional<dsm::Consistency> translate(Consistency needs) {
  switch (needs) {
    case Consistency::any:
      return std::nullopt;
    case Consistency::entry:
      return dsm::Consistency::entry;
    case Consistency::scope:
      return dsm::Consistency::scope;
    case Consistency::release:
      return dsm::Consistency::release;
    case Consistency::sequential:
      return dsm::Consistency::sequential;
  }
  throw AllocationError(
      fmt::format("netvm: AllocationOptions::needs is {}, which is no Consistency: give any, entry, scope, release or sequential",
                  static_cast<int>(needs)));
}

// Names stand in tables and in sentences, each on one line.
std::string_view checked_name(std::string_view name) {
  const auto is_control = [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; };
  const auto found = std::find_if(name.begin(), name.end(), is_control);
  if (found == name.end()) return name;
  throw AllocationError(
      fmt::format("netvm: AllocationOptions::name has a control character ({:#04x}, its byte {}): names are printed in lines",
                  static_cast<unsigned char>(*found), found - name.begin()));
}

dsm::AllocOptions translate(std::size_t bytes, std::size_t alignment, const AllocationOptions& options) {
  dsm::AllocOptions out;
  out.protocol = options.protocol;
  out.granularity = options.granularity;
  out.needs = translate(options.needs);
  out.name = checked_name(options.name);
  switch (options.placement.kind) {
    case Placement::Kind::first_touch:
      out.placement = dsm::Placement::first_touch;
      break;
    case Placement::Kind::block:
      out.placement = dsm::Placement::block;
      break;
    case Placement::Kind::cyclic:
      out.placement = dsm::Placement::cyclic;
      break;
    case Placement::Kind::at_node:
      out.placement = dsm::Placement::at_node;
      break;
  }
  if (options.placement.node < 0)
    throw AllocationError(fmt::format("netvm: there is no node {} to place memory at", options.placement.node));
  out.home = NodeId{static_cast<std::uint32_t>(options.placement.node)};
  out.alignment = options.alignment != 0 ? options.alignment : std::max(alignment, bytes >= kPageSize ? kPageSize : std::size_t{8});
  if (!options.name.empty()) out.alignment = std::max(out.alignment, kPageSize);  // else it would share pages with others, and its counts
  return out;
}

/// A message that fits into a collective.
struct Outcome {
  std::uint64_t offset = 0;
  std::uint64_t bytes = 0;  // that node 0 asked for
  std::uint32_t failed = 0;
  std::array<char, 500> why{};
};

[[noreturn]] void throw_table_lost(std::string_view call) {
  throw NodeDied(fmt::format(
      "netvm: {}: node 0 has died, and it kept the job's table of allocated memory: nothing can be allocated or freed any more. "
      "Memory whose homes live goes on: allocate what is needed before, and let node 0 do what is least likely to kill it",
      call));
}

// Of 0 objects there is memory to be freed, too, as of new T[0].
constexpr std::size_t at_least_a_byte(std::size_t bytes) { return std::max<std::size_t>(bytes, 1); }

// A page may fault when it is touched, and a fault uses the NIC or waits for it: such memory is copied through this much of private memory first.
constexpr std::size_t kStage = 16 * 1024;

}  // namespace

std::vector<std::string_view> protocol_names() {
  std::vector<std::string_view> names;
  for (const dsm::ProtocolEntry& entry : dsm::protocols()) names.push_back(entry.traits.name);
  return names;
}

namespace detail {

void check_transfer(Status status, const char* what, int node, const void* here, std::size_t bytes) {
  if (status == Status::ok) return;
  std::string why(describe(status));
  if (status == Status::fault_failed) {
    // The same status says that of both sides.
    HostVm& vm = *Runtime::current(what).vm;
    std::uint64_t offset = 0;
    const bool may_be_ours = here != nullptr && vm.failure().text[0] != 0 && Runtime::current(what).offset_of(here, &offset);
    const PageRange pages{PageId{offset / kPageSize}, (offset % kPageSize + bytes + kPageSize - 1) / kPageSize};
    if (may_be_ours && vm.pin(pages, false).status() == Status::fault_failed) {
      why = fmt::format("memory of this node cannot be brought in: {}", vm.failure().text);
    } else {
      why = fmt::format(
          "node {} cannot bring a page of its memory in (a full disk or an I/O error: it has written to standard error which)", node);
    }
  }
  throw Error(fmt::format("netvm: {} node {} failed: {}", what, node, why));
}

std::uint64_t symmetric_offset(const Runtime& rt, const void* address, std::size_t bytes, int node, const char* what) {
  if (node < 0 || static_cast<std::uint32_t>(node) >= rt.boot->nodes()) {
    throw Error(fmt::format("netvm: {}: there is no node {}; the job has nodes 0 to {}", what, node, rt.boot->nodes() - 1));
  }
  std::uint64_t offset = 0;
  const std::uint64_t begin = rt.layout.symmetric.first.value * kPageSize;
  const bool begins_inside = rt.offset_of(address, &offset) && offset >= begin && offset - begin <= rt.symmetric_used;
  if (!begins_inside) {
    throw Error(
        fmt::format("netvm: {}: {} bytes at {} are not symmetric memory (Job::symmetric_all); shared memory of allocate() is reached by "
                    "loads and stores",
                    what, bytes, fmt::ptr(address)));
  }
  if (const std::uint64_t left = rt.symmetric_used - (offset - begin); bytes > left) {
    throw Error(
        fmt::format("netvm: {}: {} bytes at {} run over the end of symmetric memory (Job::symmetric_all), which has {} bytes from there",
                    what, bytes, fmt::ptr(address), left));
  }
  return offset - begin;
}

namespace {
/// Of memory that was just allocated for objects of that size (0: for anything). Once nodes have died, all new memory has a home for its objects that lives.
std::string place_new(Runtime& rt, std::uint64_t offset, std::size_t bytes, std::size_t object_bytes, const Placement& placement) {
  const bool chosen = object_bytes != 0 && placement.kind != Placement::Kind::first_touch;
  if (!chosen && !rt.sync->has_died()) return {};
  const sync::HomeRule here = {sync::HomeRule::Kind::at, rt.boot->node(), 8};
  const Status status = rt.sync->place({offset, bytes}, chosen ? home_rule(placement, object_bytes) : here);
  if (status == Status::ok) return {};
  (void)rt.dsm->free(offset);
  return fmt::format("{} bytes of synchronisation objects cannot have the home that was asked for: {}", bytes, why_not_placed(status));
}
}  // namespace

void* allocate(std::size_t bytes, std::size_t alignment, const AllocationOptions& options, std::size_t object_bytes) {
  Runtime& rt = Runtime::current("allocate()");
  std::string why;
  const auto offset = rt.dsm->allocate(at_least_a_byte(bytes), translate(bytes, alignment, options), &why);
  if (offset.status() == Status::peer_dead) throw_table_lost("allocate()");
  if (offset) why = place_new(rt, *offset, bytes, object_bytes, options.placement);
  if (!why.empty()) throw AllocationError("netvm: " + why);
  return rt.address_of(*offset);
}

void* allocate_all(std::size_t bytes, std::size_t alignment, const AllocationOptions& options, std::size_t object_bytes) {
  Runtime& rt = Runtime::current("allocate_all()");
  if (inside_section()) throw Error("netvm: allocate_all() inside of parallel(): allocate before it, or call allocate() in one thread");
  const dsm::AllocOptions wanted = translate(bytes, alignment, options);  // throws on all nodes, if it does
  Outcome outcome;
  if (rt.boot->node() == NodeId{0}) {
    std::string why;
    const auto offset = rt.dsm->allocate(at_least_a_byte(bytes), wanted, &why);
    if (offset) why = place_new(rt, *offset, bytes, object_bytes, options.placement);
    outcome.failed = offset && why.empty() ? 0 : 1;
    outcome.bytes = bytes;
    if (offset) outcome.offset = *offset;
    why.copy(outcome.why.data(), outcome.why.size() - 1);
  }
  rt.require(rt.sync->broadcast(NodeId{0}, std::as_writable_bytes(std::span(&outcome, 1))), "allocate_all()");
  if (outcome.bytes != bytes) {
    throw AllocationError(fmt::format("netvm: allocate_all(): this node asks for {} bytes, node 0 for {}: all nodes must ask for the same",
                                      bytes, outcome.bytes));
  }
  if (outcome.failed != 0) throw AllocationError(std::string("netvm: ") + outcome.why.data());
  // Asks: messages of every node name it from now on, and node 0 may die.
  if (!options.name.empty() || rt.boot->outlives_nodes()) static_cast<void>(rt.dsm->size_of(outcome.offset));
  return rt.address_of(outcome.offset);
}

void* symmetric_all(std::size_t bytes, std::size_t alignment) {
  Runtime& rt = Runtime::current("symmetric_all()");
  if (inside_section()) throw Error("netvm: symmetric_all() inside of parallel(): call it before");
  const std::uint64_t limit = rt.layout.symmetric.count * kPageSize;
  alignment = std::max(alignment, kCacheLine);
  const std::uint64_t begin = (rt.symmetric_used + alignment - 1) / alignment * alignment;
  if (bytes > limit || begin > limit - bytes) {
    throw AllocationError(
        fmt::format("netvm: symmetric memory is full: {} asked, {} of {} left; raise NETVM_ADDRESS_SPACE (an eighth of it is symmetric)",
                    format_bytes(bytes), format_bytes(limit - rt.symmetric_used), format_bytes(limit)));
  }
  const auto page_up = [](std::uint64_t b) { return (b + kPageSize - 1) / kPageSize; };
  const std::uint64_t first = page_up(rt.symmetric_used);
  const std::uint64_t end = page_up(begin + bytes);
  const PageRange fresh{PageId{rt.layout.symmetric.first.value + first}, end - first};
  if (fresh.count > 0) {
    if (!rt.vm->has_budget() && rt.vm->make_resident(fresh) != Status::ok) {
      throw AllocationError(
          fmt::format("netvm: the machine gives no {} of memory for symmetric_all()", format_bytes(fresh.count * kPageSize)));
    }
    rt.vm->set_access(fresh, Access::none, Access::write);
  }
  rt.symmetric_used = begin + bytes;
  rt.nic->allow_regions({rt.layout.symmetric.first, end});
  // A barrier, for every node's instance must be there before anybody puts, and a check that all mean the same.
  std::array<std::uint64_t, 2> range = {bytes, bytes};
  const auto widen = [](std::span<std::byte> sum, std::span<const std::byte> other) {
    std::array<std::uint64_t, 2> a{};
    std::array<std::uint64_t, 2> b{};
    std::memcpy(a.data(), sum.data(), sizeof a);
    std::memcpy(b.data(), other.data(), sizeof b);
    a = {std::min(a[0], b[0]), std::max(a[1], b[1])};
    std::memcpy(sum.data(), a.data(), sizeof a);
    return std::string();
  };
  rt.require(rt.sync->all_reduce(std::as_writable_bytes(std::span(range)), widen), "symmetric_all()");
  if (range[0] != range[1]) {
    throw AllocationError(
        fmt::format("netvm: symmetric_all(): nodes ask for {} to {} bytes: all must ask for the same", range[0], range[1]));
  }
  return rt.address_of(rt.layout.symmetric.first.value * kPageSize + begin);
}

void put(int node, void* to, const void* from, std::size_t bytes) {
  Runtime& rt = Runtime::current("put()");
  const std::uint64_t offset = symmetric_offset(rt, to, bytes, node, "put");
  const nic::RemoteRegion& region = rt.symmetric[static_cast<std::size_t>(node)];
  if (rt.may_fault(from, bytes)) {
    put_staged(node, offset, from, bytes, [&](std::uint64_t at, const std::byte* source, std::size_t n, bool /*last*/) {
      return rt.nic->write(region, at, source, n);
    });
  } else {
    check_transfer(rt.nic->write(region, offset, from, bytes), "put to", node, from, bytes);
  }
}

void put_staged(int node, std::uint64_t offset, const void* from, std::size_t bytes, const PutPiece& piece) {
  std::array<std::byte, kStage> stage;
  for (std::size_t done = 0; done < bytes;) {
    const std::size_t n = std::min(bytes - done, stage.size());
    checked_load(static_cast<const std::byte*>(from) + done, stage.data(), n);
    check_transfer(piece(offset + done, stage.data(), n, done + n == bytes), "put to", node);
    done += n;
  }
}

void get(int node, const void* from, void* to, std::size_t bytes) {
  Runtime& rt = Runtime::current("get()");
  const std::uint64_t offset = symmetric_offset(rt, from, bytes, node, "get");
  const nic::RemoteRegion& region = rt.symmetric[static_cast<std::size_t>(node)];
  if (!rt.may_fault(to, bytes)) return check_transfer(rt.nic->read(region, offset, to, bytes), "get from", node, to, bytes);
  std::array<std::byte, kStage> stage;
  for (std::size_t done = 0; done < bytes;) {
    const std::size_t n = std::min(bytes - done, stage.size());
    check_transfer(rt.nic->read(region, offset + done, stage.data(), n), "get from", node);
    checked_store(static_cast<std::byte*>(to) + done, stage.data(), n);
    done += n;
  }
}

nic::AtomicArgs atomic_args(Atomic op, const AtomicWords& words) {
  nic::AtomicArgs args;
  args.operand = words.operand;
  args.compare = words.expected;
  args.compare_mask = words.compare_mask;
  args.swap_mask = words.swap_mask;
  switch (op) {
    case Atomic::fetch_add:
      args.op = nic::AtomicOp::fetch_add;
      break;
    case Atomic::swap:
      args.op = nic::AtomicOp::swap;
      break;
    case Atomic::compare_swap:
      args.op = nic::AtomicOp::compare_swap;
      break;
    case Atomic::masked_compare_swap:
      args.op = nic::AtomicOp::masked_cas;
      break;
    case Atomic::fetch_or:
      args.op = nic::AtomicOp::fetch_or;
      break;
  }
  return args;
}

std::uint64_t atomic(int node, std::uint64_t* on, Atomic op, const AtomicWords& words) {
  Runtime& rt = Runtime::current("an atomic");
  const std::uint64_t offset = symmetric_offset(rt, on, sizeof(*on), node, "atomic");
  const auto old = rt.nic->atomic(rt.symmetric[static_cast<std::size_t>(node)], offset, atomic_args(op, words));
  check_transfer(old.status(), "atomic on", node);
  return *old;
}

void checked_load(const void* from, void* to, std::size_t bytes) {
  Runtime* rt = Runtime::current_or_null();
  std::uint64_t offset = 0;
  if (rt == nullptr || rt->vm->trap() != TrapKind::checked || !rt->offset_of(from, &offset)) {
    std::memcpy(to, from, bytes);
  } else if (!rt->vm->checked_load(offset, to, bytes)) {
    throw Error(fmt::format("netvm: load of {} bytes at {}: not allocated shared memory", bytes, fmt::ptr(from)));
  }
}

void checked_store(void* to, const void* from, std::size_t bytes) {
  Runtime* rt = Runtime::current_or_null();
  std::uint64_t offset = 0;
  if (rt == nullptr || rt->vm->trap() != TrapKind::checked || !rt->offset_of(to, &offset)) {
    std::memcpy(to, from, bytes);
  } else if (!rt->vm->checked_store(offset, from, bytes)) {
    throw Error(fmt::format("netvm: store of {} bytes at {}: not allocated shared memory", bytes, fmt::ptr(to)));
  }
}

}  // namespace detail

void Job::free(void* memory) {
  if (memory == nullptr) return;
  std::uint64_t offset = 0;
  if (!runtime_->offset_of(memory, &offset)) offset = UINT64_MAX;
  const auto bytes = runtime_->dsm->size_of(offset);
  // Before the objects in there are forgotten. Small ones may be this node's own to keep.
  if (bytes.status() == Status::peer_dead || (bytes && *bytes >= kPageSize && runtime_->is_dead(0))) throw_table_lost("free()");
  if (bytes) {
    const auto use = runtime_->sync->free_memory(offset, *bytes, detail::this_thread_id());
    if (!use) runtime_->require(use.status(), "asking all nodes whether memory is in use");
    if (*use) {
      const sync::SyncId object = (*use)->object;
      const std::uint64_t at = object.offset & ~sync::SyncId::kObjectBit;
      const sync::ObjectKind kind = runtime_->sync->objects().kind_of(at);
      const std::string_view what = !object.is_object() ? "mutex" : kind == sync::ObjectKind::none ? "object" : sync::to_string(kind);
      throw Error(
          fmt::format("netvm: free({}): a thread holds, runs or waits for the {} at {}, which is in there (node {} says so): let it go, or "
                      "wake it, first",
                      fmt::ptr(memory), what, fmt::ptr(runtime_->address_of(at)), (*use)->node.value));
    }
  }
  const Status status = offset == UINT64_MAX ? Status::invalid : runtime_->dsm->free(offset);
  if (status == Status::peer_dead) throw_table_lost("free()");
  if (status != Status::ok) {
    throw Error(fmt::format("netvm: free({}): no memory of allocate() begins there (freed twice, or a pointer into the middle?)",
                            fmt::ptr(memory)));
  }
}

void Job::touch(const void* memory, std::size_t bytes, bool write) {
  std::uint64_t offset = 0;
  if (bytes == 0) return;
  if (!runtime_->offset_of(memory, &offset) || !runtime_->dsm->touch(offset, bytes, write)) {
    throw Error(fmt::format("netvm: touch({}, {}): not allocated shared memory", fmt::ptr(memory), bytes));
  }
}

}  // namespace netvm
