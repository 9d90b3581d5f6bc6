#pragma once

// The fewest requests, for what a group's steps hold.

#include <cstdint>

#include "coordinator/core/routing/policies/candidate.h"

namespace shoal::core {

// (sequences + 1) / (sequences_max x share), the one that it would get included.
double LeastConnLoad(const Candidate& candidate);

uint64_t ChooseByLeastConn(Candidates candidates);

}  // namespace shoal::core
