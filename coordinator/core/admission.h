#pragma once

// Whether a request is taken, and what it is granted.

#include <variant>

#include "coordinator/core/generation_service.h"
#include "coordinator/core/groups/groups.h"
#include "coordinator/core/region_options.h"
#include "coordinator/core/streams/streams.h"
#include "coordinator/core/streams/suspects.h"
#include "transport/base/clock.h"

namespace shoal::core {

// The stream that the request becomes, of one version of one model, its answer cut to what the
// context leaves room for; or why it is not taken.
std::variant<Stream, StreamError> Admit(Request request, const RegionOptions& options,
                                        const Groups& groups, const Streams& streams,
                                        const Suspects& suspects, TimeNs now);

}  // namespace shoal::core
