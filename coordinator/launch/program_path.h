#pragma once

// The other programs of this build, which lie in the same folder as this one.

#include <string>

namespace shoal::launch {

// Path of a program of this build, "shoal-worker" for one. Errors: kFailed if it is not there.
std::string ProgramPath(const std::string& name);

}  // namespace shoal::launch
