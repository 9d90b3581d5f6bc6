#pragma once

// How many files and sockets this process may have open at once.

#include <cstdint>

namespace shoal {

// Beyond it nothing of the project needs more, and programs that visit every possible descriptor
// (some do, between fork and exec) would take long.
constexpr int64_t kDescriptorsMax = 65'536;

// Raises the soft limit to the hard one, at most to kDescriptorsMax; children inherit it. Call it
// at the start of a program. Result: the limit that holds then.
int64_t RaiseDescriptorLimit();

}  // namespace shoal
