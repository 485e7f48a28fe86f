#include <fmt/format.h>

#include <string>
#include <string_view>

#include "apps/common/manual.hpp"
#include "apps/netvmrun/options.hpp"
#include "netvm/netvm.hpp"
#include "runtime/job_wire.hpp"
#include "runtime/settings.hpp"

namespace netvm::run {
namespace {

using tools::entry;
using tools::paragraph;

std::string setting_title(const SettingInfo& info) {
  if (info.value == "on|off") return fmt::format("{}, --no-{}", info.flag, info.flag.substr(2));
  if (info.variable == "NETVM_VERBOSE") return fmt::format("-v, {}", info.flag);
  return fmt::format("{} {}", info.flag, info.value);
}

std::string joined(const std::vector<std::string_view>& names) {
  std::string out;
  for (const auto name : names) out += (out.empty() ? "" : ", ") + std::string(name);
  return out;
}

std::string options_section() {
  std::string out = "OPTIONS\n";
  out += entry("-n, --nodes N", fmt::format("Number of nodes, 1 to {}. Default: 1.", job::kMaxNodes));
  for (const SettingInfo& info : setting_list()) {
    if (info.flag.empty()) continue;
    std::string text(info.help);
    if (info.variable == "NETVM_PROTOCOL") text += fmt::format(" One of: {}.", joined(protocol_names()));
    if (info.variable == "NETVM_VERBOSE") text += " Given twice: more.";
    if (!info.fallback.empty()) text += fmt::format(" Default: {}.", info.fallback);
    out += entry(setting_title(info), fmt::format("{} ({})", text, info.variable));
  }
  out += entry("--timeout SECONDS", "Ends the job, with a message and exit status 124, when it has run that long. Default: no limit.");
  out += entry("--on-death end|continue",
               "What happens when a node dies in the middle of the job. end: the others end, too. continue: they go on and are told: what "
               "the dead node "
               "held is given up with owner_dead, barriers and other collective calls fail (docs/sync.md says what goes on), and the exit "
               "status is the "
               "dead node's. A death before all nodes have started ends the job. Default: end.");
  out +=
      entry("--report FILE",
            "Writes the job's report to FILE when it is over: JSON with the outcome, the statistics of each node, their sums, and what the "
            "program annotated. The file appears complete or not at all.");
  out += entry("--tag", "Starts each line of output with the node it comes from, as in \"[2] \".");
  out += entry("-V, --version", "Prints the version.");
  out += entry("-h, --help", "Prints this page.");
  return out;
}

std::string environment_section() {
  std::string out = "ENVIRONMENT\n";
  out += paragraph(
      "Every setting can be given by a variable; an option on the command line wins. A variable NETVM_... that is not in this list is an "
      "error.");
  out += "\n";
  for (const SettingInfo& info : setting_list()) {
    const std::string flag = info.flag.empty() ? std::string() : fmt::format(" (option {})", info.flag);
    out +=
        entry(fmt::format("{}={}", info.variable, info.value),
              fmt::format("{}{}{}", info.help, info.fallback.empty() ? std::string() : fmt::format(" Default: {}.", info.fallback), flag));
  }
  out +=
      entry("NETVM_RENDEZVOUS, NETVM_NODE, NETVM_NODES, NETVM_JOB_KEY",
            "Set by netvmrun for the nodes: where to join the job, as which node of how many, and the job's secret. They have no meaning "
            "for netvmrun itself.");
  return out;
}

constexpr std::string_view kExitStatus[][2] = {
    {"0", "All nodes ended well."},
    {"the node's",
     "Exit status of the first node that failed; 128 + N if signal N killed it; 1 if it ended in the middle of the job with status 0."},
    {"the dead node's", "With --on-death=continue, and though the others ended well: that of the first node that died, as above."},
    {"2", "The command line or a setting is wrong; nothing was started."},
    {"124", "The limit of --timeout passed."},
    {"126, 127", "The program cannot be executed; there is no such program."},
    {"128 + N", "netvmrun itself received signal N: 130 for Ctrl-C."},
    {"141", "Whoever read the standard output is gone (as in netvmrun ... | head -1)."},
};

constexpr std::string_view kExamples[][2] = {
    {"netvmrun -n 4 ./program", "Four nodes on this machine."},
    {"netvmrun -n 4 --protocol sc-directory --stats radix -n 1048576",
     "Another coherence protocol, with a table of statistics at the end. The second -n belongs to radix."},
    {"netvmrun -n 3 --tag hostname", "Any program can be started."},
    {"netvmrun -n 2 --report run.json --timeout 60 -- ./program --nodes 7",
     "With a report and a limit; \"--\" may mark the end of netvmrun's options."},
    {"netvmrun -n 4 xterm -e gdb ./program", "A debugger for each node."},
};

}  // namespace

std::string help_text() {
  std::string out = "NAME\n";
  out += paragraph("netvmrun - runs a program on several nodes that share memory");
  out += "\nSYNOPSIS\n";
  out += paragraph("netvmrun [OPTIONS] [--] PROGRAM [ARGUMENTS...]");
  out += "\nDESCRIPTION\n";
  for (const std::string_view text : {
           std::string_view("Starts PROGRAM once for each node, as a process of its own, on this machine. A program built with the NetVM "
                            "library joins the job and "
                            "shares memory with the other nodes; any other program simply runs N times. A NetVM program that is started "
                            "without netvmrun is a job "
                            "of one node."),
           std::string_view("Options end at PROGRAM: what follows it is the program's. PROGRAM is looked up in PATH unless it holds a '/', "
                            "then in netvmrun's own "
                            "directory. Node 0 reads netvmrun's standard input, the other nodes read an empty one. The nodes' output is "
                            "merged line by line, standard "
                            "output to standard output, standard error to standard error."),
           std::string_view("The job ends as one (unless --on-death=continue): when a node fails, or ends in the middle of the job, "
                            "netvmrun says which and why, asks "
                            "the other nodes to end "
                            "(SIGTERM) and kills after one second those that have not. The same happens on Ctrl-C, SIGTERM and SIGHUP; a "
                            "second Ctrl-C kills at once. "
                            "No process outlives the job, not even when netvmrun itself is killed, and no file is left: the nodes' memory "
                            "and the job's socket have no "
                            "name in any file system. SIGUSR1 and SIGUSR2 are passed on to the nodes."),
       }) {
    out += paragraph(text) + "\n";
  }
  out += options_section() + environment_section();
  out += "EXIT STATUS\n";
  for (const auto& [status, text] : kExitStatus) out += entry(status, text);
  out += "EXAMPLES\n";
  for (const auto& [command, text] : kExamples) out += entry(command, text);
  out += "NOTES\n";
  out += paragraph(
             "More nodes than cores is a normal case: waiting threads then give the processor away instead of spinning (see --spin). "
             "Where other programs compute on the same cores, --spin 0 does the same, and is several times faster.") +
         "\n";
  out += paragraph(
             "The nodes' memory is charged to the processes as shared memory, but is not limited by the size of /dev/shm, and nothing of "
             "it is locked: "
             "neither ulimit -l nor a container's small /dev/shm matters.") +
         "\n";
  out += paragraph(
      "Every node must run the same build of PROGRAM, and the same version of NetVM as netvmrun; both are checked when a node joins.");
  return out;
}

}  // namespace netvm::run
