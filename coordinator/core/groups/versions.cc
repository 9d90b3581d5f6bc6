#include "coordinator/core/groups/versions.h"

#include <algorithm>

#include "transport/base/check.h"

namespace shoal::core {

namespace {

bool IsReady(const Group& group, const ModelKey& key) {
  return group.state == GroupState::kReady && group.key == key;
}

}  // namespace

std::optional<VersionChoice> ChooseVersion(const ModelMap& models, const std::string& name) {
  const ModelMap::value_type* oldest = nullptr;
  int count = 0;
  for (auto model = models.lower_bound({name, ""}); model != models.end(); ++model) {
    if (model->first.name != name) break;
    if (model->second.ready_since == 0) continue;
    ++count;
    if (oldest == nullptr || model->second.ready_since < oldest->second.ready_since) {
      oldest = &*model;
    }
  }
  if (oldest == nullptr) return std::nullopt;
  return VersionChoice{oldest->first, count == 1
                                          ? std::string("the only version that is ready")
                                          : Str("ready the longest of ", count, " versions")};
}

bool HasRoom(const GroupMap& groups, const ModelKey& key, int64_t tokens,
             ServiceClass service_class) {
  return std::ranges::any_of(groups, [&](const auto& entry) {
    return entry.second.key == key && entry.second.HasRoomFor(tokens, service_class);
  });
}

std::optional<ServiceClass> FindPlace(const GroupMap& groups, const ModelKey& key) {
  int worst = -1;
  for (const auto& [number, group] : groups) {
    if (group.key != key) continue;
    for (int i = kServiceClasses - 1; i > worst; --i) {
      if (group.HasRoomFor(0, static_cast<ServiceClass>(i))) worst = i;
    }
  }
  return worst < 0 ? std::nullopt : std::optional(static_cast<ServiceClass>(worst));
}

size_t CountReady(const GroupMap& groups) {
  return static_cast<size_t>(std::ranges::count_if(
      groups, [](const auto& entry) { return entry.second.state == GroupState::kReady; }));
}

size_t CountReady(const GroupMap& groups, const ModelKey& key) {
  return static_cast<size_t>(
      std::ranges::count_if(groups, [&](const auto& entry) { return IsReady(entry.second, key); }));
}

int64_t LargestKvCacheTokens(const GroupMap& groups, const ModelKey& key) {
  int64_t largest = 0;
  for (const auto& [number, group] : groups) {
    if (IsReady(group, key)) largest = std::max(largest, group.shape().kv_cache_tokens);
  }
  return largest;
}

int64_t RequestsHeld(const GroupMap& groups, const ModelKey& key) {
  int64_t held = 0;
  for (const auto& [number, group] : groups) {
    if (!IsReady(group, key)) continue;
    held += static_cast<int64_t>(std::min(group.capacity(), group.streams_max));
  }
  return held;
}

}  // namespace shoal::core
