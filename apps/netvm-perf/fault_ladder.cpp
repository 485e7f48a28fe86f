// What a page that is not there costs a put: source, target, both; never there (minor), or taken away by the pager (major); beside the bare
// machine's way to the same end. And what a peer that causes such faults all the time does to another's puts.
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>

#include "apps/netvm-perf/measurements.hpp"
#include "runtime/unique_fd.hpp"

namespace netvm::perf {
namespace {

/// Memory of this process whose pages can be taken away again.
class Pages {
 public:
  Pages(int flags, std::size_t pages)
      : bytes_(pages * kPageSize),
        at_(static_cast<std::byte*>(::mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_ANONYMOUS | flags, -1, 0))) {
    if (at_ == MAP_FAILED) throw Error("netvm-perf: the machine gives no memory for the fault ladder");
  }
  ~Pages() { ::munmap(at_, bytes_); }
  Pages(const Pages&) = delete;
  Pages& operator=(const Pages&) = delete;
  [[nodiscard]] std::byte* at(std::size_t offset) const { return at_ + offset; }
  void take_away(int advice) { ::madvise(at_, bytes_, advice); }
  void touch() { std::memset(at_, 7, bytes_); }

 private:
  std::size_t bytes_;
  std::byte* at_;
};

/// Where the bare machine's missing pages lie: a nameless file in the folder of the pager's backing file.
UniqueFd make_backing_file(Session& session, std::size_t pages) {
  std::string folder = session.runtime().settings.backing;
  if (folder.empty()) folder = std::getenv("TMPDIR") != nullptr ? std::getenv("TMPDIR") : "/var/tmp";
  std::string name = folder + "/netvm-perf-XXXXXX";
  UniqueFd file(::mkstemp(name.data()));
  if (!file) throw Error(fmt::format("netvm-perf: no file in {}: {}", folder, std::strerror(errno)));
  ::unlink(name.c_str());
  const std::vector<std::byte> contents(pages * kPageSize, std::byte{7});
  if (::write(file.get(), contents.data(), contents.size()) != static_cast<ssize_t>(contents.size()))
    throw Error(fmt::format("netvm-perf: no room in {} for {} bytes", folder, contents.size()));
  return file;
}

struct Step {
  const char* name;
  bool source;
  bool target;
  bool major;
};
constexpr std::array<Step, 7> kSteps = {Step{"none", false, false, false},          Step{"source", true, false, false},
                                        Step{"target", false, true, false},         Step{"source and target", true, true, false},
                                        Step{"source", true, false, true},          Step{"target", false, true, true},
                                        Step{"source and target", true, true, true}};

/// The two nodes' memory for the ladder. Minor: A's private memory, and the last pages of B's symmetric area, which nobody was given, so that
/// they can be thrown away. Major: the data areas of both, which the pager takes away.
class Ladder {
 public:
  Ladder(Session& session, std::size_t bytes)
      : session_(session),
        vm_(*session.runtime().vm),
        bytes_(bytes),
        stride_((bytes + kPageSize - 1) / kPageSize * kPageSize),
        puts_(std::max<std::size_t>(kLadderPages * kPageSize / stride_, 1)),
        pages_(puts_ * stride_ / kPageSize),
        private_(MAP_PRIVATE, pages_),
        bare_private_(MAP_PRIVATE, pages_),
        bare_shared_(MAP_SHARED, pages_) {
    const PageRange all = session.runtime().layout.symmetric;
    fresh_ = {PageId{all.first.value + all.count - pages_}, pages_};
    fresh_offset_ = (all.count - pages_) * kPageSize;
    if (fresh_offset_ < session.runtime().symmetric_used) throw Error("netvm-perf: symmetric memory is full; raise NETVM_ADDRESS_SPACE");
    if (session.measures() && vm_.has_budget()) file_ = make_backing_file(session, pages_);
    if (vm_.has_budget()) std::memset(session.data(), 7, pages_ * kPageSize);
  }

  /// A put a round, each to pages of its own; pages are taken away before, untimed.
  double time_puts(const Step& step, int rounds) {
    double total = 0;
    for (int done = 0; done < rounds; done += static_cast<int>(puts_)) {
      const int n = std::min<int>(rounds - done, static_cast<int>(puts_));
      if (session_.answers()) prepare_target(step);
      session_.meet();
      if (session_.measures() && !step.target) reach_target(step);
      if (session_.measures()) prepare_source(step);
      if (session_.measures()) total += n * time_batch(n, [&](int i) { step.major ? put_major(place(i)) : put_minor(place(i)); });
      session_.meet(nic::WaitMode::spin);  // B's host is at its work meanwhile
    }
    return total / rounds;
  }

