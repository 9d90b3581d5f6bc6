#pragma once

// Which version of a model takes new requests, and what the groups of one can take.

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>

#include "coordinator/core/groups/group.h"
#include "coordinator/core/groups/model.h"

namespace shoal::core {

struct VersionChoice {
  ModelKey key;
  std::string reason;  // "ready the longest of 2 versions"
};

// The version that takes new requests for the model of that name: of those with a ready group, the
// one that has been ready the longest, so that a new version changes no answer by merely coming.
// None if none is ready.
std::optional<VersionChoice> ChooseVersion(const ModelMap& models, const std::string& name);

// Whether some group of that key has room for a request that will hold so many tokens.
bool HasRoom(const GroupMap& groups, const ModelKey& key, int64_t tokens,
             ServiceClass service_class);

// The worst class of which some group of that key has room for a stream. None: of none.
std::optional<ServiceClass> FindPlace(const GroupMap& groups, const ModelKey& key);

size_t CountReady(const GroupMap& groups);
size_t CountReady(const GroupMap& groups, const ModelKey& key);

// Of all groups of that key that are ready; 0 if none is.
int64_t LargestKvCacheTokens(const GroupMap& groups, const ModelKey& key);  // Of one group.
int64_t RequestsHeld(const GroupMap& groups, const ModelKey& key);          // At once, together.

}  // namespace shoal::core
