#include "coordinator/core/groups/routing.h"

#include <algorithm>

namespace shoal::core {

std::optional<uint64_t> ChooseGroup(const GroupMap& groups, int64_t tokens) {
  const Group* best = nullptr;
  for (const auto& [number, group] : groups) {
    if (!group.HasRoomFor(tokens)) continue;
    // a / b < c / d as a * d < c * b; strictly, so that the lowest number wins a tie.
    if (best == nullptr ||
        group.sequences.size() * best->capacity() < best->sequences.size() * group.capacity()) {
      best = &group;
    }
  }
  return best == nullptr ? std::nullopt : std::optional(best->number);
}

size_t CountReady(const GroupMap& groups) {
  return static_cast<size_t>(std::count_if(groups.begin(), groups.end(), [](const auto& entry) {
    return entry.second.state == GroupState::kReady;
  }));
}

int64_t LargestKvCacheTokens(const GroupMap& groups) {
  int64_t largest = 0;
  for (const auto& [number, group] : groups) {
    if (group.state == GroupState::kReady) {
      largest = std::max(largest, group.shape().kv_cache_tokens);
    }
  }
  return largest;
}

int64_t RequestsHeld(const GroupMap& groups) {
  int64_t held = 0;
  for (const auto& [number, group] : groups) {
    if (group.state == GroupState::kReady) held += static_cast<int64_t>(group.capacity());
  }
  return held;
}

}  // namespace shoal::core
