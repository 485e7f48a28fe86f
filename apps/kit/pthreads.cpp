#include "apps/kit/pthreads.hpp"

#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <iostream>
#include <mutex>
#include <new>
#include <optional>
#include <thread>

#include "apps/kit/atomic_code.hpp"
#include "apps/kit/descriptors.hpp"
#include "apps/kit/heap.hpp"
#include "apps/kit/malloc.hpp"
#include "apps/kit/placement.hpp"
#include "apps/kit/pthread_keys.hpp"
#include "apps/kit/pthread_objects.hpp"
#include "apps/kit/real.hpp"
#include "apps/kit/shared_stacks.hpp"
#include "apps/kit/spin_watch.hpp"
#include "apps/kit/thread_state.hpp"
#include "dsm/protocol.hpp"
#include "runtime/check.hpp"
#include "runtime/log.hpp"
#include "runtime/signals_blocked.hpp"
#include "runtime/thread_slot.hpp"

namespace netvm::kit {

NETVM_REAL(pthread_exit);

namespace {

constexpr std::int32_t kMostThreadsOfANode = 1024;
constexpr std::size_t kPrivateStack = std::size_t{1} << 20;
constexpr const char* kProtocol =
    "sc-directory";  // the one that gives what a pthreads program may rely on, racy flags and atomics included

std::atomic<Pthreads*> g_pthreads{nullptr};
std::atomic<bool> g_ending{false};
Placement g_placement;

}  // namespace

/// In shared memory; words whose address names an object are never touched.
struct Pthreads::Control {
  std::uint64_t guard = 0;  // names the mutex of what follows
  std::uint64_t created = 0;
  std::uint64_t placed = 0;  // those of them whose node the placement said
  std::uint64_t living = 0;  // threads but main()'s
  std::uint64_t main_has_left = 0;
  std::uint64_t never = 0;  // names a flag that nobody sets
  std::uint64_t turn = 0;   // names the mutex of changes of the process
};

struct alignas(kPageSize) Pthreads::Mailbox {
  std::uint64_t guard = 0;  // names the mutex of the list
  std::uint64_t posts = 0;  // names the semaphore
  ThreadRecord* first = nullptr;
  ThreadRecord* last = nullptr;
  std::int32_t living = 0;  // under the control's mutex
};

namespace {

/// A mutex between the nodes, named by a word of shared memory.
class SharedGuard {
 public:
  SharedGuard(Pthreads& pthreads, const std::uint64_t* word) : sync_(pthreads.sync()), key_(*pthreads.key_of(word)) {
    static_cast<void>(error_of(sync_.lock(key_, detail::this_thread_id()), "a request to a node"));
  }
  ~SharedGuard() { static_cast<void>(error_of(sync_.unlock(key_, detail::this_thread_id()), "a request to a node")); }
  SharedGuard(const SharedGuard&) = delete;
  SharedGuard& operator=(const SharedGuard&) = delete;

