#include "coordinator/core/guard/guard_metrics.h"

#include "transport/base/check.h"

namespace shoal::core {
namespace {

std::optional<double> Utilization(const GuardReadings& readings) {
  double sum = 0;
  int64_t count = 0;
  for (const auto& [number, group] : readings.groups) {
    if (group.state != GroupState::kReady) continue;
    sum += group.load.BusyShare(readings.now);
    ++count;
  }
  if (count == 0) return std::nullopt;
  return 100 * sum / static_cast<double>(count);
}

std::optional<double> KvUsed(const GuardReadings& readings) {
  int64_t used = 0;
  int64_t total = 0;
  for (const auto& [number, group] : readings.groups) {
    if (group.state != GroupState::kReady || !group.stats) continue;
    used += group.stats->kv_blocks_used;
    total += group.stats->kv_blocks_total;
  }
  if (total == 0) return std::nullopt;
  return 100 * static_cast<double>(used) / static_cast<double>(total);
}

double QueueLength(const GuardReadings& readings) {
  int64_t waiting = readings.requests_waiting;
  for (const auto& [number, group] : readings.groups) {
    if (group.state == GroupState::kReady && group.stats) waiting += group.stats->requests_waiting;
  }
  return static_cast<double>(waiting);
}

}  // namespace

const std::vector<std::string>& MetricNames() {
  static const std::vector<std::string> kNames = {"gpu_utilization", "cpu_utilization",
                                                  "kv_used",         "queue_length",
                                                  "queue_wait_ms",   "error_rate"};
  return kNames;
}

std::optional<double> ReadMetric(std::string_view name, const GuardReadings& readings) {
  if (name == "gpu_utilization" || name == "cpu_utilization") return Utilization(readings);
  if (name == "kv_used") return KvUsed(readings);
  if (name == "queue_length") return QueueLength(readings);
  if (name == "queue_wait_ms") return static_cast<double>(readings.queue_wait_ms);
  SHOAL_CHECK(name == "error_rate", "no metric ", name);
  return readings.error_percent;
}

}  // namespace shoal::core
