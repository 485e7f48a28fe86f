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
      sharing_(config_, vm, nic, table_),
      read_ahead_(config.read_ahead_from),
      background_(env),
      peak_bytes_(protocols().size()),
      service_(config.layout.shared, env, nic, *this) {
  NETVM_CHECK(config_.shared.size() == nic.nodes() && config_.system.size() == nic.nodes(), "a region of each node's memory is needed");
  NETVM_CHECK(protocols().size() <= 32, "%zu protocols", protocols().size());
  const int chosen = find_protocol(config_.default_protocol);
  NETVM_CHECK(chosen >= 0, "no protocol is called %s", config_.default_protocol.c_str());
  const std::uint32_t granularity = config_.default_granularity;
  NETVM_CHECK(std::has_single_bit(granularity) && granularity >= kMinGranularity && granularity <= kMaxGranularity,
              "a coherence granularity of %u bytes", granularity);
  default_protocol_ = static_cast<unsigned>(chosen);
  vm.wire(config_.layout.system);  // the tables in there are looked at and written at any time
  const DsmParts parts{config_, env,      vm,       nic,         stats, table_,         homes_,
                       twins_,  regions_, sharing_, background_, *this, threads_go_on_, barriers_left_};
  for (unsigned i = 0; i < protocols().size(); ++i) {
    envs_.push_back(std::make_unique<ProtocolEnv>(parts, i));
    const bool replaced = i < config_.factories.size() && config_.factories[i] != nullptr;
    protocols_.push_back((replaced ? config_.factories[i] : protocols()[i].make)(*envs_.back()));
  }
  nic.set_message_handler(nic::MessageKind::dsm_protocol, this);
}

Dsm::Impl::~Impl() { nic_.set_message_handler(nic::MessageKind::dsm_protocol, nullptr); }

// ---- Impl: extents -------------------------------------------------------------------------------------------------------------

Result<RegionDirectory::Found> Dsm::Impl::extent_of(PageId page) {
  if (auto known = regions_.find(page)) return *known;
  const Result<Extent> extent = service_.describe(page);
  if (!extent) return extent.status();
  return RegionDirectory::Found{*extent, regions_.add(*extent)};
}

bool Dsm::Impl::must_know(PageId page, Status status) {
  if (status != Status::peer_dead) return ok(status);
  const std::string sentence = fmt::format(
      "node 0 has died, which kept the table of what is allocated, and no node that lives has met the memory at {:#x}: the job ends; what "
      "a "
      "living node has allocated or used goes on",
      reinterpret_cast<std::uintptr_t>(vm_.app_address(page.value * kPageSize)));
  if (config_.end_job) config_.end_job(sentence);
  NETVM_CHECK(false, "%s", sentence.c_str());
  return false;
}

std::optional<Extent> Dsm::Impl::known_extent(PageId page) {
  const auto found = regions_.find(page);
  return found ? std::optional(found->extent) : std::nullopt;
}

std::optional<NodeId> Dsm::Impl::known_home(PageId page) {
  const PageEntry& entry = table_[page];
  return entry.home_known() ? std::optional(entry.home()) : std::nullopt;
}

std::optional<PageId> Dsm::Impl::head_of(PageId page) {
  const PageEntry& entry = table_[page];
  if (entry.attached()) return PageId{page.value >> entry.unit_shift() << entry.unit_shift()};
  const auto found = extent_of(page);
  if (!must_know(page, found.status())) return std::nullopt;
  return found->extent.head_of(page);
}

bool Dsm::Impl::attach(PageId head, PageEntry& entry) {
  const auto found = extent_of(head);
  if (!must_know(head, found.status())) return false;
  const Extent& extent = found->extent;
  if (!entry.home_known()) {
    if (const auto home = homes_.computed(head, extent)) entry.learn_home(*home);
  }
  table_.attach({head, extent.unit_pages()}, extent.protocol, found->region, extent.unit_shift);
  use(extent.protocol);
  protocols_[extent.protocol]->on_attach({head, 1});
  return true;
}

