#include "apps/kit/kit.hpp"

#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "apps/kit/crash.hpp"
#include "apps/kit/dsm_heap.hpp"
#include "apps/kit/file_area.hpp"
#include "apps/kit/memory.hpp"
#include "apps/kit/spin_watch.hpp"
#include "apps/kit/thread_state.hpp"
#include "dsm/protocol.hpp"
#include "runtime/check.hpp"
#include "runtime/fault_signal.hpp"
#include "runtime/log.hpp"

namespace netvm::kit {

namespace {

constexpr int kMostThreadsOfANode = 1024;           // as NETVM_THREADS
constexpr std::uint64_t kPrivateKeys = 1ULL << 62;  // above every offset

std::atomic<Kit*> g_kit{nullptr};

/// What must be the same on all nodes, for they share pointers to functions and globals.
struct Agreement {
  std::uint64_t main;
  std::uint64_t data_begin;
  std::uint64_t data_end;
  std::uint64_t private_globals;
  std::uint64_t libraries;
};

}  // namespace

/// What node 0 tells the others.
struct Kit::Command {
  enum class What : std::uint32_t { create_all, create_one, join, end };
  What what = What::end;
  std::int32_t number = 0;  // create_one: of the thread
  std::int64_t count = 0;   // create_all: threads of the program
  std::uint64_t function = 0;
  std::array<char, 64> name{};
};

ThreadContext& this_thread() {
  thread_local ThreadContext context;
  return context;
}

Kit* Kit::find() { return g_kit.load(); }

Kit& Kit::of(const Place& place) {
  Kit* const kit = find();
  if (kit != nullptr) {
    this_thread().calls.fetch_add(1, std::memory_order_relaxed);  // relaxed: the spin watch only looks whether it moves
    return *kit;
  }
  std::fprintf(
      stderr,
      "netvm: %s:%d: %s: this process is no node of a job: link the program with netvm-cc (it starts NetVM before main()), and use no "
      "macro of c.m4.netvm in constructors or after the end of main()\n",
      place.file, place.line, place.macro);
  std::_Exit(1);
}

void Kit::stop(const Place& place, const std::string& text) const {
  const ThreadContext& me = this_thread();
  const std::string who =
      me.number == ThreadContext::kNone ? std::string("another thread") : fmt::format("thread {} ({})", me.number, me.function);
  const std::string where = place.line != 0 ? fmt::format("{}:{}: ", place.file, place.line) : std::string();
  runtime_->boot->abort_job(fmt::format("{}{} by {} on node {}: {}", where, place.macro, who, node(), text));
  __builtin_unreachable();
}

void Kit::require(Status status, const Place& place) const {
  if (status != Status::ok) stop(place, std::string(describe(status)));
}

std::uint64_t Kit::key_of(const volatile void* object, const Place& place) const {
  const void* const at = const_cast<const void*>(object);
  std::uint64_t offset = 0;
  if (runtime_->offset_of(at, &offset) && runtime_->layout.shared.contains(PageId{offset / kPageSize})) return offset;
  if (image_.contains(at)) return kPrivateKeys + reinterpret_cast<std::uintptr_t>(at);
  stop(place,
       fmt::format(
           "the object at {} is not shared between nodes (it lies on a stack or in memory of malloc()): put it into memory of G_MALLOC "
           "or into a global variable",
           fmt::ptr(at)));
}

// ---- start ---------------------------------------------------------------------------------------------------------------------------

Kit::Kit(const Program& program)
    : program_(program), image_(ProgramImage::of_this_process()), runtime_(std::make_unique<detail::Runtime>(0)) {
  agree();
  check_protocol();
  check_deaths();
  AllocationSites::open(*runtime_);
  open_heap(*runtime_);
  FileArea::open(node(), nodes());
  share_globals();
}

void Kit::agree() {
  if (runtime_->vm->trap() == TrapKind::checked)
    throw Error(
        "netvm: NETVM_TRAP=checked does not serve raw pointers, which is what programs of the porting kit use: choose userfaultfd or "
        "mprotect");
  const Agreement mine{reinterpret_cast<std::uintptr_t>(program_.main), image_.data_begin, image_.data_end,
                       program_.private_globals ? std::uint64_t{1} : std::uint64_t{0}, image_.libraries};
  const auto all = runtime_->exchange(mine);
  for (std::size_t i = 0; i < all.size(); ++i) {
    if (all[i].main != mine.main || all[i].data_begin != mine.data_begin || all[i].data_end != mine.data_end ||
        all[i].private_globals != mine.private_globals) {
      throw Error(fmt::format(
          "netvm: main() lies at {:#x} on node {} and at {:#x} on node {}: pointers to functions mean different things there. Run the same "
          "executable on all nodes, linked with netvm-cc (-no-pie)",
          mine.main, node(), all[i].main, i));
    }
    if (all[i].libraries == mine.libraries) continue;
    if (!image_.foreign_symbol.empty()) {
      throw Error(
          fmt::format("netvm: a global variable points to \"{}\" of another library, which lies elsewhere on node {} than on node {}: "
                      "allow the program to turn "
                      "address randomisation off (personality(2); in a container, its seccomp profile)",
                      image_.foreign_symbol, node(), i));
    }
    if (node() == 0 && i == 1) {
      log_line(kLogError,
               "libraries lie at other addresses on each node, as this system does not let a program turn address randomisation off: "
               "shared globals that point "
               "into them (a FILE* that is stdout) will crash on other nodes");
    }
  }
}

// A program of the macros names no data with its locks, and relies on all that was done before a lock was given back.
void Kit::check_protocol() const {
  const std::string& name = runtime_->settings.protocol;
  const dsm::Consistency consistency = dsm::protocols()[static_cast<std::size_t>(dsm::find_protocol(name))].traits.consistency;
  if (nodes() == 1 || consistency <= dsm::Consistency::release) return;
  if (consistency == dsm::Consistency::entry)
    throw Error(fmt::format(
        "netvm: under protocol {} data travel with the locks that they were bound to, and programs of the porting kit bind none: "
        "choose hlrc or sc-directory (netvmrun --protocol)",
        name));
  if (node() == 0)
    log_line(kLogError,
             "protocol %s shows what was written under the same lock, or before a barrier. Programs may rely on more: if the answer "
             "is wrong, choose hlrc or sc-directory (netvmrun --protocol)",
             name.c_str());
}

// Nobody would run main(), or end the threads of the dead node, whom others join; and a program for one machine has no answer to a mutex whose owner died.
void Kit::check_deaths() const {
  if (node() != 0 || nodes() == 1 || !runtime_->boot->outlives_nodes()) return;
  runtime_->boot->abort_job(
      "--on-death=continue: an unchanged program cannot go on without one of its nodes: it would wait for ever for the threads that ran "
      "there. Leave the "
      "option out, so that a node's death ends the job; programs of netvm.hpp can go on (docs/sync.md)");
}

void Kit::check_globals() const {
  if (!image_.obstacle.empty()) throw Error(fmt::format("netvm: the program's globals cannot be shared: {}", image_.obstacle));
}

std::uint64_t Kit::allocate_for_globals() {
  std::uint64_t offset = 0;
  if (node() == 0) {
    dsm::AllocOptions options;
    options.alignment = kPageSize;
    options.name = "global variables";
    std::string why;
    const auto got = runtime_->dsm->allocate(image_.bytes(), options, &why);
    if (!got) throw Error(fmt::format("netvm: no room for the program's globals: {}", why));
    offset = *got;
  }
  return runtime_->exchange(offset)[0];
}

void Kit::share_globals() {
  check_globals();
  const std::size_t bytes = image_.bytes();
  if (bytes == 0) return;
  const std::uint64_t offset = allocate_for_globals();
  if (program_.private_globals) {
    globals_at_create_ = static_cast<std::byte*>(runtime_->address_of(offset));
    return;
  }
  auto* const data = reinterpret_cast<std::byte*>(image_.data_begin);
  const std::vector<std::byte> contents(data, data + bytes);
  std::string why;
  const PageRange pages{PageId{offset / kPageSize}, bytes / kPageSize};
  if (runtime_->vm->add_window(pages, image_.data_begin, &why) != Status::ok)
    throw Error(fmt::format("netvm: the program's globals cannot be shared: {}", why));
  globals_shared_ = true;
  if (node() == 0) std::memcpy(data, contents.data(), bytes);
  runtime_->require(runtime_->sync->barrier(), "sharing the program's globals");
}

void Kit::send_globals() {
  if (globals_at_create_ != nullptr) std::memcpy(globals_at_create_, reinterpret_cast<const void*>(image_.data_begin), image_.bytes());
}

void Kit::take_globals() {
  if (globals_at_create_ == nullptr || node() == 0 || !local_threads_.empty()) return;
  std::memcpy(reinterpret_cast<void*>(image_.data_begin), globals_at_create_, image_.bytes());
}

namespace {

// Shared globals hold pointers into libraries: stdout in a FILE*, functions in tables. They mean the same on every node if the libraries lie at the same
// addresses, which is so without randomisation. Where the system forbids to turn it off the job goes on, and agree() looks whether it matters.
void begin_again_without_randomisation(char** argv) {
  constexpr unsigned long kAsk = 0xffffffff;
  const int now = ::personality(kAsk);
  if (std::getenv("NETVM_RENDEZVOUS") == nullptr || now < 0 || (now & ADDR_NO_RANDOMIZE) != 0) return;
  if (::personality(static_cast<unsigned long>(now) | ADDR_NO_RANDOMIZE) < 0) return;
  ::execv("/proc/self/exe", argv);
}

}  // namespace

void Kit::start(const Program& program, char** argv) {
  begin_again_without_randomisation(argv);
  fault_signals_on_alternate_stack();  // a stack that is full cannot tell of it
  catch_crashes();                     // before the job: its handlers pass on what is not theirs
  try {
    this_thread().number = 0;
    g_kit.store(new Kit(program));  // lives until the process ends: any thread may be inside
    watch_guard_pages(*find());
    SpinWatch::begin(*find());
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    std::_Exit(1);
  }
}

void Kit::run(int argc, char** argv, char** envp) {
  (void)std::setvbuf(stdout, nullptr, _IOLBF, BUFSIZ);  // lines of several nodes come in the order of printing
  if (node() != 0) {
    this_thread().number = ThreadContext::kNone;
    serve();
  }
  NETVM_CHECK(::on_exit(&Kit::on_exit, this) == 0, "no memory for a handler of exit()");
  find_ordinary_stack();
  give_signal_stack();
  SpinWatch::enter();
  const int status = program_.main(argc, argv, envp);
  std::exit(status);
}

// ---- threads -------------------------------------------------------------------------------------------------------------------------

void Kit::command(Command command) {
  if (command.what == Command::What::create_all || command.what == Command::What::create_one) send_globals();
  runtime_->require(runtime_->sync->broadcast(NodeId{0}, std::as_writable_bytes(std::span(&command, 1))), "a command to the nodes");
  if (node() == 0 && command.what != Command::What::end) obey(command);
}

void Kit::serve() {
  runtime_->counted_main.reset();  // from here on it runs nothing of the program
  if (::on_exit(&Kit::on_exit, this) != 0) std::abort();
  for (;;) {
    Command command;
    runtime_->require(runtime_->sync->broadcast(NodeId{0}, std::as_writable_bytes(std::span(&command, 1))), "a command of node 0");
    if (command.what == Command::What::end) break;
    obey(command);
  }
  SpinWatch::end();
  std::fflush(nullptr);
  runtime_->leave();
  std::_Exit(0);  // destructors of globals are node 0's business
}

void Kit::obey(const Command& command) {
  const auto f = reinterpret_cast<Function>(command.function);
  const Place place{"CREATE", command.name.data(), 0};
  switch (command.what) {
    case Command::What::create_all:
      take_globals();
      for (std::int64_t i = 1; i < command.count; ++i) {
        if (i * nodes() / command.count == node()) start_thread(f, command.name.data(), static_cast<int>(i), place);
      }
      break;
    case Command::What::create_one:
      if (command.number % nodes() != node()) break;
      take_globals();
      start_thread(f, command.name.data(), command.number, place);
      break;
    case Command::What::join:
      join_threads();
      runtime_->require(runtime_->sync->barrier(), "WAIT_FOR_END");
      break;
    case Command::What::end:
      break;
  }
}

namespace {

struct Birth {
  Function function;
  int number;
  std::size_t local;
  std::string name;
};

}  // namespace

void Kit::start_thread(Function f, const char* name, int number, const Place& place) {
  auto birth = std::make_unique<Birth>(Birth{f, number, local_threads_.size() + (node() == 0 ? 1 : 0), name});
  if (birth->local >= kMostThreadsOfANode)
    stop(place,
         fmt::format("thread {} would be the {}th of this node; a node has at most {}: start more nodes (netvmrun -n), or fewer threads",
                     number, birth->local + 1, kMostThreadsOfANode));
  const auto body = [](void* argument) -> void* {
    const std::unique_ptr<Birth> mine(static_cast<Birth*>(argument));
    this_thread().number = mine->number;
    this_thread().function = mine->name.c_str();
    find_ordinary_stack();
    give_signal_stack();
    SpinWatch::enter();
    const auto& cores = Kit::find()->runtime_->binding.application_cores;
    if (mine->local < cores.size()) bind_this_thread(cores[mine->local]);
    {
      const detail::CountedThread counted(*Kit::find()->runtime_->env, Kit::find()->runtime_->stats);
      mine->function();
    }
    SpinWatch::leave();
    this_thread().number = ThreadContext::kNone;
    take_away_signal_stack();
    return nullptr;
  };
  pthread_t thread{};
  const int error = ::pthread_create(&thread, nullptr, body, birth.get());
  if (error != 0)
    stop(place, fmt::format("thread {} cannot be started on this node: {} (see ulimit -u, or start fewer threads a node)", number,
                            std::strerror(error)));
  static_cast<void>(birth.release());
  local_threads_.push_back(thread);
}

void Kit::join_threads() {
  for (const pthread_t thread : local_threads_) ::pthread_join(thread, nullptr);
  local_threads_.clear();
}

void Kit::check_caller(const Place& place) const {
  if (node() == 0 && this_thread().number == 0) return;
  stop(place, "only the thread that runs main() may do that");
}

void Kit::create_all(Function f, std::string_view name, long count, const Place& place) {
  check_caller(place);
  if (count < 1) stop(place, fmt::format("of {} threads: there must be at least one", count));
  if (threads_ > 1) stop(place, fmt::format("{} threads of an earlier CREATE were not waited for: WAIT_FOR_END comes first", threads_ - 1));
  if (count / nodes() > kMostThreadsOfANode)
    stop(place,
         fmt::format("of {} threads on {} node{}: a node has at most {}", count, nodes(), nodes() == 1 ? "" : "s", kMostThreadsOfANode));
  if (count < nodes() || count % nodes() != 0) {
    std::fprintf(stderr, "netvm: %s:%d: CREATE of %ld thread%s on %d nodes: %s\n", place.file, place.line, count, count == 1 ? "" : "s",
                 nodes(), count < nodes() ? "some nodes have none and do nothing" : "some nodes have one more than others");
  }
  Command all{Command::What::create_all, 0, count, reinterpret_cast<std::uintptr_t>(f), {}};
  name.copy(all.name.data(), all.name.size() - 1);
  threads_ = static_cast<int>(count);
  if (count > 1) command(all);
}

void Kit::create_one(Function f, std::string_view name, const Place& place) {
  check_caller(place);
  Command one{Command::What::create_one, threads_, 0, reinterpret_cast<std::uintptr_t>(f), {}};
  name.copy(one.name.data(), one.name.size() - 1);
  ++threads_;
  command(one);
}

void Kit::wait_for_end(long count, const Place& place) {
  check_caller(place);
  if (count > threads_) {
    stop(place, fmt::format("it waits for {} threads, but the program has {} (CREATE was called for fewer): it would wait for ever", count,
                            threads_));
  }
  if (threads_ == 1) return;
  command({Command::What::join, 0, 0, 0, {}});
  threads_ = 1;
}

// ---- end -----------------------------------------------------------------------------------------------------------------------------

void Kit::on_exit(int status, void* self) {
  Kit& kit = *static_cast<Kit*>(self);
  if (kit.runtime_ == nullptr || kit.runtime_->owner != ::getpid()) return;
  std::fflush(nullptr);
  if (status != 0) std::_Exit(status);  // without a farewell: the launcher says so, and ends the others
  if (kit.node() != 0 || this_thread().number != 0) {
    kit.stop({"exit(0)", this_thread().function, 0},
             "the threads of other nodes do not end with it: return from the thread's function instead, and call exit() from main()");
  }
  kit.finish();
}

void Kit::finish() {
  SpinWatch::end();
  const std::size_t bytes = globals_shared_ ? image_.bytes() : 0;
  auto* const data = reinterpret_cast<std::byte*>(image_.data_begin);
  const std::vector<std::byte> contents(data, data + bytes);  // destructors of globals run later, in private memory
  command({Command::What::end, 0, 0, 0, {}});
  runtime_->leave();
  g_kit.store(nullptr);
  runtime_.reset();
  if (bytes == 0) return;
  void* const again = ::mmap(data, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
  if (again != data) std::_Exit(0);  // no memory for what little could still happen
  std::memcpy(data, contents.data(), bytes);
}

}  // namespace netvm::kit
