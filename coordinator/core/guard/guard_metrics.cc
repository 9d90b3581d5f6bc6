#include "coordinator/core/guard/guard_metrics.h"

#include <algorithm>
#include <iterator>

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

std::optional<double> QueueLength(const GuardReadings& readings) {
  int64_t waiting = readings.requests_waiting;
  for (const auto& [number, group] : readings.groups) {
    if (group.state == GroupState::kReady && group.stats) waiting += group.stats->requests_waiting;
  }
  return static_cast<double>(waiting);
}

std::optional<double> QueueWait(const GuardReadings& readings) {
  return static_cast<double>(readings.queue_wait_ms);
}

std::optional<double> ErrorRate(const GuardReadings& readings) { return readings.error_percent; }

struct Metric {
  std::string_view name;
  std::optional<double> (*read)(const GuardReadings&);
  Cause cause;
};

constexpr Metric kMetrics[] = {
    {"gpu_utilization", Utilization, Cause::kCompute},
    {"cpu_utilization", Utilization, Cause::kCompute},
    {"kv_used", KvUsed, Cause::kPool},
    {"queue_length", QueueLength, Cause::kPool},
    {"queue_wait_ms", QueueWait, Cause::kCompute},
    {"error_rate", ErrorRate, Cause::kLoss},
};

const Metric* Find(std::string_view name) {
  const auto* metric = std::ranges::find(kMetrics, name, &Metric::name);
  return metric == std::end(kMetrics) ? nullptr : metric;
}

}  // namespace

const std::vector<std::string>& MetricNames() {
  static const std::vector<std::string> kNames = [] {
    std::vector<std::string> names;
    for (const Metric& metric : kMetrics) names.emplace_back(metric.name);
    return names;
  }();
  return kNames;
}

std::optional<double> ReadMetric(std::string_view name, const GuardReadings& readings) {
  const Metric* metric = Find(name);
  SHOAL_CHECK(metric != nullptr, "no metric ", name);
  return metric->read(readings);
}

std::optional<Cause> CauseOf(std::string_view name) {
  const Metric* metric = Find(name);
  return metric == nullptr ? std::nullopt : std::optional(metric->cause);
}

}  // namespace shoal::core