void Dsm::Impl::require_outlives(unsigned protocol) {
  const Traits traits = protocols_[protocol]->traits();
  if (traits.outlives_nodes || !config_.end_job) return;
  std::string others;
  for (const ProtocolEntry& entry : protocols()) {
    if (entry.traits.outlives_nodes) others += (others.empty() ? "" : ", ") + std::string(entry.traits.name);
  }
  config_.end_job("node " + std::to_string(dead_.load()) + " has died, and the program has memory under " + std::string(traits.name) +
                  ", which needs every node: the job ends; protocols that go on: " + others);
}

void Dsm::Impl::forget(const Extent& extent) {
  regions_.remove(extent);
  small_objects_.forget(extent);
}

bool Dsm::Impl::needs_drain(const Extent& extent) const { return !protocols_[extent.protocol]->traits().one_sided; }

void Dsm::Impl::withdraw(const Extent& extent) { (void)withdraw_units(extent); }

std::vector<PageRange> Dsm::Impl::withdraw_units(const Extent& extent) {
  std::vector<PageRange> runs;
  Protocol& protocol = *protocols_[extent.protocol];
  for (std::uint64_t p = extent.pages.first.value; p != extent.pages.end(); p += extent.unit_pages()) {
    // A protocol may have left a note at any page of the unit.
    const PageRange unit{PageId{p}, extent.unit_pages()};
    bool touched = false;
    for (std::uint64_t i = p; i != unit.end(); ++i) touched = touched || !table_[PageId{i}].untouched();
    if (!touched) continue;
    if (!runs.empty() && runs.back().end() == p) {
      runs.back().count += unit.count;
    } else {
      runs.push_back(unit);
    }
    // A release that is flushing the unit holds its lock.
    const PageGuard guard(env_, table_[PageId{p}]);
    protocol.on_detach(unit);
    envs_[extent.protocol]->set_access(PageId{p}, Access::none);
  }
  return runs;
}

void Dsm::Impl::detach(const Extent& extent) {
  const std::vector<PageRange> touched = withdraw_units(extent);
  vm_.discard(extent.pages);
  for (const PageRange& pages : touched) table_.detach(env_, pages);
  homes_.forget_claims(extent);
  sharing_.forget(extent.pages);
  protocols_[extent.protocol]->on_retire(extent.pages);
}

// ---- Impl: messages ---------------------------------------------------------------------------------------------------

void Dsm::Impl::on_message(NodeId from, std::span<const std::byte> body) noexcept {
  if (body.size() < kProtocolHeaderBytes) return;
  const auto protocol = static_cast<unsigned>(body[0]);
  if (protocol >= protocols_.size()) return;
  body = body.subspan(kProtocolHeaderBytes);
  const Nanos began = env_.now();
  deliver(protocol, from, body);
  envs_[protocol]->count(Stat::handler_ns, static_cast<std::uint64_t>(env_.now() - began));
}

void Dsm::Impl::deliver(unsigned protocol, NodeId from, std::span<const std::byte> body) {
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
  vm.set_page_owner(impl_.get());
}

Dsm::~Dsm() {
  impl_->vm_.set_page_owner(nullptr);
  impl_->vm_.set_fault_handler(nullptr);
}

void Dsm::close() {
  impl_->service_.close();
  impl_->background_.close();
}

