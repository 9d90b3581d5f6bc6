#pragma once

// What holds of a region between any two events, whatever has happened. Tests look after every
// event, production once in a while.

#include <string>

#include "coordinator/core/groups/groups.h"
#include "coordinator/core/region_options.h"
#include "coordinator/core/streams/ended.h"
#include "coordinator/core/streams/flights.h"
#include "coordinator/core/streams/streams.h"
#include "coordinator/core/tenants/tenants.h"

namespace shoal::core {

// The first thing that does not hold; empty if all does. `deadlines`: those that are watched. Cost:
// each stream and rank once, and each stream that waits once a group.
std::string FindBrokenInvariant(const Groups& groups, const Streams& streams,
                                const EndedStreams& ended, const Flights& flights,
                                const Tenants& tenants, const DeadlineSet& deadlines,
                                const RegionOptions& options);

}  // namespace shoal::core
