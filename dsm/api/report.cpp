// A node's part of the job's report. The launcher merges the parts: see docs/settings.md, --report.
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
  const auto fill = [](json& to, const auto& value_of) {
    for (std::size_t i = 0; i < kStatCount; ++i) to[std::string(stat_name(static_cast<Stat>(i)))] = value_of(i);
  };
  fill(report["stats"], [&](std::size_t i) { return runtime.stats.get(static_cast<Stat>(i)); });
  report["regions"] = json::array();
  for (const dsm::RegionReport& region : runtime.dsm->report()) {
    json entry = {{"offset", region.offset}, {"bytes", region.bytes}, {"granularity", region.granularity}, {"protocol", region.protocol}};
    fill(entry["stats"], [&](std::size_t i) { return region.stats[i]; });
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