namespace {

/// Empty if the options are right, else what is wrong with them.
std::string complaint(std::uint64_t bytes, const AllocOptions& options, std::uint32_t nodes, unsigned default_protocol) {
  if (bytes == 0) return "an allocation of 0 bytes";
  if (!std::has_single_bit(options.alignment) || options.alignment > Allocator::kMaxAlignment) {
    return fmt::format("an alignment of {} bytes: it must be a power of two, at most {}", options.alignment,
                       format_bytes(Allocator::kMaxAlignment));
  }
  if (options.granularity != 0 &&
      !(std::has_single_bit(options.granularity) && options.granularity >= kMinGranularity && options.granularity <= kMaxGranularity)) {
    return fmt::format("a coherence granularity of {} bytes: it must be a power of two from {} to {}", options.granularity,
                       format_bytes(kMinGranularity), format_bytes(kMaxGranularity));
  }
  if (options.placement == Placement::at_node && options.home.value >= nodes) {
    return fmt::format("placement at node {}: this job has the nodes 0 to {}", options.home.value, nodes - 1);
  }
  if (!options.protocol.empty() && find_protocol(options.protocol) < 0) {
    std::string names;
    for (const ProtocolEntry& entry : protocols()) names += fmt::format("{}{}", names.empty() ? "" : ", ", entry.traits.name);
    return fmt::format("protocol \"{}\" does not exist; there are: {}", options.protocol, names);
  }
  const auto chosen = options.protocol.empty() ? default_protocol : static_cast<unsigned>(find_protocol(options.protocol));
  const Traits traits = protocols()[chosen].traits;
  if (options.needs && traits.consistency > *options.needs) {
    std::string names;
    for (const ProtocolEntry& entry : protocols()) {
      if (entry.traits.consistency <= *options.needs) names += fmt::format("{}{}", names.empty() ? "" : ", ", entry.traits.name);
    }
    return fmt::format(
        "protocol {} gives {}, but this memory needs {}: choose one of {} for it (AllocationOptions::protocol) or for the "
        "run (netvmrun --protocol)",
        traits.name, to_string(traits.consistency), to_string(*options.needs), names);
  }
  return {};
}

}  // namespace

Result<std::uint64_t> Dsm::allocate(std::uint64_t bytes, const AllocOptions& options, std::string* why) {
  std::string wrong = complaint(bytes, options, impl_->nic_.nodes(), impl_->default_protocol_);
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
  const std::size_t granularity = options.granularity != 0 ? options.granularity : impl_->config_.default_granularity;
  // Where the budget is so small that a unit could not be brought in at once, units are smaller.
  const std::uint64_t unit_pages = std::bit_floor(std::clamp<std::uint64_t>(impl_->vm_.most_pins(), 1, granularity / kPageSize));
  request.unit_shift = static_cast<std::uint8_t>(std::countr_zero(unit_pages));
  // Also where units are smaller: who asks for a granularity relies on its alignment.
  if (options.granularity != 0)
    request.alignment = std::max<std::uint64_t>(request.alignment, bytes > Allocator::kMaxSlot ? options.granularity : 1);
  request.placement = options.placement;
  request.home = options.placement == Placement::at_node ? options.home.value : 0;
  request.name = make_allocation_name(options.name);
  request.dead = impl_->service_.dead();
  if (const auto kept = impl_->small_objects_.take(request)) return *kept;
  const Result<Allocation> allocation = impl_->service_.allocate(request, why);
  if (!allocation) return allocation.status();
  impl_->regions_.add(allocation->extent);
  if (allocation->extent.is_slab()) impl_->small_objects_.note_allocated(allocation->extent, allocation->offset);
  return allocation->offset;
}

void Dsm::tell_waits(sync::Waits& waits) {
  impl_->waits_ = &waits;
  impl_->service_.tell_waits(waits);
}

void Dsm::declare_dead(NodeId node) {
  impl_->service_.declare_dead(node);
  impl_->dead_.store(node.value);
  for (const unsigned i : Impl::Numbers(impl_->in_use_.load())) impl_->require_outlives(i);
}

