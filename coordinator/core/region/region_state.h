#pragma once

// All that a region remembers: its parts, which know nothing of it or of each other.

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "coordinator/core/actions.h"
#include "coordinator/core/groups/groups.h"
#include "coordinator/core/groups/health.h"
#include "coordinator/core/guard/guard.h"
#include "coordinator/core/predict/wait_predictor.h"
#include "coordinator/core/queue/capacity_refusals.h"
#include "coordinator/core/record/flight_recorder.h"
#include "coordinator/core/region_options.h"
#include "coordinator/core/routing/router.h"
#include "coordinator/core/streams/ended.h"
#include "coordinator/core/streams/flights.h"
#include "coordinator/core/streams/streams.h"
#include "coordinator/core/streams/suspects.h"
#include "coordinator/core/tenants/tenants.h"
#include "transport/base/clock.h"

namespace shoal::core {

// For Region alone, whose functions are in files by what happens.
class RegionState {
 protected:
  RegionState(RegionOptions options, const Clock& clock, std::function<uint64_t()> random);

  const RegionOptions options_;
  const Clock& clock_;
  bool stopping_ = false;
  Groups groups_;
  Health health_;
  Streams streams_;
  EndedStreams ended_;
  Flights flights_;
  Suspects suspects_;
  Tenants tenants_;
  CapacityRefusals refusals_;
  Guard guard_;
  Router router_;
  WaitPredictor waits_;
  FlightRecorder recorder_;
  DeadlineSet deadlines_;                        // Of all streams that have one.
  std::map<uint64_t, std::string> last_losses_;  // By number.
  std::vector<Action> actions_;
  int64_t ticks_total_ = 0;
  RegionStatus counts_;  // Only what it counts; the rest is read off when it is asked for.
};

}  // namespace shoal::core
