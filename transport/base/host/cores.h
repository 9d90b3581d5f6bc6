#pragma once

// How many cores there are to compute on.

#include <cstdint>

namespace shoal {

// Of the machine, less if a cgroup quota allows less time. At least 1.
int32_t MachineCores();

// The ones among them that this process may run on, by its affinity mask. At least 1.
int32_t AvailableCores();

}  // namespace shoal
