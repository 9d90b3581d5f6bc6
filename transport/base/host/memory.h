#pragma once

// How much memory this machine has.

#include <cstdint>
#include <string_view>

namespace shoal {

// Names of /proc/meminfo.
constexpr std::string_view kMemoryAvailable = "MemAvailable";
constexpr std::string_view kMemoryTotal = "MemTotal";

// Of /proc/meminfo's text. Errors: kFailed if the name is not there.
int64_t ParseMemoryBytes(std::string_view meminfo, std::string_view name);

// Of this machine, now. Errors: as above.
int64_t MemoryBytes(std::string_view name);

}  // namespace shoal
