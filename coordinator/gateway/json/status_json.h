#pragma once

// What a region is doing, as JSON: `shoal status --json` and GET /v1/cluster.

#include <string>

#include "transport/base/group.h"

namespace shoal::gateway {

// {"model","numerics_id","region","requests_total","streams","waiting","streams_resumed_total",
// "streams_adopted_total","groups_lost_total","group_restarts_total",
// "groups":[{"group","epoch","state","managed","name","model","numerics_id","tensor_parallel",
// "pipeline_parallel","streams","last_loss","restarts_total","next_start_ms",
// "ranks":[{"rank","pid","host","isa","threads","state","device"}]}]}
//
// model and numerics_id at the top are those of the region's own model, as clients call it;
// numerics_id is "" until a group has joined, last_loss until one was lost. next_start_ms is null
// unless the group is waiting to be started.
std::string StatusJson(const RegionStatus& status);

}  // namespace shoal::gateway
