#pragma once

// What a group expects to find of the prompt in its cache, against what it has to do.

#include <cstdint>

#include "coordinator/core/routing/policies/candidate.h"

namespace shoal::core {

// Tokens of work for each place in its steps, of a group that gets the request: what is cached need
// not be computed.
double PrefixCost(const Candidate& candidate, int64_t tokens);

// The lowest cost.
uint64_t ChooseByPrefix(Candidates candidates, int64_t tokens);

}  // namespace shoal::core
