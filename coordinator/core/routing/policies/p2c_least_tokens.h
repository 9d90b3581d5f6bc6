#pragma once

// Of two groups drawn at random, the one with less work: as good as looking at all where what is
// known of them is old, because not everybody goes to the one that was the best a moment ago.

#include <cstdint>
#include <utility>

#include "coordinator/core/routing/policies/candidate.h"
#include "transport/base/generation/stream_id.h"

namespace shoal::core {

// Two different ones (the same if there is only one), by their places; the faster, the likelier, or
// else one that does the work of many could never be drawn often enough. Equal streams draw equal
// ones.
std::pair<size_t, size_t> DrawTwo(Candidates candidates, const StreamId& stream);

// Tokens of work for each place in its steps, of a group that gets `tokens` more.
double WorkLoad(const Candidate& candidate, int64_t tokens);

uint64_t ChooseByP2c(Candidates candidates, int64_t tokens, const StreamId& stream);

}  // namespace shoal::core