  /// The same by the bare machine: a kernel fault where a page is missing, a read of the file if it was paged out, and one memcpy.
  double time_bare(const Step& step, int rounds) {
    double total = 0;
    for (int done = 0; done < rounds; done += static_cast<int>(puts_)) {
      const int n = std::min<int>(rounds - done, static_cast<int>(puts_));
      step.source ? bare_private_.take_away(MADV_DONTNEED) : bare_private_.touch();
      step.target ? bare_shared_.take_away(MADV_REMOVE) : bare_shared_.touch();
      total += n * time_batch(n, [&](int i) {
                 const std::size_t at = place(i);
                 if (step.major && step.source) read_back(bare_private_.at(at), at);
                 if (step.major && step.target) read_back(bare_shared_.at(at), at);
                 std::memcpy(bare_shared_.at(at), bare_private_.at(at), bytes_);
                 std::atomic_signal_fence(std::memory_order_seq_cst);
               });
    }
    return total / rounds;
  }

 private:
  /// Where the i-th put goes: an order that no read-ahead guesses.
  [[nodiscard]] std::size_t place(int i) const { return static_cast<std::size_t>(i) * 37 % puts_ * stride_; }
  void prepare_source(const Step& step) {
    if (step.major && step.source) vm_.evict(vm_.resident_pages());
    if (step.major && !step.source) touch(session_.data());
    if (!step.major && step.source) private_.take_away(MADV_DONTNEED);
    if (!step.major && !step.source) private_.touch();
  }
  void prepare_target(const Step& step) {
    if (step.major && step.target) vm_.evict(vm_.resident_pages());
    if (step.major && !step.target) touch(session_.data());
    if (!step.major && step.target) vm_.discard(fresh_);
    if (!step.major && !step.target) session_.require(vm_.make_resident(fresh_), "making pages resident");
  }
  /// Untimed: a page that comes back must be mapped anew at the initiator too, which belongs to the steps in which it was missing.
  void reach_target(const Step& step) {
    const std::uint64_t begin = step.major ? session_.data_offset() : fresh_offset_;
    for (std::size_t p = 0; p < pages_; ++p)
      session_.require(session_.nic().write(session_.peer(), begin + p * kPageSize, session_.source(), kPageSize), "put");
  }
  void touch(std::byte* memory) const {
    for (std::size_t p = 0; p < pages_; ++p) *static_cast<volatile std::byte*>(memory + p * kPageSize) = std::byte{7};
  }
  void put_minor(std::size_t at) {
    session_.require(session_.nic().write(session_.peer(), fresh_offset_ + at, private_.at(at), bytes_), "put");
  }
  void put_major(std::size_t at) {  // through the public interface, which knows that its source may be paged out
    netvm::put(session_.options().between[1], session_.data() + at, session_.data() + at, bytes_);
  }
  void read_back(std::byte* to, std::size_t at) {
    if (::pread(file_.get(), to, stride_, static_cast<off_t>(at)) != static_cast<ssize_t>(stride_))
      throw Error("netvm-perf: the backing file cannot be read");
  }

  Session& session_;
  HostVm& vm_;
  const std::size_t bytes_;   // of a put
  const std::size_t stride_;  // whole pages from one put's place to the next one's
  const std::size_t puts_;    // between two times of taking pages away
  const std::size_t pages_;   // that they go to
  Pages private_;
  Pages bare_private_;
  Pages bare_shared_;
  PageRange fresh_{};
  std::uint64_t fresh_offset_ = 0;
  UniqueFd file_;
};

void sleep_us(long us) {
  const timespec pause{us / 1'000'000, us % 1'000'000 * 1000};
  ::nanosleep(&pause, nullptr);
}

}  // namespace

std::vector<LadderStep> run_fault_ladder(Session& session, std::size_t bytes) {
  session.say(fmt::format("page faults, {} bytes", size_text(bytes)));
  Ladder ladder(session, bytes);
  const std::size_t steps = session.runtime().vm->has_budget() ? kSteps.size() : 4;
  Arms arms(session);
  std::vector<std::size_t> ours;
  std::vector<std::size_t> floors;
  for (std::size_t i = 0; i < steps; ++i) {
    const Step& step = kSteps[i];
    ours.push_back(arms.add_pair([&ladder, step](int n) { return ladder.time_puts(step, n); }));
    floors.push_back(arms.add_local([&ladder, step](int n) { return ladder.time_bare(step, n); }));
  }
  const std::size_t hand_over = arms.add_local([&session](int n) { return 2 * session.floor().flag_hand_over_ns(n); });
  arms.run();
  std::vector<LadderStep> out;
  for (std::size_t i = 0; session.measures() && i < steps; ++i) {
    std::vector<double> met(arms.values(floors[i]).begin(), arms.values(floors[i]).end());
    for (std::size_t batch = 0; batch < met.size(); ++batch) met[batch] += arms.values(hand_over)[batch];
    out.push_back({kSteps[i].name,
                   i == 0            ? "-"
                   : kSteps[i].major ? "major"
                                     : "minor",
                   arms.median_ns(ours[i]), arms.median_ns(floors[i]), paired_ratio(arms.values(ours[i]), arms.values(floors[i])),
                   kSteps[i].target, paired_ratio(arms.values(ours[i]), met)});
  }
  return out;
}

