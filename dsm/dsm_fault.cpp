// Dsm: faults, one by one and ahead of time.
#include <algorithm>
#include <optional>

#include "dsm/dsm_impl.hpp"
#include "sync/waits.hpp"

namespace netvm::dsm {

bool Dsm::Impl::has_access(PageId page, Access wanted) {
  const PageEntry& entry = table_[page];
  return entry.attached() && table_[PageId{page.value >> entry.unit_shift() << entry.unit_shift()}].access() >= wanted;
}

bool Dsm::Impl::fault(PageId page, bool write, std::uint64_t wanted) {
  const std::optional<PageId> head = head_of(page);
  if (!head) return false;
  const Nanos began = env_.now();
  std::optional<sync::Waits::Scope> told;
  if (waits_ != nullptr) told.emplace(*waits_, sync::Wait{"page", sync::page_object(*head), 0, began});
  bool missed = false;
  if (!serve(*head, write, &missed)) return false;
  if (!missed) return true;
  if (!write && config_.read_ahead) read_ahead(*head, wanted);
  const PageEntry& entry = table_[*head];
  if (entry.attached()) envs_[entry.protocol()]->count(*head, Stat::fault_ns, static_cast<std::uint64_t>(env_.now() - began));
  return true;
}

bool Dsm::Impl::serve(PageId head, bool write, bool* missed) {
  PageEntry& entry = table_[head];
  const PageGuard guard(env_, entry);
  if (!entry.attached() && !attach(head, entry)) return false;
  // Another thread may have got the right while this one waited for the lock.
  if (entry.access() >= (write ? Access::write : Access::read)) return true;
  *missed = true;
  ProtocolEnv& protocol_env = *envs_[entry.protocol()];
  const FramePins pins = protocol_env.pin({head, 1}, false);
  Protocol& protocol = *protocols_[entry.protocol()];
  if (write) {
    wrote_.store(true, std::memory_order_relaxed);  // relaxed: a statistic
    protocol.on_write_fault(head);
  } else {
    protocol.on_read_fault(head);
  }
  protocol_env.count(head, write ? Stat::write_faults : Stat::read_faults);
  if (entry.home_known() && entry.home() != nic_.node()) {
    protocol_env.count(head, write ? Stat::write_faults_away : Stat::read_faults_away);
  }
  return true;
}

// ---- pages that the pager takes away ------------------------------------------------------------------------------------------------

Departure Dsm::Impl::on_evict(PageId page) noexcept {
  if (!table_.contains(page)) return Departure::save;
  PageEntry& entry = table_[page];
  if (!entry.attached()) return Departure::save;
  const std::uint32_t region = entry.region();
  const unsigned protocol = entry.protocol();
  Departure departure = Departure::save;
  if (entry.unit_shift() == 0 && entry.lock.try_lock()) {
    if (entry.attached()) departure = protocols_[entry.protocol()]->on_evict(page);
    entry.lock.unlock(env_);
  }
  if (departure != Departure::keep) {  // the pager counts the node's
    regions_.stats(region).add(Stat::evictions);
    envs_[protocol]->own_stats().add(Stat::evictions);
  }
  return departure;
}

// ---- ahead of time -----------------------------------------------------------------------------------------------------------------

std::vector<PageId> Dsm::Impl::take_for_read_ahead(const Extent& extent, PageId head, std::int64_t step, std::uint64_t count) {
  std::vector<PageId> taken;
  const DeadNodes dead = dead_.load() != kNobody ? service_.dead() : DeadNodes{};  // what was theirs is gone, but perhaps nobody wants it
  for (std::uint64_t i = 1; i <= count; ++i) {
    const PageId unit{head.value + static_cast<std::uint64_t>(step) * i * extent.unit_pages()};
    PageEntry& entry = table_[unit];
    // Somebody who holds it fetches it, flushes it or gives it up.
    if (!entry.lock.try_lock()) continue;
    const bool known = entry.attached() || attach(unit, entry);
    if (known && entry.access() == Access::none &&
        (!protocols_[extent.protocol]->has_homes() || (envs_[extent.protocol]->look_up_home(unit) && !dead.contains(entry.home())))) {
      taken.push_back(unit);
    } else {
      entry.lock.unlock(env_);
    }
  }
  if (step < 0) std::reverse(taken.begin(), taken.end());
  return taken;
}

void Dsm::Impl::read_ahead(PageId head, std::uint64_t wanted) {
  const auto found = regions_.find(head);
  if (!found) return;
  const Extent& extent = found->extent;
  if (!protocols_[extent.protocol]->reads_ahead()) return;
  ProtocolEnv& protocol_env = *envs_[extent.protocol];
  const std::uint64_t index = (head.value - extent.pages.first.value) >> extent.unit_shift;
  ReadAhead::Advice advice;
  if (wanted != 0) {
    advice.units = std::min({wanted, ReadAhead::kMostPages, extent.pages.end() - head.value - extent.unit_pages()}) >> extent.unit_shift;
  } else {
    advice = read_ahead_.on_miss(extent, index);
    if (advice.hits != 0) protocol_env.count(head, Stat::read_ahead_hits, advice.hits << extent.unit_shift);
    if (advice.wasted != 0) protocol_env.count(head, Stat::read_ahead_wasted, advice.wasted << extent.unit_shift);
  }
  // With a small memory budget what is fetched ahead must not push out what is used now.
  advice.units = std::min(advice.units, (vm_.most_pins() / 2) >> extent.unit_shift);
  if (advice.units == 0) return;
  const std::vector<PageId> units = take_for_read_ahead(extent, head, advice.step, advice.units);
  std::uint64_t got = 0;
  if (!units.empty()) {
    std::vector<FramePins> pins;
    for (std::size_t i = 0; i < units.size();) {
      std::size_t j = i + 1;
      while (j < units.size() && units[j].value == units[j - 1].value + extent.unit_pages()) ++j;
      pins.push_back(protocol_env.pin({units[i], (j - i) << extent.unit_shift}, false));
      i = j;
    }
    protocols_[extent.protocol]->on_read_ahead(units);
    for (const PageId unit : units) {
      PageEntry& entry = table_[unit];
      got += entry.access() != Access::none ? 1 : 0;
      entry.lock.unlock(env_);
    }
  }
  if (got != 0) protocol_env.count(head, Stat::read_ahead_pages, got << extent.unit_shift);
  if (wanted == 0) read_ahead_.fetched(extent, index, got);
}

bool Dsm::touch(std::uint64_t offset, std::uint64_t bytes, bool write) {
  if (bytes == 0) return true;
  if (!impl_->inside_shared(offset, bytes)) return false;
  const Access wanted = write ? Access::write : Access::read;
  const std::uint64_t last = (offset + bytes - 1) / kPageSize;
  for (std::uint64_t page = offset / kPageSize; page <= last; ++page) {
    if (!impl_->has_access(PageId{page}, wanted) && !impl_->fault(PageId{page}, write, last - page)) return false;
    impl_->vm_.use_now(PageId{page}, write);
  }
  return true;
}

bool Dsm::on_fault(PageId page, bool write) noexcept { return impl_->table_.contains(page) && impl_->fault(page, write); }

}  // namespace netvm::dsm
