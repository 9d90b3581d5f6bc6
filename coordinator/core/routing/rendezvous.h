#pragma once

// Which group a session belongs to: the same for each of its requests, also after others have come
// or gone, and with any coordinator.

#include <cstdint>
#include <optional>
#include <string_view>

#include "coordinator/core/routing/policies/candidate.h"

namespace shoal::core {

// Highest random weight (Thaler and Ravishankar): of all groups the session's own has the highest.
// When a group goes, only its sessions move.
uint64_t RendezvousWeight(std::string_view session, uint64_t group);

// Whether a group may take a request for its session's sake. It has no more than 1.25 times its
// share of all requests (consistent hashing with bounded loads, Mirrokni et al.), or no more than a
// quarter of what its steps hold, which nobody waits for.
bool IsWithinBound(const Candidate& candidate, int64_t sequences, int64_t sequences_max);

// The session's group if it is within its bound, else the next one by weight that is. None if none
// is: then the load alone decides. `sequences` and `sequences_max` are of all groups of the key.
std::optional<uint64_t> ChooseBySession(Candidates candidates, std::string_view session,
                                        int64_t sequences, int64_t sequences_max);

}  // namespace shoal::core
