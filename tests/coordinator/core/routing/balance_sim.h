#pragma once

// Groups of different speeds that serve requests in virtual time, and a router that chooses among
// them by what they report now and then.

#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

#include "coordinator/core/groups/group.h"
#include "coordinator/core/routing/router.h"

namespace shoal::core {

struct BalanceTrace {
  uint64_t seed = 1;
  double load = 0.7;  // Of what all groups together can do.
  double seconds = 60;
  int64_t report_ms = 200;  // How old reports become.
  std::vector<double> speeds{};
};

// How requests are given to groups.
enum class BalanceArm : uint8_t { kStaticWeights, kRoundRobin, kPolicy };

struct BalanceResult {
  std::vector<double> utilization;  // Of each group: share of its slots in use, over all the time.
  double evenness = 0;              // Jain's index of the loads at one moment, on average.
  double overload = 0;              // Share of moments in which a group has more than its slots.
  int64_t finished = 0;

  // Standard deviation over mean.
  double Deviation() const;
};

BalanceResult RunBalance(const BalanceTrace& trace, BalanceArm arm, RoutingPolicy policy);

}  // namespace shoal::core
