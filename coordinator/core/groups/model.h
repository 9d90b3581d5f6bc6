#pragma once

// A model in one version, and what the region knows of it for as long as it may matter.

#include <compare>
#include <cstdint>
#include <map>
#include <ostream>
#include <string>

#include "transport/base/group.h"

namespace shoal::core {

// Groups of one key give the same answer to the same request, bit by bit; those of two keys need
// not. So a stream belongs to one key for good.
struct ModelKey {
  std::string name;         // Its own, as ranks register it; never the served name.
  std::string numerics_id;  // Its version: the weights, and how they are computed with.

  auto operator<=>(const ModelKey&) const = default;
};
// "toy (numerics id 00112233445566778899aabbccddeeff)"
std::ostream& operator<<(std::ostream& out, const ModelKey& key);

ModelKey KeyOf(const RankRegistration& rank);

// What all groups of one key agree on.
struct Model {
  int64_t context_tokens = 0;
  int32_t vocab_size = 0;
  // Lower: without a break, some group of it has been ready for longer. 0: none is.
  uint64_t ready_since = 0;
  // What a canary comes to: as configured, or else as of the first group that was ready. Empty:
  // none has been.
  std::string canary_digest;
  // It is configured, or two groups agreed on it. Then it counts also for groups that come when all
  // others have gone; what one group alone computed does not, for it may have been the broken one.
  bool is_digest_proven = false;
  bool has_served = false;  // Some group of it has been ready.
};
using ModelMap = std::map<ModelKey, Model>;

}  // namespace shoal::core
