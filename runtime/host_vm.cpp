// HostVm: the two views of a node's frames, and what happens on a fault. The mechanisms behind it: trap_*.cpp, access_table, residency.
#include "runtime/host_vm.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>

#include "runtime/check.hpp"
#include "runtime/file_size.hpp"
#include "runtime/host_vm_state.hpp"
#include "runtime/log.hpp"

namespace netvm {
namespace {

constexpr std::uint64_t kMaxPages = std::uint64_t{1} << 34;  // 64 TiB: half of what user space can address on x86-64

std::string hex(std::uintptr_t value) {
  char text[32];
  std::snprintf(text, sizeof text, "0x%llx", static_cast<unsigned long long>(value));
  return text;
}

std::string error_text(int error) { return std::strerror(error); }

// Which mapping of this process lies in [begin, end), as a sentence; empty if none is found.
std::string who_is_there(std::uintptr_t begin, std::uintptr_t end) {
  std::ifstream maps("/proc/self/maps");
  for (std::string line; std::getline(maps, line);) {
    unsigned long long first = 0;
    unsigned long long last = 0;
    if (std::sscanf(line.c_str(), "%llx-%llx", &first, &last) != 2 || first >= end || last <= begin) continue;
    const std::size_t name = line.find_first_of("/[");
    return "; there lies " + (name == std::string::npos ? std::string("an unnamed mapping") : line.substr(name)) + " at " + hex(first) +
           "-" + hex(last);
  }
  return "";
}

bool configuration_is_right(const HostVmConfig& config, std::string* why) {
  if (config.pages == 0 || config.pages > kMaxPages) {
    *why = "a host VM of " + std::to_string(config.pages) + " pages: it must have between 1 and " + std::to_string(kMaxPages);
    return false;
  }
  if (config.base % kPageSize != 0) {
    *why = "the application view's address " + hex(config.base) + " is not a multiple of the page size";
    return false;
  }
  if (config.base == 0 && config.trap != TrapKind::checked) {
    *why = "trap " + std::string(to_string(config.trap)) + " needs an address for the application view; only the checked trap does without";
    return false;
  }
  if (config.budget_pages != 0 && config.budget_pages < Pager::kLeastBudget) {
    *why = "a memory budget of " + std::to_string(config.budget_pages * kPageSize) + " bytes: no program gets on with less than " +
           std::to_string(Pager::kLeastBudget * kPageSize);
    return false;
  }
  return true;
}

// What both views need to be told. Kernels without a feature refuse the advice, and then do not need it.
void advise_view(void* view, std::uint64_t bytes) {
  (void)::madvise(view, bytes, MADV_NOHUGEPAGE);  // frames come and go one by one
  (void)::madvise(view, bytes, MADV_DONTDUMP);    // writing a core file would bring in every frame of the range, needed or not
}

}  // namespace

Result<std::unique_ptr<HostVm>> HostVm::create(const HostVmConfig& config, Env& env, std::string* why) {
  if (!configuration_is_right(config, why)) return Status::invalid;
  std::unique_ptr<HostVm> vm(new HostVm(config, env));
  if (!vm->map_views(why)) return Status::exhausted;
  if (const Status status = vm->start_trap(why); status != Status::ok) return status;
  if (const Status status = vm->start_pager(why); status != Status::ok) return status;
  if (const Status status = vm->start_frame_check(why); status != Status::ok) return status;
  return vm;
}

HostVm::HostVm(const HostVmConfig& config, Env& env) : config_(config), env_(env) {}

HostVm::~HostVm() {
  if (attached_) detach_fault_target(state_.get());
  state_.reset();
  if (app_mapped_) ::munmap(app_base(), bytes());
  windows_.for_each([](const AppWindow& window) { ::munmap(window.page(window.pages.first), window.bytes()); });
  if (frame_base_ != nullptr) ::munmap(frame_base_, bytes());
}

bool HostVm::map_views(std::string* why) {
  frames_fd_ = config_.frames_fd;
  if (frames_fd_ < 0) {
    own_frames_.reset(::memfd_create("netvm-frames", MFD_CLOEXEC));
    frames_fd_ = own_frames_.get();
    if (frames_fd_ < 0) {
      *why = "making the memory file of the frames: " + error_text(errno) + (errno == EMFILE ? " (raise ulimit -n)" : "");
      return false;
    }
  }
  if (!fits_file_size_limit("the memory file of the frames", bytes(), why)) return false;
  if (::ftruncate(frames_fd_, static_cast<off_t>(bytes())) != 0) {
    *why = "giving the memory file of the frames its size of " + std::to_string(bytes()) + " bytes: " + error_text(errno);
    return false;
  }
  void* frames = ::mmap(nullptr, bytes(), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, frames_fd_, 0);
  if (frames == MAP_FAILED) {
    *why = "mapping " + std::to_string(bytes()) + " bytes of frames: " + error_text(errno) +
           (errno == ENOMEM ? " (is the address space limited? see ulimit -v; or ask for less, NETVM_ADDRESS_SPACE)" : "");
    return false;
  }
  frame_base_ = static_cast<std::byte*>(frames);
  advise_view(frames, bytes());
  if (config_.base == 0) return true;

  const bool backed = config_.trap != TrapKind::checked;  // nobody ever gets through a checked view
  void* app =
      ::mmap(app_base(), bytes(), initial_protection(config_.trap),
             (backed ? MAP_SHARED : MAP_PRIVATE | MAP_ANONYMOUS) | MAP_NORESERVE | MAP_FIXED_NOREPLACE, backed ? frames_fd_ : -1, 0);
  const int error = errno;
  if (app == app_base()) {
    app_mapped_ = true;
    // A forked child would see the frames through a view without a trap. It gets none.
    NETVM_CHECK(::madvise(app, bytes(), MADV_DONTFORK) == 0, "madvise(MADV_DONTFORK): %s", strerrordesc_np(errno));
    advise_view(app, bytes());
    return true;
  }
  if (app != MAP_FAILED) ::munmap(app, bytes());  // before Linux 4.17 the address is only a wish
  *why = "the address range " + hex(config_.base) + "-" + hex(config_.base + bytes()) +
         " of shared memory cannot be mapped: " + (app == MAP_FAILED ? error_text(error) : std::string("it is taken")) +
         who_is_there(config_.base, config_.base + bytes()) +
         ". It must be free on every node: ask for less (NETVM_ADDRESS_SPACE) or move what lies there";
  return false;
}

Status HostVm::start_trap(std::string* why) {
  state_ = std::make_unique<State>(config_, windows_, frames_fd_, frame_base_, env_);
  if (!state_->table.valid() || !state_->residency.valid()) {
    *why = "reserving the page table of " + std::to_string(config_.pages) + " pages: " + error_text(ENOMEM) + " (see ulimit -v)";
    return Status::exhausted;
  }
  const AppView view{app_base(), bytes(), &windows_};
  switch (config_.trap) {
    case TrapKind::userfaultfd:
      state_->trap = make_userfaultfd_trap(view, why);
      break;
    case TrapKind::mprotect:
      state_->trap = make_mprotect_trap(view, why);
      break;
    case TrapKind::checked:
      state_->trap = make_checked_trap(view, why);
      break;
  }
  if (state_->trap == nullptr) return Status::exhausted;
  if (!app_mapped_) return Status::ok;
  if (!attach_fault_target(config_.base, config_.base + bytes(), state_.get())) {
    *why = "this process has " + std::to_string(kMaxFaultTargets) + " host VMs with an application view already; it cannot have more";
    return Status::exhausted;
  }
  attached_ = true;
  return Status::ok;
}

Status HostVm::start_pager(std::string* why) {
  if (config_.budget_pages == 0) return Status::ok;
  state_->store = config_.store;
  if (state_->store == nullptr) {
    auto file = FileBackingStore::open(config_.backing, config_.pages, why);
    if (!file) return file.status();
    state_->store = std::move(file).value();
  }
  state_->pager = std::make_unique<Pager>(PagerParts{env_, state_->table, state_->residency, *state_->trap, *state_->store, config_.stats,
                                                     frame_base_, config_.pages, config_.budget_pages});
  if (state_->pager->valid()) return Status::ok;
  *why = "reserving the pager's table of " + std::to_string(config_.pages) + " pages: " + error_text(ENOMEM) + " (see ulimit -v)";
  return Status::exhausted;
}

Status HostVm::start_frame_check(std::string* why) {
  if (!config_.check_frames) return Status::ok;
  auto check = FrameCheck::watch(frame_base_, bytes(), *state_, why);
  if (!check) return check.status();
  state_->frame_check = std::move(check).value();
  return Status::ok;
}

bool HostVm::offset_of(std::uintptr_t address, std::uint64_t* offset) const {
  if (config_.base != 0 && address - config_.base < bytes()) {
    *offset = address - config_.base;
    return windows_.of(PageId{*offset >> kPageShift}) == nullptr;
  }
  const AppWindow* window = windows_.at(address);
  if (window == nullptr) return false;
  *offset = window->pages.first.value * kPageSize + (address - window->address);
  return true;
}

bool HostVm::page_of(std::uintptr_t address, PageId* page) const {
  std::uint64_t offset = 0;
  if (!offset_of(address, &offset)) return false;
  *page = PageId{offset >> kPageShift};
  return true;
}

bool HostVm::window_is_right(const AppWindow& window, std::string* why) const {
  const std::uintptr_t end = window.address + window.bytes();
  if (config_.trap == TrapKind::checked || !app_mapped_) {
    *why = "the checked trap serves no raw pointers, and so no windows";
  } else if (window.pages.count == 0 || window.pages.end() > config_.pages || window.pages.end() < window.pages.first.value) {
    *why = "a window of " + std::to_string(window.pages.count) + " pages from page " + std::to_string(window.pages.first.value) +
           " on: there are " + std::to_string(config_.pages);
  } else if (window.address % kPageSize != 0 || end < window.address) {
    *why = "a window at " + hex(window.address) + ": that is not the start of a page";
  } else if (windows_.overlapping(window.pages) != nullptr || windows_.overlapping(window.address, window.bytes()) != nullptr ||
             (window.address < config_.base + bytes() && config_.base < end)) {
    *why = "a window at " + hex(window.address) + "-" + hex(end) + " overlaps other shared memory";
  } else {
    return true;
  }
  return false;
}

Status HostVm::add_window(PageRange pages, std::uintptr_t address, std::string* why) {
  const AppWindow window{pages, address};
  if (!window_is_right(window, why)) return Status::invalid;
  if (windows_.full()) {
    *why = "a host VM has at most " + std::to_string(AppWindows::kMost) + " windows";
    return Status::exhausted;
  }
  for (std::uint64_t i = pages.first.value; i != pages.end(); ++i) {
    NETVM_CHECK(state_->table.access(PageId{i}) == Access::none, "page %llu gets a window, but the application has a right to it",
                static_cast<unsigned long long>(i));
  }
  std::byte* const at = window.page(pages.first);
  void* const mapped = ::mmap(at, window.bytes(), initial_protection(config_.trap), MAP_SHARED | MAP_NORESERVE | MAP_FIXED, frames_fd_,
                              static_cast<off_t>(pages.first.value * kPageSize));
  if (mapped != at) {
    *why = "mapping shared memory at " + hex(address) + ": " + error_text(errno);
    return Status::exhausted;
  }
  NETVM_CHECK(::madvise(at, window.bytes(), MADV_DONTFORK) == 0, "madvise(MADV_DONTFORK): %s", strerrordesc_np(errno));
  advise_view(at, window.bytes());
  NETVM_CHECK(::mprotect(app_base() + pages.first.value * kPageSize, window.bytes(), PROT_NONE) == 0, "mprotect: %s",
              strerrordesc_np(errno));
  if (!state_->trap->cover(window, why)) return Status::exhausted;
  if (!attach_fault_target(address, address + window.bytes(), state_.get())) {
    *why = "this process has " + std::to_string(kMaxFaultTargets) + " ranges of shared memory already; it cannot have more";
    return Status::exhausted;
  }
  windows_.add(window);
  return Status::ok;
}

void HostVm::set_fault_handler(FaultHandler* handler) { state_->handler.store(handler); }

void HostVm::set_residency_listener(ResidencyListener* listener) { state_->residency.set_listener(listener); }

void HostVm::set_page_owner(PageOwner* owner) {
  if (state_->pager != nullptr) state_->pager->set_owner(owner);
}

void HostVm::set_access(PageRange pages, Access from, Access to) {
  NETVM_CHECK(pages.end() <= config_.pages && pages.end() >= pages.first.value, "pages %llu and the next %llu of a range of %llu",
              static_cast<unsigned long long>(pages.first.value), static_cast<unsigned long long>(pages.count),
              static_cast<unsigned long long>(config_.pages));
  if (pages.count == 0 || from == to) return;
  if (state_->pager != nullptr) return state_->pager->set_access(pages, from, to);
  if (to < from) {
    state_->table.lower(pages, from, to, env_);  // first: nobody may put back what the trap takes away
    state_->trap->apply(pages, from, to);
    return;
  }
  if (from == Access::none) {
    const Status status = make_resident(pages);
    NETVM_CHECK(status == Status::ok, "no memory for the frames of %llu pages at page %llu (%s): the machine is out of memory",
                static_cast<unsigned long long>(pages.count), static_cast<unsigned long long>(pages.first.value), to_string(status).data());
  }
  state_->trap->apply(pages, from, to);
  state_->table.raise(pages, from, to);
}

Status HostVm::make_resident(PageRange pages) {
  if (pages.count == 0) return Status::ok;
  if (pages.end() > config_.pages || pages.end() < pages.first.value) return Status::range;
  return state_->pager != nullptr ? state_->pager->make_resident(pages) : state_->residency.bring_in(pages);
}

// Where there is no budget, resident is pinned.
Result<FramePins> HostVm::pin(PageRange pages, bool write) {
  if (state_->pager == nullptr || pages.count == 0) {
    if (const Status status = make_resident(pages); status != Status::ok) return status;
    return FramePins(this, pages);
  }
  if (pages.end() > config_.pages || pages.end() < pages.first.value) return Status::range;
  if (const Status status = state_->pager->pin(pages, write); status != Status::ok) return status;
  return FramePins(this, pages);
}

FramePins HostVm::try_pin(PageRange pages, bool write) {
  if (state_->pager == nullptr || pages.count == 0) return make_resident(pages) == Status::ok ? FramePins(this, pages) : FramePins();
  if (pages.end() > config_.pages || pages.end() < pages.first.value) return {};
  return state_->pager->try_pin(pages, write) ? FramePins(this, pages) : FramePins();
}

void HostVm::unpin(PageRange pages) {
  if (state_->pager != nullptr) state_->pager->unpin(pages);
}

std::uint64_t HostVm::most_pins() const { return state_->pager != nullptr ? state_->pager->most_pins() : config_.pages; }

void HostVm::prefetch(PageRange pages) {
  if (state_->pager == nullptr) return (void)make_resident(pages);
  if (pages.end() <= config_.pages && pages.end() >= pages.first.value) state_->pager->prefetch(pages);
}

bool HostVm::resident(PageId page) const { return page.value < config_.pages && state_->resident(page); }

void HostVm::wire(PageRange pages) {
  if (state_->frame_check != nullptr) state_->frame_check->exempt(pages);
  if (state_->pager != nullptr) state_->pager->wire(pages);
}

std::uint64_t HostVm::evict(std::uint64_t pages) { return state_->pager != nullptr ? state_->pager->evict(pages) : 0; }

void HostVm::use_now(PageId page, bool write) {
  const Access need = write ? Access::write : Access::read;
  if (state_->pager == nullptr || page.value >= config_.pages) return;
  if (effective(state_->table.access(page), state_->table.withheld(page)) < need) (void)state_->resolve(page, need);
}

std::uint64_t HostVm::resident_pages() const { return state_->pager != nullptr ? state_->pager->resident_pages() : 0; }

HostVm::Failure HostVm::failure() const { return state_->pager != nullptr ? state_->pager->failure() : Failure{}; }

namespace {

constexpr const char* kRemedy =
    "Free space there, name another place with NETVM_BACKING, or let the nodes keep more in memory (NETVM_MEMORY)";

}  // namespace

void HostVm::end_without(PageId page, Status why) const { state_->end_without(page, why); }

void HostVm::State::end_without(PageId page, Status why) const {
  log_line(kLogError, "page %llu cannot be brought in (%s): %s. The program cannot go on without it, so the job ends. %s",
           static_cast<unsigned long long>(page.value), to_string(why).data(), pager != nullptr ? pager->failure().text : "no memory",
           kRemedy);
  ::_exit(EXIT_FAILURE);  // as Bootstrap::abort_job(): destructors might wait for nodes that are being ended
}

void HostVm::tell_of_failure(PageId page, const char* what_follows) const {
  static std::atomic<bool> told{false};
  if (told.exchange(true)) return;
  log_line(kLogError, "page %llu cannot be brought in: %s; %s (said once, others may follow). %s",
           static_cast<unsigned long long>(page.value), state_->pager != nullptr ? failure().text : "no memory", what_follows, kRemedy);
}

void HostVm::charge(std::int64_t pages) {
  if (state_->pager != nullptr) state_->pager->charge(pages);
}

void HostVm::close() {
  if (state_->pager != nullptr) state_->pager->close();
}

void HostVm::discard(PageRange pages) {
  NETVM_CHECK(pages.end() <= config_.pages && pages.end() >= pages.first.value, "pages %llu and the next %llu of a range of %llu",
              static_cast<unsigned long long>(pages.first.value), static_cast<unsigned long long>(pages.count),
              static_cast<unsigned long long>(config_.pages));
  if (pages.count == 0) return;
  if (state_->pager != nullptr) return state_->pager->discard(pages);
  state_->residency.discard(pages, state_->table);
}

FaultVerdict HostVm::State::on_signal(const SignalFault& fault) noexcept {
  const AppWindow* const window = windows.at(fault.address);
  const PageId page{window != nullptr ? window->pages.first.value + ((fault.address - window->address) >> kPageShift)
                                      : (fault.address - config.base) >> kPageShift};
  if (window == nullptr && windows.of(page) != nullptr) {
    report_bad_access("wild access to", fault.address, fault.kind, "not allocated shared memory");
    return FaultVerdict::pass_on;
  }
  if (!trap->reports_fault({fault.signal, fault.code})) {
    if (config.trap == TrapKind::checked) {
      report_bad_access("access to", fault.address, fault.kind, "NETVM_TRAP=checked does not serve raw pointers");
    } else if (fault.signal == SIGSEGV && fault_signal_has_previous_handler(SIGSEGV)) {
      trap->conceal(page);  // a handler that recovers may see the page allocated later
    }
    return FaultVerdict::pass_on;
  }
  // Where the machine does not tell, the page's right does: what faults on a readable page is a write.
  const bool write = fault.kind == AccessKind::unknown ? effective(table.access(page), table.withheld(page)) == Access::read
                                                       : fault.kind == AccessKind::write;
  if (const Access granted = table.enter(page, write ? Access::write : Access::read, env); granted != Access::none) {
    // The right is there: another thread's fault brought it, or the kernel dropped the page table entry.
    trap->restore(page, granted);
    table.leave(page);
    return FaultVerdict::run_again;
  }
  if (resolve(page, write ? Access::write : Access::read)) return FaultVerdict::run_again;
  if (call_handler(page, write)) return FaultVerdict::run_again;
  return wild_access(fault, page);
}

void HostVm::State::describe_frame(PageId page, std::span<char> text) const noexcept {
  std::array<char, 128> listener_says{};
  if (const ResidencyListener* listener = residency.listener()) listener->describe(page, listener_says);
  (void)std::snprintf(text.data(), text.size(), "the page is %s%s%s", resident(page) ? "resident (again)" : "not resident",
                      listener_says[0] != 0 ? ", " : "", listener_says.data());
}

FaultVerdict HostVm::State::wild_access(const SignalFault& fault, PageId page) noexcept {
  if (last_reported.exchange(fault.address) != fault.address) {
    std::array<char, 400> text{"not allocated shared memory"};
    std::array<char, 300> where{};
    if (FaultHandler* const asked = handler.load(); asked != nullptr) asked->describe(fault.address - config.base, where);
    if (where[0] != 0) (void)std::snprintf(text.data(), text.size(), "not allocated shared memory; %s", where.data());
    report_bad_access("wild access to", fault.address, fault.kind, text.data());
  }
  return trap->expose(page) ? FaultVerdict::run_again : FaultVerdict::pass_on;
}

}  // namespace netvm