Status Dsm::free(std::uint64_t offset) {
  if (!impl_->inside_shared(offset, 1)) return Status::invalid;
  const auto found = impl_->extent_of(PageId{offset / kPageSize});
  if (!found) return found.status();
  if (found->extent.is_slab()) {
    switch (impl_->small_objects_.free(found->extent, offset, impl_->service_.dead())) {
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

bool Dsm::bind(sync::SyncId lock, std::uint64_t offset, std::uint64_t bytes) {
  if (bytes == 0) return true;
  if (!impl_->inside_shared(offset, bytes)) return false;
  const auto found = impl_->extent_of(PageId{offset / kPageSize});
  if (!found || !found->extent.pages.contains(PageId{(offset + bytes - 1) / kPageSize})) return false;
  impl_->use(found->extent.protocol);
  impl_->protocols_[found->extent.protocol]->bind(lock, offset, bytes);
  return true;
}

Result<std::uint64_t> Dsm::size_of(std::uint64_t offset) {
  if (!impl_->inside_shared(offset, 1)) return Status::invalid;
  const auto found = impl_->extent_of(PageId{offset / kPageSize});
  if (!found) return found.status();
  return found->extent.is_slab() ? std::uint64_t{found->extent.slot_bytes} : found->extent.pages.count * kPageSize;
}

Result<NodeId> Dsm::home_of(std::uint64_t offset) {
  if (!impl_->inside_shared(offset, 1)) return Status::invalid;
  const auto found = impl_->extent_of(PageId{offset / kPageSize});
  if (!found) return found.status();
  const PageId head = found->extent.head_of(PageId{offset / kPageSize});
  const PageEntry& entry = impl_->table_[head];
  if (entry.home_known()) return entry.home();
  if (const auto home = impl_->homes_.computed(head, found->extent)) return *home;
  return Status::unmapped;
}

void Dsm::Impl::note_memory() {
  for (const unsigned i : in_use()) {
    std::atomic<std::uint64_t>& peak = peak_bytes_[i];
    const std::uint64_t now = protocols_[i]->memory_bytes();
    if (now > peak.load(std::memory_order_relaxed)) peak.store(now, std::memory_order_relaxed);  // relaxed, both: a statistic
  }
}

Dsm::MemoryReport Dsm::memory_report() {
  impl_->note_memory();
  MemoryReport report;
  report.peak_twin_bytes = impl_->twins_.peak_bytes();
  for (const unsigned i : impl_->in_use()) {
    const std::uint64_t peak = impl_->peak_bytes_[i].load(std::memory_order_relaxed);  // relaxed: a statistic
    report.peak_protocol_bytes.emplace_back(protocols()[i].traits.name, peak);
  }
  return report;
}

std::vector<RegionReport> Dsm::report() const { return impl_->regions_.report(); }

std::vector<ProtocolReport> Dsm::protocol_reports() {
  impl_->note_memory();
  std::vector<ProtocolReport> reports;
  for (const unsigned i : impl_->in_use()) {
    ProtocolReport report;
    report.name = protocols()[i].traits.name;
    report.peak_bytes = impl_->peak_bytes_[i].load(std::memory_order_relaxed);  // relaxed: a statistic
    const Stats& counted = std::as_const(*impl_->envs_[i]).own_stats();
    for (std::size_t s = 0; s < kStatCount; ++s) report.stats[s] = counted.get(static_cast<Stat>(s));
    reports.push_back(report);
  }
  return reports;
}

std::string Dsm::name_of(std::uint64_t offset) const {
  const auto found = impl_->regions_.find(PageId{offset / kPageSize});
  return found ? std::string(to_string(found->extent.name)) : std::string();
}

std::optional<Consistency> Dsm::consistency_of(std::uint64_t offset) const {
  const auto found = impl_->regions_.find(PageId{offset / kPageSize});
  if (!found) return std::nullopt;
  return protocols()[found->extent.protocol].traits.consistency;
}

std::string Dsm::describe(std::uint64_t offset) const {
  const auto found = impl_->regions_.find_before(PageId{offset / kPageSize});
  if (!found) return {};
  const Extent& extent = found->extent;
  const std::uint64_t begin = extent.pages.first.value * kPageSize;
  const std::uint64_t distance = offset - begin;
  const bool inside = distance < extent.bytes;
  const std::string_view called = to_string(extent.name);
  const std::string what = extent.is_slab() ? "small objects" : called.empty() ? "an allocation" : fmt::format("\"{}\"", called);
  return fmt::format("{} bytes {} {} ({} bytes at {:#x}, protocol {})", inside ? distance : distance - extent.bytes,
                     inside ? "into" : "beyond the end of", what, extent.bytes,
                     reinterpret_cast<std::uintptr_t>(impl_->vm_.app_address(begin)), protocols()[extent.protocol].traits.name);
}

void Dsm::describe(std::uint64_t offset, std::span<char> text) const noexcept {
  const std::string all = describe(offset);
  text[all.copy(text.data(), text.size() - 1)] = '\0';
}

}  // namespace netvm::dsm
