#pragma once

// What breakers can be told to look at.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "coordinator/core/groups/group.h"
#include "coordinator/core/record/cause.h"
#include "transport/base/clock.h"

namespace shoal::core {

// How the region stands; `groups` must live as long as it is looked at.
struct GuardReadings {
  const GroupMap& groups;
  int64_t requests_waiting = 0;  // In the region's own queue.
  int64_t queue_wait_ms = 0;     // Of the request that has waited the longest for its first token.
  std::optional<double> error_percent{};  // Of what ended lately. None: nothing did.
  TimeNs now = 0;
};

// gpu_utilization, cpu_utilization: percent of the time that the groups that are ready had a step
// under way, on average; kv_used: percent of their blocks of KV cache together; queue_length:
// requests that wait, here and with them; queue_wait_ms, error_rate (percent): as above.
const std::vector<std::string>& MetricNames();

// `name` is one of these. None: nothing is known.
std::optional<double> ReadMetric(std::string_view name, const GuardReadings& readings);
// What is short when that one has gone too far; none for any other name.
std::optional<Cause> CauseOf(std::string_view name);

}  // namespace shoal::core
