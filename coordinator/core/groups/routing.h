#pragma once

// Which group takes a request, and what the groups that are ready can take at all.

#include <cstddef>
#include <cstdint>
#include <optional>

#include "coordinator/core/groups/group.h"

namespace shoal::core {

// The ready group with the least share of its capacity in use, of those that have room for a
// request that will hold so many tokens; ties to the lowest number. None if none has room.
std::optional<uint64_t> ChooseGroup(const GroupMap& groups, int64_t tokens);

size_t CountReady(const GroupMap& groups);

// Of all that are ready; 0 if none is.
int64_t LargestKvCacheTokens(const GroupMap& groups);  // Of one group.
int64_t RequestsHeld(const GroupMap& groups);          // At once, together.

}  // namespace shoal::core
