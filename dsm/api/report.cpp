// A node's part of the job's report. The launcher merges the parts: see docs/settings.md, --report.
#include <fmt/format.h>
#include <unistd.h>

#include <nlohmann/json.hpp>

#include "dsm/api/job_runtime.hpp"

namespace netvm::detail {

std::string report_json(Runtime& runtime) {
  using nlohmann::json;
  json report;
  report["node"] = runtime.boot->node().value;
  report["pid"] = static_cast<std::int64_t>(getpid());
  report["threads"] = runtime.threads;
  report["protocol"] = runtime.settings.protocol;
  report["trap"] = std::string(to_string(runtime.vm->trap()));
  report["shm"] = std::string(to_string(runtime.settings.shm_mode));
  report["seconds"] = static_cast<double>(runtime.env->now() - runtime.started_ns) * 1e-9;
  const auto stats_of = [](const auto& value_of) {
    json stats;
    for (std::size_t i = 0; i < kStatCount; ++i) stats[std::string(stat_name(static_cast<Stat>(i)))] = value_of(i);
    return stats;
  };
  report["stats"] = stats_of([&](std::size_t i) { return runtime.stats.get(static_cast<Stat>(i)); });
  report["protocols"] = json::object();
  for (const dsm::ProtocolReport& protocol : runtime.dsm->protocol_reports()) {
    report["protocols"][std::string(protocol.name)] = {{"peak_bytes", protocol.peak_bytes},
                                                       {"stats", stats_of([&](std::size_t i) { return protocol.stats[i]; })}};
  }
  report["regions"] = json::array();
  for (const dsm::RegionReport& region : runtime.dsm->report()) {
    json entry = {{"name", region.name},         {"offset", region.offset},
                  {"bytes", region.bytes},       {"granularity", region.granularity},
                  {"protocol", region.protocol}, {"small_objects", region.is_slab}};
    if (region.bytes != 0) entry["address"] = fmt::format("{}", fmt::ptr(runtime.address_of(region.offset)));  // as %p prints it
    entry["stats"] = stats_of([&](std::size_t i) { return region.stats[i]; });
    report["regions"].push_back(std::move(entry));
  }
  const dsm::Dsm::MemoryReport memory = runtime.dsm->memory_report();
  report["memory"]["peak_twin_bytes"] = memory.peak_twin_bytes;
  for (const auto& [protocol, bytes] : memory.peak_protocol_bytes) report["memory"]["peak_bytes_of_" + protocol] = bytes;
  const std::lock_guard hold(runtime.annotations_mutex);
  report["annotations"] = runtime.annotations;
  return report.dump(-1, ' ', false, json::error_handler_t::replace);  // annotations are the program's and may be any bytes
}

}  // namespace netvm::detail