 private:
  sync::Sync& sync_;
  std::uint64_t key_;
};

/// Of a thread that the program has created; ends before its guard's destructor returns.
thread_local std::optional<detail::CountedThread> t_counted;

struct Birth {
  ThreadRecord* record;
  SharedStack stack;
};

std::size_t stack_of_main() {
  rlimit limit{};
  constexpr std::size_t kUsual = std::size_t{8} << 20;
  constexpr std::size_t kMost = std::size_t{256} << 20;
  if (::getrlimit(RLIMIT_STACK, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY) return kUsual;
  return std::clamp<std::size_t>(limit.rlim_cur, std::size_t{1} << 20, kMost);
}

void become_program(ThreadRecord* record, const char* function) {
  this_thread().number = record->number;
  this_thread().function = function;
  t_state.record = record;
  give_signal_stack();
  SpinWatch::enter();
  t_state.program = true;
}

}  // namespace

void misuse(const char* call, const std::string& text) {
  in_runtime([&] { Kit::find()->stop({call, "", 0}, text); });
  __builtin_unreachable();
}

// ---- start -----------------------------------------------------------------------------------------------------------------------------

Pthreads* Pthreads::find() { return g_pthreads.load(std::memory_order_acquire); }  // acquire: partner is start()'s release

void Pthreads::start(const Program& program, int argc, char** argv, char**) {
  ::setenv("NETVM_PROTOCOL", kProtocol, 0);
  find_private_callers();
  static const std::ios_base::Init streams;  // the program's own happens on node 0 only
  Kit::start(program, argv);
  try {
    auto* const self = new Pthreads(*Kit::find(), argc, argv);  // lives until the process ends: any thread may be inside
    g_pthreads.store(self, std::memory_order_release);          // release: partner is find()
    self->open();
    if (self->kit_.node() != 0) {
      self->kit_.runtime().counted_main.reset();  // from here on it runs nothing of the program
      self->serve();
    }
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    std::_Exit(1);
  }
}

Pthreads::Pthreads(Kit& kit, int argc, char** argv) : kit_(kit), argc_(argc), argv_(argv) {}

void Pthreads::open() {
  detail::Runtime& rt = kit_.runtime();
  const auto& traits = dsm::protocols()[static_cast<std::size_t>(dsm::find_protocol(rt.settings.protocol))].traits;
  if (traits.consistency > dsm::Consistency::release) {
    throw Error(
        fmt::format("netvm: threads rely on more than protocol {} gives: choose {} (the default of programs with threads) or hlrc "
                    "(netvmrun --protocol)",
                    rt.settings.protocol, kProtocol));
  }
  if (kit_.node() == 0 && kit_.nodes() > 1 && traits.consistency != dsm::Consistency::sequential) {
    const std::string warning = warning_about_atomics(rt.settings.protocol);
    if (!warning.empty()) log_line(kLogError, "%s", warning.c_str());
  }
  g_placement = Placement::parse(rt.settings.place, kit_.nodes(), rt.threads);
  std::uint64_t offset = 0;
  const auto nodes = static_cast<std::size_t>(kit_.nodes());
  if (kit_.node() == 0) {
    std::string why;
    const auto got = rt.dsm->allocate(kPageSize + nodes * sizeof(Mailbox) + sizeof(KeyTable), {.alignment = kPageSize}, &why);
    if (!got) throw Error(fmt::format("netvm: no room for the threads' table: {}", why));
    offset = *got;
  }
  auto* const memory = static_cast<std::byte*>(rt.address_of(rt.exchange(offset)[0]));
  control_ = reinterpret_cast<Control*>(memory);
  mailboxes_ = reinterpret_cast<Mailbox*>(memory + kPageSize);
  Keys::open(reinterpret_cast<KeyTable*>(memory + kPageSize + nodes * sizeof(Mailbox)));
  Descriptors::open(kit_);
  ProcessState::open(kit_.node());
  (void)std::setvbuf(stdout, nullptr, _IOLBF, BUFSIZ);  // lines of several nodes come in the order of printing
  NETVM_CHECK(::on_exit(&Pthreads::on_exit, this) == 0, "no memory for a handler of exit()");
  if (kit_.node() != 0) return;
  {
    const SignalsBlocked signals;
    std::thread([this] { serve(); }).detach();
  }
  main_record_ = new (Heap::allocate(sizeof(ThreadRecord), kCacheLine, true)) ThreadRecord;
  copy_arguments(argc_, argv_);
  main_record_->real = ::pthread_self();
  become_program(main_record_, "main");
  t_state.is_main = true;
}

// What argv points to may be handed to other threads.
void Pthreads::copy_arguments(int argc, char** argv) {
  argv_ = static_cast<char**>(Heap::allocate((static_cast<std::size_t>(argc) + 1) * sizeof(char*), 16, true));
  for (int i = 0; i < argc; ++i) {
    const std::size_t bytes = std::strlen(argv[i]) + 1;
    argv_[i] = static_cast<char*>(std::memcpy(Heap::allocate(bytes, 16, false), argv[i], bytes));
  }
}

void Pthreads::run_main(int, char**, char** envp) {
  Pthreads& self = *find();
  struct Call {
    Pthreads* self;
    char** envp;
    int status;
  } call{&self, envp, 0};
  const SharedStack stack = in_runtime([&] { return SharedStack::take(self.kit_.runtime(), stack_of_main()); });
  if (stack.begin == 0) misuse("main()", "no room for its stack: raise NETVM_ADDRESS_SPACE (netvmrun --address-space)");
  run_on_shared_stack(
      stack.begin, stack.end,
      [](void* it) {
        auto& mine = *static_cast<Call*>(it);
        mine.status = mine.self->kit_.program().main(mine.self->argc_, mine.self->argv_, mine.envp);
      },
      &call);
  std::exit(call.status);
}

// ---- requests --------------------------------------------------------------------------------------------------------------------------

void Pthreads::post(int node, ThreadRecord* record) {
  Mailbox& box = mailboxes_[node];
  {
    const SharedGuard guard(*this, &box.guard);
    record->next = nullptr;
    (box.first == nullptr ? box.first : box.last->next) = record;
    box.last = record;
  }
  static_cast<void>(
      error_of(objects().release(*key_of(&box.posts), detail::this_thread_id(), 1, INT64_MAX, [] { return 0; }), "a request to a node"));
}

sync::Wait Pthreads::wait_for(const char* what, const std::uint64_t* word) const {
  return {what, sync::SyncId::of_object(*key_of(word)), detail::this_thread_id(), kit_.runtime().env->now()};
}

ThreadRecord* Pthreads::take_request() {
  Mailbox& box = mailboxes_[kit_.node()];
  const sync::Waits::Scope idle(sync().waits(), wait_for("", &box.posts));
  static_cast<void>(error_of(objects().acquire(*key_of(&box.posts), detail::this_thread_id(), [] { return 0; }), "a request to a node"));
  const SharedGuard guard(*this, &box.guard);
  ThreadRecord* const record = box.first;
  box.first = record->next;
  return record;
}

void Pthreads::serve() {
  this_thread().number = ThreadContext::kNone;
  for (;;) {
    ThreadRecord* const request = take_request();
    if (request->what == ThreadRecord::What::end) break;
    if (request->what == ThreadRecord::What::exit) {
      t_state.program = true;  // its handlers are the program's
      this_thread().number = request->number;
      ProcessState::close();
      std::exit(request->status);
    }
    RequestAnswer* const answer = request->answer;
    if (request->what == ThreadRecord::What::change) {
      ProcessState::apply(*static_cast<const ProcessChange*>(request->argument));
    } else if (const int error = start_here(request); error != 0) {
      answer->error = error;
    }
    static_cast<void>(
        error_of(objects().release(*key_of(&answer->given), detail::this_thread_id(), 1, 1, [] { return 0; }), "the answer to a request"));
  }
  SpinWatch::end();
  std::fflush(nullptr);
  kit_.runtime().leave();
  std::_Exit(0);  // destructors of globals are node 0's business
}

// ---- threads ---------------------------------------------------------------------------------------------------------------------------

int Pthreads::choose_node(ThreadRecord* record, const Where& where) {
  const SharedGuard guard(*this, &control_->guard);
  const int node = where.here ? kit_.node() : g_placement.node_of(where.number.value_or(control_->placed));
  if (mailboxes_[node].living >= kMostThreadsOfANode) {
    log_line(kLogError,
             "pthread_create(): thread %llu would be the %dth on node %d; a node has at most %d: start more nodes (netvmrun -n), or fewer "
             "threads at a time. It gets EAGAIN",
             static_cast<unsigned long long>(control_->created) + 1, kMostThreadsOfANode + 1, node, kMostThreadsOfANode);
    return -1;
  }
  record->number = static_cast<std::int32_t>(++control_->created);
  if (!where.here && !where.number) ++control_->placed;
  record->node = node;
  ++control_->living;
  ++mailboxes_[node].living;
  return node;
}

void Pthreads::thread_is_over(int node) {
  bool ends = false;
  {
    const SharedGuard guard(*this, &control_->guard);
    --mailboxes_[node].living;
    ends = --control_->living == 0 && control_->main_has_left != 0;
  }
  if (!ends) return;
  auto* const request = new (Heap::allocate(sizeof(ThreadRecord), kCacheLine, true)) ThreadRecord;
  request->what = ThreadRecord::What::exit;
  post(0, request);
}

int Pthreads::create(pthread_t* thread, const pthread_attr_t* attributes, void* (*function)(void*), void* argument, const Where& where) {
  int detached = PTHREAD_CREATE_JOINABLE;
  std::size_t stack_bytes = 0;
  pthread_attr_t defaults;
  const bool own = attributes == nullptr;
  if (own && ::pthread_attr_init(&defaults) != 0) return EAGAIN;
  if (own) attributes = &defaults;
  if (::pthread_attr_getdetachstate(attributes, &detached) != 0 || ::pthread_attr_getstacksize(attributes, &stack_bytes) != 0)
    return EINVAL;
  if (own) ::pthread_attr_destroy(&defaults);
  return in_runtime([&]() -> int {
    void* const memory = Heap::allocate(sizeof(ThreadRecord), kCacheLine, true);
    if (memory == nullptr) return EAGAIN;
    auto* const record = new (memory) ThreadRecord;
    record->function = function;
    record->argument = argument;
    record->stack_bytes = stack_bytes;
    record->detached = detached == PTHREAD_CREATE_DETACHED ? 1 : 0;
    sigset_t blocked{};
    ::pthread_sigmask(SIG_BLOCK, nullptr, &blocked);
    record->blocked = blocked;
    const int node = choose_node(record, where);
    if (node < 0) {
      static_cast<void>(Heap::free(record));
      return EAGAIN;
    }
    *thread = reinterpret_cast<pthread_t>(record);
    const std::int32_t number = record->number;
    const int error = node == kit_.node() ? start_here(record) : ask(node, record);
    if (error == 0) return 0;
    log_line(kLogError,
             "pthread_create(): thread %d cannot be started on node %d with a stack of %zu bytes: %s (see ulimit -u, and netvmrun "
             "--address-space). It gets EAGAIN",
             number, node, stack_bytes, strerrordesc_np(error));
    thread_is_over(node);
    static_cast<void>(Heap::free(record));
    return EAGAIN;
  });
}

int Pthreads::ask(int node, ThreadRecord* record) {
  RequestAnswer* answer = nullptr;
  {
    const std::lock_guard guard(answers_mutex_);
    if (!answers_.empty()) {
      answer = answers_.back();
      answers_.pop_back();
    }
  }
  if (answer == nullptr) {
    void* const memory = Heap::allocate(kPageSize, kPageSize, true);
    if (memory == nullptr) return ENOMEM;
    answer = new (memory) RequestAnswer;
  }
  record->answer = answer;
  const bool starts = record->what == ThreadRecord::What::thread;
  post(node, record);
  const sync::Waits::Scope named(sync().waits(), wait_for(starts ? "thread's start" : "process change", &answer->given));
  static_cast<void>(error_of(objects().acquire(*key_of(&answer->given), detail::this_thread_id(), [] { return 0; }),
                             starts ? "pthread_create()" : "a change of the process"));
  const int error = answer->error;
  if (error != 0) answer->error = 0;
  const std::lock_guard guard(answers_mutex_);
  answers_.push_back(answer);
  return error;
}

void Pthreads::change_all(ProcessChange* change, const std::function<bool()>& here) {
  const SharedGuard turn(*this, &control_->turn);
  if (!here()) return;
  const auto no_room = [] {
    misuse("a change of the process", "no room to tell the other nodes: raise NETVM_ADDRESS_SPACE (netvmrun --address-space)");
  };
  void* const memory = Heap::allocate(sizeof(ThreadRecord), kCacheLine, true);
  if (memory == nullptr) no_room();
  auto* const record = new (memory) ThreadRecord;
  record->what = ThreadRecord::What::change;
  record->argument = change;
  for (int node = 0; node < kit_.nodes(); ++node) {
    if (node != kit_.node() && ask(node, record) != 0) no_room();
  }
  static_cast<void>(Heap::free(record));
}

int Pthreads::start_here(ThreadRecord* record) {
  auto birth = std::make_unique<Birth>(Birth{record, SharedStack::take(kit_.runtime(), record->stack_bytes)});
  if (birth->stack.begin == 0) return ENOMEM;
  pthread_attr_t attributes;
  NETVM_CHECK(::pthread_attr_init(&attributes) == 0 && ::pthread_attr_setstacksize(&attributes, kPrivateStack) == 0 &&
                  ::pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED) == 0,
              "pthread_attr_init");
  pthread_t thread{};
  const int error = ::pthread_create(&thread, &attributes, &Pthreads::thread_body, birth.get());
  ::pthread_attr_destroy(&attributes);
  if (error != 0) {
    birth->stack.give_back();
    return error;
  }
  static_cast<void>(birth.release());
  return 0;
}

namespace {

/// The thread's end, however it comes: destroyed after everything thread-local of the program's, before everything of NetVM's.
struct EndGuard {
  void (*end)(void*) = nullptr;
  void* self = nullptr;
  ~EndGuard() {
    if (end != nullptr) end(self);
  }
};

}  // namespace

void* Pthreads::thread_body(void* argument) {
  static_cast<void>(ThreadSlot::mine());
  static_cast<void>(detail::this_thread_id());
  static thread_local EndGuard guard;
  const std::unique_ptr<Birth> birth(static_cast<Birth*>(argument));
  ThreadRecord* const record = birth->record;
  record->real = ::pthread_self();
  const sigset_t blocked = record->blocked;
  ::pthread_sigmask(SIG_SETMASK, &blocked, nullptr);
  become_program(record, "its start routine");
  t_counted.emplace(*Kit::find()->runtime().env, Kit::find()->runtime().stats);
  SharedStack stack = birth->stack;
  static thread_local SharedStack mine;
  mine = stack;
  guard.self = &mine;
  guard.end = &Pthreads::end_of_thread;
  run_on_shared_stack(
      stack.begin, stack.end,
      [](void* it) {
        auto& me = *static_cast<ThreadRecord*>(it);
        me.result = me.function(me.argument);
      },
      record);
  return nullptr;
}

void Pthreads::end_of_thread(void* stack) {
  // exit() destroys what is thread-local, too; but then the thread goes on, on its stack, to the handlers of atexit().
  if (ThreadState::in(reinterpret_cast<std::uintptr_t>(__builtin_frame_address(0)), t_state.stack_begin, t_state.stack_end)) return;
  t_state.stack_begin = t_state.stack_end = 0;
  Keys::run_destructors();
  in_runtime([stack] {
    Pthreads& self = *find();
    ThreadRecord* const record = t_state.record;
    SpinWatch::leave();
    t_counted.reset();
    forget_rwlocks();
    static_cast<SharedStack*>(stack)->give_back();
    const std::int32_t node = record->node;
    bool detached = false;
    {
      const SharedGuard guard(self, &record->guard);
      record->ended = 1;
      detached = record->detached != 0;
    }
    if (detached) {
      self.release_record(record);
    } else {
      static_cast<void>(
          error_of(self.objects().set_flag(*self.key_of(&record->end_flag), detail::this_thread_id(), true), "the end of a thread"));
    }
    self.thread_is_over(node);
  });
  t_state.program = false;
  t_state.record = nullptr;
  this_thread().number = ThreadContext::kNone;
  take_away_signal_stack();
}

void Pthreads::release_record(ThreadRecord* record) {
  record->magic = 0;
  static_cast<void>(objects().init(*key_of(&record->end_flag), detail::this_thread_id(), sync::ObjectKind::none, 0));
  static_cast<void>(Heap::free(record));
}

ThreadRecord* Pthreads::record_of(pthread_t thread) {
  auto* const record = reinterpret_cast<ThreadRecord*>(thread);
  return thread % kCacheLine == 0 && Heap::is_shared(record) && record->magic == ThreadRecord::kMagic ? record : nullptr;
}

pthread_t Pthreads::local(pthread_t thread) {
  const ThreadRecord* const record = record_of(thread);
  if (record == nullptr) return thread;
  return record->node == find()->kit_.node() ? record->real : 0;
}

int Pthreads::join(pthread_t thread, void** result, const timespec* until, clockid_t clock, bool waits) {
  ThreadRecord* const record = record_of(thread);
  if (record == nullptr) return ESRCH;
  if (record == t_state.record) return EDEADLK;
  const std::optional<Nanos> deadline = until != nullptr ? deadline_of(clock, until) : kForever;
  if (!deadline) return EINVAL;
  void* value = nullptr;
  const int error = in_runtime([&]() -> int {
    {
      const SharedGuard guard(*this, &record->guard);
      if (record->detached != 0) return EINVAL;
    }
    const sync::Waits::Scope named(sync().waits(), wait_for("thread's end", &record->end_flag));
    const Status status = objects().await_flag(*key_of(&record->end_flag), detail::this_thread_id(), waits ? *deadline : 0);
    if (status == Status::timeout) return waits ? ETIMEDOUT : EBUSY;
    if (const int problem = error_of(status, "pthread_join()"); problem != 0) return problem;
    value = record->result;
    release_record(record);
    return 0;
  });
  if (error == 0 && result != nullptr) *result = value;
  return error;
}

int Pthreads::detach(pthread_t thread) {
  ThreadRecord* const record = record_of(thread);
  if (record == nullptr) return ESRCH;
  return in_runtime([&]() -> int {
    bool ended = false;
    {
      const SharedGuard guard(*this, &record->guard);
      if (record->detached != 0) return EINVAL;
      record->detached = 1;
      ended = record->ended != 0;
    }
    if (!ended) return 0;
    // The thread may be about to set the flag: it is the last that it does with the record.
    static_cast<void>(error_of(objects().await_flag(*key_of(&record->end_flag), detail::this_thread_id()), "pthread_detach()"));
    release_record(record);
    return 0;
  });
}

void Pthreads::exit_thread(void* result) {
  t_state.record->result = result;
  if (!t_state.is_main) {
    real_pthread_exit(nullptr);
    __builtin_unreachable();
  }
  Keys::run_destructors();
  const bool last = in_runtime([&] {
    static_cast<void>(error_of(objects().set_flag(*key_of(&main_record_->end_flag), detail::this_thread_id(), true), "pthread_exit()"));
    const SharedGuard guard(*this, &control_->guard);
    control_->main_has_left = 1;
    return control_->living == 0;
  });
  if (last) std::exit(0);
  in_runtime([&] {
    const sync::Waits::Scope idle(sync().waits(), wait_for("", &control_->never));
    static_cast<void>(objects().await_flag(*key_of(&control_->never), detail::this_thread_id()));
  });
  __builtin_unreachable();
}

// ---- end -------------------------------------------------------------------------------------------------------------------------------

void Pthreads::on_exit(int status, void* self) {
  auto& pthreads = *static_cast<Pthreads*>(self);
  if (pthreads.kit_.runtime().owner == ::getpid()) pthreads.end_job(status);
}

void Pthreads::end_job(int status) {
  std::fflush(nullptr);
  in_runtime([this, status] {
    const int code = status;  // here, on the private stack: shared memory ends before the process does
    if (kit_.node() != 0) {
      auto* const request = new (Heap::allocate(sizeof(ThreadRecord), kCacheLine, true)) ThreadRecord;
      request->what = ThreadRecord::What::exit;
      request->status = code;
      request->number = this_thread().number;
      post(0, request);
    } else if (!g_ending.exchange(true)) {
      SpinWatch::end();
      for (int node = 1; node < kit_.nodes(); ++node) {
        auto* const request = new (Heap::allocate(sizeof(ThreadRecord), kCacheLine, true)) ThreadRecord;
        request->what = ThreadRecord::What::end;
        post(node, request);
      }
      try {
        kit_.runtime().leave();
      } catch (const std::exception& error) {  // the job ends without it: by a signal that the program has handled, or with a node
        log_line(kLogError, "%s", error.what());
      }
      std::_Exit(code);
    }
    for (;;) ::pause();  // somebody else ends the process
  });
  __builtin_unreachable();
}

}  // namespace netvm::kit
