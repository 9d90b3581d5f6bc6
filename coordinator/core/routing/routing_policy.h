#pragma once

// By what a region chooses the group for a request.

#include <cstdint>
#include <optional>
#include <string_view>

namespace shoal::core {

enum class RoutingPolicy : uint8_t {
  kWlcSeed,         // Weighted least connections, weights by processor, memory and latency.
  kMinresSeed,      // Weights by the scarcest resource.
  kLeastConn,       // Fewest sequences.
  kP2cLeastTokens,  // Of two drawn at random, the one with fewer tokens of work.
  kPrefixAware,     // Most of the prompt expected in its cache, against its load.
};

// "wlc_seed", "minres_seed", "least_conn", "p2c_least_tokens", "prefix_aware".
std::string_view ToString(RoutingPolicy policy);

}  // namespace shoal::core
