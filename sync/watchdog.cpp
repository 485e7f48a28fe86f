// Wire: WatchHeader (16 bytes): a question, or an answer with its standings (64 bytes each). Validated in decode_standings().
#include "sync/watchdog.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <mutex>
#include <optional>

#include "runtime/log.hpp"

namespace netvm::sync {

namespace {

struct WatchHeader {
  std::uint64_t question = 0;
  std::uint32_t standings = 0;
  std::uint8_t is_answer = 0;
  std::uint8_t reserved[3] = {};
};
static_assert(sizeof(WatchHeader) == 16);

struct WireStanding {
  char what[16] = {};
  std::uint64_t object = 0;
  std::uint64_t who = 0;
  std::int64_t age = 0;
  std::uint64_t value = 0;
  std::uint64_t awaited = 0;
  std::uint8_t holds = 0;
  std::uint8_t reserved[7] = {};
};
static_assert(sizeof(WireStanding) == 64);

Bytes encode(std::uint64_t question, bool is_answer, std::span<const Standing> standings) {
  WatchHeader header{question, static_cast<std::uint32_t>(standings.size()), static_cast<std::uint8_t>(is_answer ? 1 : 0), {}};
  Bytes body(sizeof header + standings.size() * sizeof(WireStanding));
  std::memcpy(body.data(), &header, sizeof header);
  std::byte* at = body.data() + sizeof header;
  for (const Standing& standing : standings) {
    WireStanding wire;
    standing.what.copy(wire.what, sizeof(wire.what) - 1);
    wire.object = standing.object.offset;
    wire.who = standing.who;
    wire.age = standing.age;
    wire.value = standing.value;
    wire.awaited = standing.awaited;
    wire.holds = standing.holds ? 1 : 0;
    std::memcpy(at, &wire, sizeof wire);
    at += sizeof wire;
  }
  return body;
}

std::optional<WatchHeader> header_of(std::span<const std::byte> body) {
  WatchHeader header;
  if (body.size() < sizeof header) return std::nullopt;
  std::memcpy(&header, body.data(), sizeof header);
  if (header.is_answer > 1 || body.size() - sizeof header != header.standings * sizeof(WireStanding)) return std::nullopt;
  return header;
}

using Thread = std::pair<NodeId, std::uint64_t>;

std::string name_of(const Thread& thread) {
  if (thread.second == 0) return fmt::format("a thread of node {}", thread.first.value);
  if (thread.second >= kFirstTask) return fmt::format("a task of node {}", thread.first.value);
  return fmt::format("thread {} of node {}", thread.second - 1, thread.first.value);
}

}  // namespace

Bytes encode_standings(std::uint64_t question, std::span<const Standing> standings) { return encode(question, true, standings); }

std::optional<std::pair<std::uint64_t, std::vector<Standing>>> decode_standings(NodeId from, std::span<const std::byte> body) {
  const auto header = header_of(body);
  if (!header || header->is_answer == 0) return std::nullopt;
  std::vector<Standing> standings;
  for (body = body.subspan(sizeof(WatchHeader)); !body.empty(); body = body.subspan(sizeof(WireStanding))) {
    WireStanding wire;
    std::memcpy(&wire, body.data(), sizeof wire);
    if (wire.holds > 1 || wire.age < 0 || wire.what[sizeof(wire.what) - 1] != '\0') return std::nullopt;
    standings.push_back({from, wire.holds == 1, wire.what, SyncId{wire.object}, wire.who, wire.age, wire.value, wire.awaited});
  }
  return std::pair(header->question, std::move(standings));
}

// ---- the report ------------------------------------------------------------------------------------------------------------

namespace {
// Of what nobody holds as a mutex is held. `state`: null if no node said.
std::string how_it_stands(const Standing& wait, const Standing* state) {
  if (is_counter(wait.object) || is_answer(wait.object) || is_page(wait.object)) return {};
  const std::string_view what = wait.what;
  if (!wait.object.is_object() || what == "object's lock") return "; nobody holds it";
  if (state == nullptr) return {};
  const std::uint64_t count = state->value;
  const std::uint64_t other = state->awaited;
  const auto threads = [](std::uint64_t n) { return n == 1 ? std::string("1 thread waits") : fmt::format("{} threads wait", n); };
  if (what == "semaphore") return fmt::format("; it has {} permits, and {}", count, threads(other));
  if (what == "condition") return fmt::format("; {} to be notified", threads(other));
  if (what == "barrier") return fmt::format("; {} of its {} arrivals are missing", count, other);
  if (what == "latch") return fmt::format("; its count is {}", count);
  if (what == "flag") return "; it is not set";
  if (what == "once flag" && other != 0) return fmt::format("; a thread of node {} runs its function", other - 1);
  if (what == "rw lock" && other != 0) return fmt::format("; a thread of node {} writes", other - 1);
  if (what == "rw lock" && count != 0) return "; others read";
  return {};
}
}  // namespace

std::vector<std::string> describe_waits(NodeId node, std::span<const Standing> standings, Nanos limit,
                                        const std::function<std::string(SyncId)>& name) {
  std::map<SyncId, std::vector<Thread>> holders;
  std::map<Thread, const Standing*> waits;
  std::map<SyncId, const Standing*> states;
  for (const Standing& standing : standings) {
    const Thread thread{standing.node, standing.who};
    if (standing.holds && standing.who == Held::kState) {
      states[standing.object] = &standing;
    } else if (standing.holds) {
      holders[standing.object].push_back(thread);
    } else if (standing.who != 0) {
      waits[thread] = &standing;
    }
  }
  // What somebody waits for, and what it would take.
  const auto thing = [&name](const Standing& wait) {
    if (wait.what == "trigger") return std::string("an operation that is still to be triggered");
    if (is_answer(wait.object)) {
      const char* const what = wait.what == "queue pair"   ? "what a queue pair has posted to"
                               : wait.what == "allocation" ? "the table of shared memory at"
                                                           : "an operation at";
      return fmt::format("{} node {}, which has not answered", what, wait.object.offset - kAnswersFrom);
    }
    if (is_page(wait.object)) return fmt::format("a page of shared memory, {}", name(SyncId{wait.object.offset - kPagesFrom}));
    if (!is_counter(wait.object)) return fmt::format("the {} {}", wait.what, name(wait.object));
    return fmt::format("{} {} to reach {}, which is at {}", wait.what, wait.object.offset - kCountersFrom, wait.awaited, wait.value);
  };
  std::vector<std::string> lines;
  std::set<Thread> in_circles;
  for (const Standing& standing : standings) {
    if (standing.holds || standing.node != node || standing.age < limit) continue;
    const Thread waiter{node, standing.who};
    if (standing.object == kEverybody) {
      const std::string who = standing.who == 0 ? fmt::format("node {}", node.value) : name_of(waiter);
      lines.push_back(fmt::format("{} has waited {:.1f} s at the {} of all nodes; all of its own threads have come", who,
                                  static_cast<double>(standing.age) / 1e9, standing.what));
      continue;
    }
    std::string line =
        fmt::format("{} has waited {:.1f} s for {}", name_of(waiter), static_cast<double>(standing.age) / 1e9, thing(standing));
    for (const Thread& holder : holders[standing.object]) {
      const auto wait = waits.find(holder);
      line += fmt::format(", which {} holds", name_of(holder));
      if (wait != waits.end()) line += fmt::format(", which waits for {}", thing(*wait->second));
    }
    const auto state = states.find(standing.object);
    if (holders[standing.object].empty()) line += how_it_stands(standing, state == states.end() ? nullptr : state->second);
    lines.push_back(line);
    // Follows from holder to holder until it comes back, or to a thread that waits for nothing.
    std::vector<Thread> path{waiter};
    for (const Standing* at = &standing; at != nullptr;) {
      const std::vector<Thread>& next = holders[at->object];
      if (next.size() != 1) break;
      const auto again = std::find(path.begin(), path.end(), next[0]);
      if (again != path.end()) {
        path.erase(path.begin(), again);
        if (std::any_of(path.begin(), path.end(), [&](const Thread& t) { return in_circles.contains(t); })) break;
        std::string circle = "this is a deadlock:";
        for (const Thread& thread : path) {
          in_circles.insert(thread);
          circle += fmt::format(" {} waits for {},", name_of(thread), thing(*waits[thread]));
        }
        lines.push_back(circle + " which the first of them holds");
        break;
      }
      path.push_back(next[0]);
      const auto wait = waits.find(next[0]);
      at = wait == waits.end() ? nullptr : wait->second;
    }
  }
  return lines;
}

// ---- the dog ---------------------------------------------------------------------------------------------------------------

struct Watchdog::Lifeline {
  SpinLock lock;
  Watchdog* dog = nullptr;
};

Watchdog::Watchdog(Options options, nic::Nic& nic, Waits& waits)
    : options_(std::move(options)), nic_(nic), waits_(waits), lifeline_(std::make_shared<Lifeline>()) {
  if (!options_.name) options_.name = [](SyncId id) { return fmt::format("at offset {:#x}", id.offset & ~SyncId::kObjectBit); };
  lifeline_->dog = this;
  nic_.set_message_handler(nic::MessageKind::sync_watch, this);
  if (options_.limit > 0) look_later();
}

Watchdog::~Watchdog() {
  nic_.set_message_handler(nic::MessageKind::sync_watch, nullptr);
  const std::lock_guard guard(lifeline_->lock);
  lifeline_->dog = nullptr;
}

void Watchdog::look_later() {
  nic_.env().at(nic_.env().now() + options_.limit / 2, [line = lifeline_] {
    const std::lock_guard guard(line->lock);
    if (line->dog != nullptr) line->dog->look();
  });
}

std::vector<Wait> Watchdog::own_waits() const {
  std::vector<Wait> waits = waits_.all();
  for (const nic::NicWait& wait : nic_.waits()) {
    switch (wait.what) {
      case nic::NicWait::What::counter:
        waits.push_back({"event counter", counter_object(wait.counter.value), wait.who, wait.since, wait.value, wait.threshold});
        break;
      case nic::NicWait::What::operation:
      case nic::NicWait::What::queue_pair:
        waits.push_back(
            {wait.what == nic::NicWait::What::operation ? "operation" : "queue pair", answer_object(wait.target), wait.who, wait.since});
        break;
      case nic::NicWait::What::trigger:
        waits.push_back({"trigger", answer_object(nic_.node()), wait.who, wait.since});
        break;
    }
  }
  return waits;
}

std::vector<Standing> Watchdog::own_standings() const {
  std::vector<Standing> standings;
  const Nanos now = nic_.env().now();
  for (const Wait& wait : own_waits()) {
    standings.push_back(
        {nic_.node(), false, wait.what, wait.object, wait.who, std::max<Nanos>(now - wait.since, 0), wait.value, wait.awaited});
  }
  if (options_.held) {
    for (const Held& held : options_.held()) {
      standings.push_back({nic_.node(), true, {}, held.object, held.who, 0, held.value, held.awaited});
    }
  }
  return standings;
}

void Watchdog::look() {
  look_later();
  std::vector<Standing> late;
  std::uint32_t missing = 0;
  bool ask = false;
  std::uint64_t question = 0;
  {
    const Nanos now = nic_.env().now();
    std::set<std::pair<std::uint64_t, Nanos>> old;
    bool news = false;
    for (const Wait& wait : own_waits()) {
      if (now - wait.since < options_.limit) continue;
      old.insert({wait.who, wait.since});
    }
    const std::lock_guard guard(lock_);
    if (awaited_ != 0) {  // since the look before: who has not answered by now does not
      missing = std::exchange(awaited_, 0);
      late.swap(answers_);
    }
    news = !std::includes(reported_.begin(), reported_.end(), old.begin(), old.end());
    reported_ = old;
    if (news && late.empty()) {
      ask = true;
      question = ++question_;
      awaited_ = nic_.nodes();
      answers_.clear();
    }
  }
  if (!late.empty()) return write(std::move(late), missing);
  if (!ask) return;
  for (std::uint32_t node = 0; node < nic_.nodes(); ++node) {
    nic_.send(NodeId{node}, nic::MessageKind::sync_watch, encode(question, false, {}));
  }
}

void Watchdog::write(std::vector<Standing> standings, std::uint32_t missing) {
  std::vector<std::string> lines = describe_waits(nic_.node(), standings, options_.limit, options_.name);
  if (!lines.empty() && missing != 0) lines.push_back(fmt::format("{} of {} nodes did not say what they do", missing, nic_.nodes()));
  if (options_.report) return options_.report(lines);
  for (const std::string& line : lines) log_line(kLogError, "watchdog: %s", line.c_str());
}

void Watchdog::on_message(NodeId from, std::span<const std::byte> body) noexcept {
  const auto header = header_of(body);
  if (!header) return;
  if (header->is_answer == 0) {
    return nic_.send(from, nic::MessageKind::sync_watch, encode_standings(header->question, own_standings()));
  }
  auto answer = decode_standings(from, body);
  if (!answer) return;
  std::vector<Standing> complete;
  {
    const std::lock_guard guard(lock_);
    if (awaited_ == 0 || answer->first != question_) return;
    answers_.insert(answers_.end(), answer->second.begin(), answer->second.end());
    if (--awaited_ != 0) return;
    complete.swap(answers_);
  }
  write(std::move(complete), 0);
}

}  // namespace netvm::sync
