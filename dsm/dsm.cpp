#include "dsm/dsm.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <bit>
#include <cstring>

#include "dsm/dsm_impl.hpp"
#include "runtime/check.hpp"
#include "runtime/settings.hpp"

namespace netvm::dsm {

// ---- Impl: construction ------------------------------------------------------------------------------------------------------

Dsm::Impl::Impl(const DsmConfig& config, Env& env, HostVm& vm, nic::Nic& nic, Stats& stats)
    : config_(config),
      env_(env),
      vm_(vm),
      nic_(nic),
      stats_(stats),
      table_(config.layout.shared),
      homes_(config_, vm, nic),
      sharing_(config_, vm, nic),
      background_(env),
      in_use_(protocols().size()),
      service_(config.layout.shared, env, nic, *this) {
  NETVM_CHECK(config_.shared.size() == nic.nodes() && config_.system.size() == nic.nodes(), "a region of each node's memory is needed");
  const int chosen = find_protocol(config_.default_protocol);
  NETVM_CHECK(chosen >= 0, "no protocol is called %s", config_.default_protocol.c_str());
  default_protocol_ = static_cast<unsigned>(chosen);
  vm.wire(config_.layout.system);  // the tables in there are looked at and written at any time
  const DsmParts parts{config_, env, vm, nic, stats, table_, homes_, twins_, regions_, sharing_, background_};
  for (unsigned i = 0; i < protocols().size(); ++i) {
    envs_.push_back(std::make_unique<ProtocolEnv>(parts, i));
    const bool replaced = i < config_.factories.size() && config_.factories[i] != nullptr;
    protocols_.push_back((replaced ? config_.factories[i] : protocols()[i].make)(*envs_.back()));
  }
  nic.set_message_handler(nic::MessageKind::dsm_protocol, this);
}

Dsm::Impl::~Impl() { nic_.set_message_handler(nic::MessageKind::dsm_protocol, nullptr); }

// ---- Impl: extents -------------------------------------------------------------------------------------------------------------

std::optional<RegionDirectory::Found> Dsm::Impl::extent_of(PageId page) {
  if (auto known = regions_.find(page)) return known;
  const std::optional<Extent> extent = service_.describe(page);
  if (!extent) return std::nullopt;
  return RegionDirectory::Found{*extent, regions_.add(*extent)};
}

bool Dsm::Impl::attach(PageId page, PageEntry& entry) {
  const auto found = extent_of(page);
  if (!found) return false;
  const Extent& extent = found->extent;
  if (Homes::computable(extent)) entry.learn_home(Homes::compute(page, extent, nic_.nodes()));
  table_.attach({page, 1}, extent.protocol, found->region);
  use(extent.protocol);
  protocols_[extent.protocol]->on_attach({page, 1});
  return true;
}

void Dsm::Impl::forget(const Extent& extent) {
  regions_.remove(extent);
  small_objects_.forget(extent);
}

bool Dsm::Impl::needs_drain(const Extent& extent) const { return !protocols_[extent.protocol]->traits().one_sided; }

void Dsm::Impl::withdraw(const Extent& extent) {
  Protocol& protocol = *protocols_[extent.protocol];
  for (std::uint64_t p = extent.pages.first.value; p != extent.pages.end(); ++p) {
    PageEntry& entry = table_[PageId{p}];
    const bool touched = entry.attached() || entry.home_known() || entry.data != 0 || entry.state.load() != 0;
    if (!touched) continue;
    // A release that is flushing the page holds its lock.
    const PageGuard guard(env_, entry);
    protocol.on_detach({PageId{p}, 1});
    envs_[extent.protocol]->set_access(PageId{p}, Access::none);
  }
}

void Dsm::Impl::detach(const Extent& extent) {
  withdraw(extent);
  vm_.discard(extent.pages);
  table_.detach(extent.pages);
  homes_.forget_claims(extent);
  sharing_.forget(extent.pages);
}

// ---- Impl: faults and messages ---------------------------------------------------------------------------------------------------

bool Dsm::Impl::fault(PageId page, bool write) {
  PageEntry& entry = table_[page];
  const PageGuard guard(env_, entry);
  if (!entry.attached() && !attach(page, entry)) return false;
  // Another thread may have got the right while this one waited for the lock.
  if (entry.access() >= (write ? Access::write : Access::read)) return true;
  const Nanos began = env_.now();
  ProtocolEnv& protocol_env = *envs_[entry.protocol()];
  const FramePins pins = protocol_env.pin({page, 1}, false);
  Protocol& protocol = *protocols_[entry.protocol()];
  if (write) {
    protocol.on_write_fault(page);
  } else {
    protocol.on_read_fault(page);
  }
  protocol_env.count(page, write ? Stat::write_faults : Stat::read_faults);
  protocol_env.count(page, Stat::fault_ns, static_cast<std::uint64_t>(env_.now() - began));
  return true;
}

void Dsm::Impl::on_message(NodeId from, std::span<const std::byte> body) noexcept {
  if (body.size() < kProtocolHeaderBytes) return;
  const auto protocol = static_cast<unsigned>(body[0]);
  if (protocol >= protocols_.size()) return;
  body = body.subspan(kProtocolHeaderBytes);
  if (reinterpret_cast<std::uintptr_t>(body.data()) % 8 == 0) return protocols_[protocol]->on_message(from, body);
  std::vector<std::uint64_t> aligned((body.size() + 7) / 8);
  std::memcpy(aligned.data(), body.data(), body.size());
  protocols_[protocol]->on_message(from, std::as_bytes(std::span(aligned)).first(body.size()));
}

// ---- Impl: memory --------------------------------------------------------------------------------------------------------------

bool Dsm::Impl::inside_shared(std::uint64_t offset, std::uint64_t bytes) const {
  const PageRange shared = config_.layout.shared;
  const std::uint64_t first = shared.first.value * kPageSize;
  const std::uint64_t end = shared.end() * kPageSize;
  return offset >= first && offset < end && bytes <= end - offset;
}

void Dsm::Impl::write_zeros(std::uint64_t offset, std::uint64_t bytes) {
  if (vm_.app_base() != nullptr) {
    std::memset(vm_.app_base() + offset, 0, bytes);
    return;
  }
  static constexpr std::byte kZeros[Allocator::kMaxSlot] = {};
  NETVM_CHECK(bytes <= sizeof(kZeros) && vm_.checked_store(offset, kZeros, bytes), "a freed object cannot be cleared");
}

// ---- Dsm -------------------------------------------------------------------------------------------------------------------------

Dsm::Dsm(const DsmConfig& config, Env& env, HostVm& vm, nic::Nic& nic, Stats& stats)
    : impl_(std::make_unique<Impl>(config, env, vm, nic, stats)) {
  vm.set_fault_handler(this);
}

Dsm::~Dsm() { impl_->vm_.set_fault_handler(nullptr); }

void Dsm::close() {
  impl_->service_.close();
  impl_->background_.close();
}

namespace {

/// Empty if the options are right, else what is wrong with them.
std::string complaint(std::uint64_t bytes, const AllocOptions& options, std::uint32_t nodes) {
  if (bytes == 0) return "an allocation of 0 bytes";
  if (!std::has_single_bit(options.alignment) || options.alignment > Allocator::kMaxAlignment) {
    return fmt::format("an alignment of {} bytes: it must be a power of two, at most {}", options.alignment,
                       format_bytes(Allocator::kMaxAlignment));
  }
  if (options.placement == Placement::at_node && options.home.value >= nodes) {
    return fmt::format("placement at node {}: this job has the nodes 0 to {}", options.home.value, nodes - 1);
  }
  if (!options.protocol.empty() && find_protocol(options.protocol) < 0) {
    std::string names;
    for (const ProtocolEntry& entry : protocols()) names += fmt::format("{}{}", names.empty() ? "" : ", ", entry.traits.name);
    return fmt::format("protocol \"{}\" does not exist; there are: {}", options.protocol, names);
  }
  return {};
}

}  // namespace

Result<std::uint64_t> Dsm::allocate(std::uint64_t bytes, const AllocOptions& options, std::string* why) {
  std::string wrong = complaint(bytes, options, impl_->nic_.nodes());
  if (!wrong.empty()) {
    if (why != nullptr) *why = std::move(wrong);
    return Status::invalid;
  }
  AllocRequest request;
  request.bytes = bytes;
  request.alignment = std::max<std::uint64_t>(options.alignment, 1);
  request.requester = impl_->nic_.node().value;
  request.protocol =
      static_cast<std::uint8_t>(options.protocol.empty() ? static_cast<int>(impl_->default_protocol_) : find_protocol(options.protocol));
  request.placement = options.placement;
  request.home = options.placement == Placement::at_node ? options.home.value : 0;
  if (const auto kept = impl_->small_objects_.take(request)) return *kept;
  const Result<Allocation> allocation = impl_->service_.allocate(request, why);
  if (!allocation) return allocation.status();
  impl_->regions_.add(allocation->extent);
  if (allocation->extent.is_slab()) impl_->small_objects_.note_allocated(allocation->extent, allocation->offset);
  return allocation->offset;
}

Status Dsm::free(std::uint64_t offset) {
  if (!impl_->inside_shared(offset, 1)) return Status::invalid;
  const auto found = impl_->extent_of(PageId{offset / kPageSize});
  if (!found) return Status::invalid;
  if (found->extent.is_slab()) {
    switch (impl_->small_objects_.free(found->extent, offset)) {
      case SmallObjects::Fate::invalid:
        return Status::invalid;
      case SmallObjects::Fate::keep:
        impl_->write_zeros(offset, found->extent.slot_bytes);
        impl_->small_objects_.keep(found->extent, offset);
        return Status::ok;
      case SmallObjects::Fate::give:
        break;
    }
  }
  return impl_->service_.free(offset);
}

Dsm::Usage Dsm::usage() {
  const AllocationService::Usage usage = impl_->service_.usage();
  return {usage.used, usage.available};
}

bool Dsm::touch(std::uint64_t offset, std::uint64_t bytes, bool write) {
  if (bytes == 0) return true;
  if (!impl_->inside_shared(offset, bytes)) return false;
  const Access wanted = write ? Access::write : Access::read;
  const std::uint64_t last = (offset + bytes - 1) / kPageSize;
  for (std::uint64_t page = offset / kPageSize; page <= last; ++page) {
    if (impl_->table_[PageId{page}].access() < wanted && !impl_->fault(PageId{page}, write)) return false;
    impl_->vm_.use_now(PageId{page}, write);
  }
  return true;
}

bool Dsm::bind(sync::SyncId lock, std::uint64_t offset, std::uint64_t bytes) {
  if (bytes == 0) return true;
  if (!impl_->inside_shared(offset, bytes)) return false;
  const auto found = impl_->extent_of(PageId{offset / kPageSize});
  if (!found || !found->extent.pages.contains(PageId{(offset + bytes - 1) / kPageSize})) return false;
  impl_->use(found->extent.protocol);
  impl_->protocols_[found->extent.protocol]->bind(lock, offset, bytes);
  return true;
}

Result<NodeId> Dsm::home_of(std::uint64_t offset) {
  if (!impl_->inside_shared(offset, 1)) return Status::invalid;
  const PageId page{offset / kPageSize};
  const PageEntry& entry = impl_->table_[page];
  if (entry.home_known()) return entry.home();
  const auto found = impl_->extent_of(page);
  if (!found) return Status::invalid;
  if (Homes::computable(found->extent)) return Homes::compute(page, found->extent, impl_->nic_.nodes());
  return Status::unmapped;
}

bool Dsm::on_fault(PageId page, bool write) noexcept { return impl_->table_.contains(page) && impl_->fault(page, write); }

std::vector<RegionReport> Dsm::report() const { return impl_->regions_.report(); }

}  // namespace netvm::dsm
