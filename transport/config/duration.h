#pragma once

// How long something takes, as people write it.

#include <cstdint>
#include <optional>
#include <string_view>

namespace shoal::config {

// Of "250ms", "1.5s", "10m", "2h" or "0", in milliseconds. None for anything else, also for what is
// negative or beyond 1e15 ms.
std::optional<int64_t> ParseDurationMs(std::string_view text);

}  // namespace shoal::config
