#include "dsm/api/spin_watch.hpp"

#include <pthread.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <condition_variable>
#include <csignal>
#include <cstring>
#include <ctime>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "dsm/protocol.hpp"
#include "runtime/fault_signal.hpp"
#include "runtime/signals_blocked.hpp"

namespace netvm::detail {

namespace {

using namespace std::chrono_literals;

constexpr auto kTick = 500ms;
constexpr Nanos kLeastWork = 20'000'000;  // processor time in a tick, below which a thread rather waits than spins
constexpr std::size_t kSamples = 12;
constexpr Nanos kLeastStep = 1'000'000;  // processor time between two samples: a thread that did not run has the same registers, too
constexpr std::uintptr_t kFewInstructions = 256;  // bytes

/// Where a thread is: its program counter and what else the machine tells.
struct Sample {
  std::uintptr_t at = 0;
  std::array<std::uint64_t, 16> registers{};
};

thread_local char t_me;  // its address tells threads apart

struct Watched {
  const char* me = nullptr;
  SpinWatch::Who who;
  pthread_t handle{};
  clockid_t clock{};
  std::uint64_t calls = 0;
  Nanos worked = 0;
  int quiet_ticks = 0;
  bool told = false;
};

struct State {
  std::mutex mutex;
  std::condition_variable wake;
  bool stop = false;
  std::vector<Watched> threads;
  std::thread watcher;
  Runtime* runtime = nullptr;
  SpinWatch::Program program;
};
// Never destroyed: an exception or exit() may end the process while the watcher runs.
State& g_state = *new State;

// What the signal handlers note. Sampling: one thread at a time is asked. Faults: of the one thread that is looked at.
int sample_signal() { return SIGRTMAX - 3; }
Sample g_sample;
std::atomic<std::uint32_t> g_sampled{0};
std::atomic<const char*> g_looked_at{nullptr};
std::array<std::atomic<std::uintptr_t>, 4> g_read{};
std::atomic<std::size_t> g_reads{0};
struct sigaction g_next_handler;

void on_sample(int, siginfo_t*, void* context) {
  [[maybe_unused]] const auto* machine = static_cast<const ucontext_t*>(context);
#if defined(__x86_64__)
  g_sample.at = static_cast<std::uintptr_t>(machine->uc_mcontext.gregs[REG_RIP]);
  for (int i = REG_R8; i <= REG_RSP; ++i)
    g_sample.registers[static_cast<std::size_t>(i)] = static_cast<std::uint64_t>(machine->uc_mcontext.gregs[i]);
#elif defined(__aarch64__)
  g_sample.at = machine->uc_mcontext.pc;
  for (std::size_t i = 0; i < g_sample.registers.size(); ++i) g_sample.registers[i] = machine->uc_mcontext.regs[i];
#endif
  g_sampled.fetch_add(1);
}

// Notes what the thread reads, and lets the trap serve the fault.
void on_fault(int signal, siginfo_t* info, void* context) {
  if (g_looked_at.load() == &t_me) {
    const std::size_t n = g_reads.load();
    if (n < g_read.size()) {
      g_read[n].store(reinterpret_cast<std::uintptr_t>(info->si_addr));
      g_reads.store(n + 1);
    }
  }
  g_next_handler.sa_sigaction(signal, info, context);
}

Nanos processor_time(clockid_t clock) {
  timespec time{};
  return ::clock_gettime(clock, &time) == 0 ? Nanos{time.tv_sec} * 1'000'000'000 + time.tv_nsec : 0;
}

bool sample(const Watched& thread, Sample* out) {
  const std::uint32_t before = g_sampled.load();
  if (::pthread_kill(thread.handle, sample_signal()) != 0) return false;
  for (int i = 0; i < 100 && g_sampled.load() == before; ++i) std::this_thread::sleep_for(1ms);
  if (g_sampled.load() == before) return false;
  *out = g_sample;
  return true;
}

/// Lets the thread run on for a while. False: it waits for something, or for a processor.
bool runs_on(const Watched& thread) {
  const Nanos before = processor_time(thread.clock);
  for (int i = 0; i < 100; ++i) {
    std::this_thread::sleep_for(2ms);
    if (processor_time(thread.clock) - before >= kLeastStep) return true;
  }
  return false;
}

/// Whether the thread goes round in a few instructions and nothing changes but where it is.
bool makes_no_progress(const Watched& thread) {
  std::vector<Sample> samples(kSamples);
  for (Sample& one : samples) {
    if (!sample(thread, &one) || !runs_on(thread)) return false;
  }
  std::sort(samples.begin(), samples.end(), [](const Sample& a, const Sample& b) { return a.at < b.at; });
  if (samples.back().at - samples.front().at > kFewInstructions) return false;
  bool compared = false;
  for (std::size_t i = 1; i < samples.size(); ++i) {
    if (samples[i].at != samples[i - 1].at) continue;
    compared = true;
    if (samples[i].registers != samples[i - 1].registers) return false;
  }
  return compared;
}

/// Makes every thread's next access to these addresses fault once. The trap finds that the right is there, and puts it back.
void forget_rights(TrapKind trap, std::byte* begin, std::uint64_t bytes) {
  if (trap == TrapKind::userfaultfd) (void)::madvise(begin, bytes, MADV_DONTNEED);
  if (trap == TrapKind::mprotect) (void)::mprotect(begin, bytes, PROT_NONE);
}

/// Shared addresses that the thread reads.
std::vector<std::uintptr_t> what_it_reads(Runtime& rt, const Watched& thread) {
  const TrapKind trap = rt.vm->trap();
  g_reads.store(0);
  g_looked_at.store(thread.me);
  const PageRange shared = rt.layout.shared;
  forget_rights(trap, rt.vm->app_base() + shared.first.value * kPageSize, shared.count * kPageSize);
  rt.vm->windows().for_each([trap](const AppWindow& window) { forget_rights(trap, window.page(window.pages.first), window.bytes()); });
  std::this_thread::sleep_for(50ms);
  g_looked_at.store(nullptr);
  std::vector<std::uintptr_t> reads;
  for (std::size_t i = 0; i < g_reads.load(); ++i) reads.push_back(g_read[i].load());
  return reads;
}

/// Whether a write there reaches every reader in the end.
bool shows_every_write(const Runtime& rt, std::uintptr_t address) {
  std::uint64_t offset = 0;
  return rt.offset_of(reinterpret_cast<const void*>(address), &offset) && rt.dsm->consistency_of(offset) == dsm::Consistency::sequential;
}

void warn(Watched& thread) {
  Runtime& rt = *g_state.runtime;
  std::vector<std::uintptr_t> reads = what_it_reads(rt, thread);
  std::erase_if(reads, [&rt](std::uintptr_t address) { return shows_every_write(rt, address); });
  if (reads.empty()) return;  // what it waits for is not shared, or will come
  thread.told = true;
  LineBuffer line;
  line.append_prefix();
  thread.who.name(line);
  line.append(" has been spinning for %g seconds", g_state.program.seconds);
  for (std::size_t i = 0; i < reads.size(); ++i) {
    line.append("%s 0x%llx,", i == 0 ? ", reading" : " and", static_cast<unsigned long long>(reads[i]));
    g_state.program.describe(reads[i], line);
  }
  line.append("%s", g_state.program.advice.c_str());
  line.write_line();
}

void look(Watched& thread) {
  const std::uint64_t calls =
      thread.who.calls == nullptr ? 0 : thread.who.calls->load(std::memory_order_relaxed);  // relaxed: only whether it moves
  const Nanos worked = processor_time(thread.clock);
  const bool quiet = calls == thread.calls && worked - thread.worked >= kLeastWork;
  thread.quiet_ticks = quiet ? thread.quiet_ticks + 1 : 0;
  thread.calls = calls;
  thread.worked = worked;
  if (thread.told || kTick * thread.quiet_ticks < std::chrono::duration<double>(g_state.program.seconds)) return;
  thread.quiet_ticks = 0;
  if (makes_no_progress(thread)) warn(thread);
}

void watch() {
  std::unique_lock lock(g_state.mutex);
  while (!g_state.wake.wait_for(lock, kTick, [] { return g_state.stop; })) {
    for (Watched& thread : g_state.threads) look(thread);
  }
}

}  // namespace

void SpinWatch::begin(Runtime& runtime, Program program) {
  const TrapKind trap = runtime.vm->trap();
  if (runtime.boot->nodes() == 1 || trap == TrapKind::checked) return;
  g_state.runtime = &runtime;
  g_state.program = std::move(program);
  g_state.stop = false;
  static_cast<void>(handle_signal_before(sample_signal(), &on_sample));
  static std::once_flag once;  // the handler stays, and must not be put in front of itself
  std::call_once(once, [trap] { g_next_handler = handle_signal_before(trap == TrapKind::userfaultfd ? SIGBUS : SIGSEGV, &on_fault); });
  const SignalsBlocked signals;
  g_state.watcher = std::thread(&watch);
}

bool SpinWatch::runs() { return g_state.watcher.joinable(); }

void SpinWatch::end() {
  if (!g_state.watcher.joinable()) return;
  {
    const std::lock_guard lock(g_state.mutex);
    g_state.stop = true;
  }
  g_state.wake.notify_all();
  g_state.watcher.join();
  g_state.threads.clear();
  g_state.runtime = nullptr;
}

void SpinWatch::enter(Who who) {
  Watched me;
  me.me = &t_me;
  me.who = std::move(who);
  me.handle = ::pthread_self();
  if (::pthread_getcpuclockid(me.handle, &me.clock) != 0) return;
  const std::lock_guard lock(g_state.mutex);
  g_state.threads.push_back(me);
}

void SpinWatch::leave() {
  const std::lock_guard lock(g_state.mutex);
  std::erase_if(g_state.threads, [](const Watched& thread) { return thread.me == &t_me; });
}

}  // namespace netvm::detail
