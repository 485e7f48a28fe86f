// The manual pages of netvm-perf.
#include <fmt/format.h>

#include <string>
#include <string_view>

#include "apps/common/manual.hpp"
#include "apps/netvm-perf/options.hpp"

namespace netvm::perf {
namespace {

using tools::entry;
using tools::paragraph;

struct Page {
  std::string_view purpose;
  std::vector<std::string_view> description;
  std::vector<std::array<std::string_view, 2>> examples;
};

Page page_of(Command command) {
  switch (command) {
    case Command::basic:
      return {"NetVM's basic operations through its public interface, each beside its floor",
              {"Jobs of 2 and of 4 nodes on this machine: put, get, atomics, mutex, barrier, and reads from "
               "a node that computes. For each operation its time, the time of the bare mechanism measured in turns with it, their ratio "
               "(medians; the middle half of the batches beside it), and the aim."},
              {{"netvm-perf", "All of it, two minutes."}, {"netvm-perf basic --quick", "To see that it runs."}}};
    case Command::dsm:
      return {
          "what coherence costs over the bare mechanism under it, under each protocol",
          {"A job of 2 nodes; node 0 uses pages whose home is node 1. A read miss and a write upgrade in an order that no read-ahead "
           "guesses, beside the "
           "bare trap with the same copy; a read in sequence, beside a bare copy; the release after every second double of 64 pages was "
           "written, beside "
           "the bare comparison and copy of the same bytes; what giving up many pages takes of a barrier, beside one system call for "
           "all; and an "
           "empty barrier with little and with much memory cached.",
           "What a protocol does not do has no row: sequentially consistent ones flush nothing at an unlock."},
          {{"netvm-perf dsm", "All of it, some minutes."},
           {"netvm-perf dsm --protocol hlrc,lrc --json dsm.json", "Two protocols, and a file for machines."},
           {"netvm-perf dsm --quick", "To see that it runs."}}};
    case Command::sync:
      return {
          "mutexes and other objects beside what is built by hand from the same NIC's atomics, and beside the bare machine",
          {"A job of 2 nodes. A mutex that nobody else wants, beside std::mutex; the time from an unlock until another thread's or another "
           "node's lock() returns, beside a bare hand-over of a cache line, an MCS lock, a ticket lock and compare-and-swap spinning "
           "over the NIC, and a pthread mutex shared by the processes; a lock of what lies idle at another node; and acquisitions when "
           "both nodes "
           "lock as fast as they can, with Jain's index of fairness and messages. All arms take turns in one run."},
          {{"netvm-perf sync", "All of it, a minute or two."}, {"netvm-perf sync --quick", "To see that it runs."}}};
    case Command::thesis:
      return {
          "the figures of Ong's Network Virtual Memory (2003) beside ours",
          {"One table: for each figure of the thesis what it says, ours as a ratio from this run with its 95 % confidence interval, what "
           "must be reached, what is aimed at, and whether each is met. All arms of a ratio take turns in one run, in random order within "
           "a "
           "batch; ratios are formed batch by batch. docs/thesis.md says what each row measures and how it differs from the prototype.",
           "Figures never fail: the exit status is 0 unless something could not be measured. --check makes a missed \"must\" an error."},
          {{"netvm-perf thesis", "The table; a quiet machine, please."},
           {"netvm-perf thesis --only pinning,goodput", "Some of it, sooner."},
           {"netvm-perf thesis --json thesis.json --seconds 1", "Longer batches, for narrower intervals, and a file for machines."}}};
    case Command::latency:
      return {
          "time of one operation, by size",
          {"put: a ping-pong. Each side writes into the other's memory and spins on the last word of what it expects, as ib_write_lat "
           "does; one way is half a round trip. The floor is the same between two processes with a memcpy and a store. get: from the call "
           "until the bytes are here, as ib_read_lat; its floor is a memcpy.",
           "Columns: us, the median over batches (no clock inside a batch); min, p50, p99 of single operations, each timed by itself, less "
           "the "
           "clock's own time; the floor's median; the ratio of both with its 95 % interval."},
          {{"netvm-perf latency", "8 B to 4 MiB between nodes 0 and 1."},
           {"netvm-perf latency --op get --sizes 8,4K,64K --between 0 2", "Three sizes, between the first and the third of 3 nodes."},
           {"netvm-perf latency --plot latency.png", "With a picture."},
           {"netvmrun -n 3 netvm-perf latency --between 0 2", "Inside a job that is there already."}}};
    case Command::bandwidth:
      return {"bytes a second of a stream, by size",
              {"Node A posts --window operations on a queue pair and polls for their completions, again and again, as osu_put_bw and "
               "ib_write_bw do; --by compares other ways. "
               "All go to the same buffer. The floor is a memcpy into shared memory of the same size (direct), or the bare ring between "
               "two processes (packet)."},
              {{"netvm-perf bandwidth", "8 B to 4 MiB."},
               {"netvm-perf bandwidth --mode packet --op get --window 16", "Through the ring, 16 in flight."},
               {"netvm-perf bandwidth --by wait --sizes 4K:1M", "One blocking put after the other."},
               {"netvm-perf bandwidth --csv bandwidth.csv --plot bandwidth.svg", "For other programs and for the eye."}}};
    case Command::message_rate:
      return {
          "operations a second, by size",
          {"Node A keeps --window operations of a queue pair in flight: when the window is full it polls completions, up to 16 at once, as "
           "ib_write_bw --rate-limit and osu_mbw_mr count them; --by compares other ways. The floor is a bare store and copy (direct), or "
           "the bare ring (packet)."},
          {{"netvm-perf message-rate", "8 B to 4 KiB, 64 in flight."}, {"netvm-perf message-rate --sizes 8 --window 1", "One at a time."}}};
    case Command::atomics:
      return {
          "atomic operations on another node's memory",
          {"Each atomic in turn: from the call until the old value is here, nobody else at the word; then fetch_add by A and B at the same "
           "time on one word. The floor is the bare locked instruction on shared memory."},
          {{"netvm-perf atomics", "All."}, {"netvm-perf atomics --mode packet", "Executed by the target, not by the initiator."}}};
    case Command::notify:
      return {"what it costs to learn that data has landed",
              {"A ping-pong of puts with a notification: ORDERED or OWN, and the other side waits for its event counter by spinning, "
               "adaptively, by blocking, or its handler answers. Beside it, in turns, the same put without a notification, noticed by "
               "spinning on its last word. `added` is the "
               "difference, `ratio` the difference over the put. Blocking has a floor: a bare futex hand-over between two processes."},
              {{"netvm-perf notify", "8-byte puts."}, {"netvm-perf notify --sizes 8,4K", "And with a page."}}};
    case Command::faults:
      return {
          "what a page that is not there costs a put",
          {"Puts whose pages are not there: all there; those of the source missing; those of the target; both. Minor: pages that were "
           "never "
           "there. Major: pages that the pager has taken away; the job's nodes run with a memory budget (--memory 8M, more for large "
           "puts) for it. Beside it the bare machine's way to the same end: kernel page faults, a read of a file for what was paged out, "
           "and one memcpy. A ladder: each step also over the step without a fault."},
          {{"netvm-perf faults", "Puts of one page."}, {"netvm-perf faults --sizes 8:4M --plot faults.png", "All sizes, and a picture."}}};
  }
  return {};
}

std::string examples_section(const Page& page) {
  std::string out = "EXAMPLES\n";
  for (const auto& [command, text] : page.examples) out += entry(command, text);
  return out;
}

constexpr std::string_view kExit =
    "0; 1 if something could not be measured; 2 if the command line is wrong; 3 if --check found a missed \"must\"; 128 + N if signal N "
    "ended it.";

}  // namespace

std::string help_text(Command command) {
  const Page page = page_of(command);
  std::string out = "NAME\n" + paragraph(fmt::format("netvm-perf {} - {}", name_of(command), page.purpose));
  out += "\nSYNOPSIS\n" + paragraph(fmt::format("netvm-perf {} [OPTIONS]", name_of(command))) + "\nDESCRIPTION\n";
  for (const std::string_view text : page.description) out += paragraph(text) + "\n";
  out += "OPTIONS\n";
  for (const OptionInfo& info : options_of(command)) {
    std::string text(info.help);
    if (info.flags.ends_with("--sizes")) text += default_sizes(command) + ".";
    const auto comma = info.flags.find(',');
    const bool both = comma != std::string_view::npos;
    const std::string title =
        fmt::format("{}{}{}", both ? info.flags.substr(0, comma) : "", both ? ", " : "", both ? info.flags.substr(comma + 1) : info.flags);
    out += entry(info.value.empty() ? title : fmt::format("{} {}", title, info.value), text);
  }
  out += entry("-h, --help", "Prints this page.");
  out += "EXIT STATUS\n" + paragraph(kExit) + "\n" + examples_section(page);
  return out;
}

std::string help_text() {
  std::string out = "NAME\n" + paragraph("netvm-perf - measures NetVM, each figure beside its floor");
  out += "\nSYNOPSIS\n" + paragraph("netvm-perf [SUB-COMMAND] [OPTIONS]") + "\nDESCRIPTION\n";
  out +=
      paragraph(
          "Starts jobs on this machine and measures between two of their nodes, as perftest (ib_write_lat, ib_write_bw) and the OSU "
          "micro-benchmarks do. Beside each figure stands a floor where there is one: what the bare machine does without NetVM, measured "
          "in "
          "turns with it in the same run. Ratios have 95 % confidence intervals (bootstrap over batches); a table says when they are too "
          "wide to be believed.") +
      "\n";
  out += paragraph("Started by netvmrun it measures inside that job instead. Ctrl-C ends everything.") + "\n";
  out += "SUB-COMMANDS\n";
  for (const Command command : all_commands()) {
    std::string text(page_of(command).purpose);
    text[0] = static_cast<char>(std::toupper(static_cast<unsigned char>(text[0])));
    out += entry(name_of(command), text + (command == Command::basic ? " (without a sub-command: this)." : "."));
  }
  out += "OPTIONS\n" + paragraph("Each sub-command has its own: netvm-perf SUB-COMMAND --help.") + "\n";
  out += "EXIT STATUS\n" + paragraph(kExit) + "\nEXAMPLES\n";
  out += entry("netvm-perf latency --sizes 8:64K", "Put latency by size.");
  out += entry("netvm-perf bandwidth --mode packet --plot bandwidth.png", "Throughput through the ring, with a picture.");
  out += entry("netvm-perf thesis --json thesis.json", "The table of docs/thesis.md.");
  out += entry("netvmrun -n 3 netvm-perf latency --between 0 2", "Inside a job.");
  return out;
}

}  // namespace netvm::perf