Table measure_fault_ladder(Session& session) {
  Table table;
  table.title = title_of(session, "put to pages that are not there");
  table.columns = {{"bytes", "bytes", 0},         {"missing", "missing", 0, true}, {"fault", "fault", 0, true}, {"median_us", "us", 3},
                   {"over_none", "over none", 2}, {"floor_us", "floor us", 3},     {"ratio", "ratio", 2},       {"ratio_low", "low", 2},
                   {"ratio_high", "high", 2},     {"met_ratio", "met", 2}};
  table.plot = {"bytes", {"median_us"}, "bytes", "microseconds", true, {"missing", "fault"}};
  table.notes = {
      "every page of the put is missing; minor: it was never there; major: the pager has taken it away (NETVM_MEMORY)",
      "floor: the same by the bare machine: kernel faults where pages are missing, a read of a file where they are paged out, one "
      "memcpy; ratio with its 95 % interval",
      "met: over the floor and one bare hand-over of a cache line to another spinning process and back, which a page that is missing at "
      "the target "
      "cannot do without",
      "the target's application waits for something of NetVM meanwhile, so that its thread serves what comes as a packet"};
  if (!session.runtime().vm->has_budget()) table.notes.push_back("no major faults in a job without NETVM_MEMORY (netvmrun --memory 8M)");
  std::vector<std::string> noisy;
  for (const std::uint64_t bytes : session.options().sizes) {
    const std::vector<LadderStep> steps = run_fault_ladder(session, bytes);
    for (const LadderStep& step : steps) {
      if (step.ratio.spread() > kNoisySpread) noisy.push_back(fmt::format("{} {} {}", step.missing, step.fault, size_text(bytes)));
      table.rows.push_back({static_cast<double>(bytes), step.missing, step.fault, step.ns / 1e3, step.ns / steps.front().ns,
                            step.floor_ns / 1e3, step.ratio.value, step.ratio.low, step.ratio.high, step.met.value});
    }
  }
  note_noise(table, noisy);
  return table;
}

// ---- a faulting peer ---------------------------------------------------------------------------------------------------------------------

namespace {

constexpr std::uint64_t kIdle = 1, kFault = 2, kEnd = 3;  // what A tells the disturber, in its word

/// Puts a page after the other into memory of B's that does not fit B's budget, while A says so.
void disturb(Session& session) {
  const auto [a, b] = session.options().between;
  const nic::RemoteRegion& region = session.runtime().symmetric[static_cast<std::size_t>(b)];
  const PageRange all = session.runtime().layout.symmetric;
  const std::uint64_t wide = 2 * session.runtime().settings.memory / kPageSize;
  std::uint64_t next = 0;
  std::uint64_t told = 0;
  for (;;) {
    const std::uint64_t want = session.control();
    if (want != told) session.tell(a, told = want);
    if (told == kEnd) return;
    if (told != kFault) {
      sleep_us(100);
      continue;
    }
    const std::uint64_t page = all.count - 1 - next++ % wide;
    session.require(session.nic().write(region, page * kPageSize, session.source(), kPageSize), "put");
  }
}

void tell_disturber(Session& session, int disturber, std::uint64_t what) {
  session.tell(disturber, what);
  while (session.control() != what) sleep_us(50);
}

double p99_of_puts(Session& session, int puts) {
  std::vector<double> times;
  times.reserve(static_cast<std::size_t>(puts));
  const std::uint64_t value = 7;
  for (int i = 0; i < puts; ++i) {
    const std::int64_t before = clock_ns();
    session.require(session.nic().write(session.peer(), session.data_offset(), &value, sizeof value), "put");
    times.push_back(static_cast<double>(clock_ns() - before));
  }
  return quantile(times, 0.99);
}

}  // namespace

std::optional<Interval> measure_faulting_peer(Session& session) {
  const auto [a, b] = session.options().between;
  if (session.job().nodes() < 3 || !session.runtime().vm->has_budget()) return std::nullopt;
  int disturber = 0;
  while (disturber == a || disturber == b) ++disturber;
  if (session.job().node() == disturber) disturb(session);
  if (!session.takes_part()) return std::nullopt;
  session.say("a peer that faults all the time");
  if (session.answers()) {
    session.meet();  // sleeps until A has done; its engine serves
    return std::nullopt;
  }
  const int puts = session.options().quick ? 200 : 5000;
  std::vector<double> alone;
  std::vector<double> disturbed;
  tell_disturber(session, disturber, kFault);  // until every page of its range has been there and was paged out
  sleep_us(session.options().quick ? 20'000 : 500'000);
  for (int batch = 0; batch < session.options().batches; ++batch) {
    for (const bool faulting : {batch % 2 == 0, batch % 2 != 0}) {
      tell_disturber(session, disturber, faulting ? kFault : kIdle);
      sleep_us(2000);
      p99_of_puts(session, 100);
      (faulting ? disturbed : alone).push_back(p99_of_puts(session, puts));
    }
  }
  tell_disturber(session, disturber, kEnd);
  session.meet();
  return paired_ratio(disturbed, alone);
}

}  // namespace netvm::perf
