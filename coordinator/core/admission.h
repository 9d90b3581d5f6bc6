#pragma once

// Whether a request is taken, and what it is granted.

#include <cstddef>
#include <cstdint>
#include <variant>

#include "coordinator/core/generation_service.h"
#include "coordinator/core/groups/groups.h"
#include "coordinator/core/region_options.h"
#include "coordinator/core/streams.h"

namespace shoal::core {

// Longest prompt plus answer that the region grants. 0: nothing is known of it yet.
int64_t ContextTokens(const RegionOptions& options, const Groups& groups);

// Most requests that the region can hold at once, running and waiting. 0 while no group is ready.
int64_t RequestsMax(const RegionOptions& options, const Groups& groups);

// The stream that the request becomes, its answer cut to what the context leaves room for; or why
// it is not taken. `waiting`: requests that wait already.
std::variant<Stream, StreamError> Admit(Request request, const RegionOptions& options,
                                        const Groups& groups, size_t waiting);

}  // namespace shoal::core
