#pragma once

// What clients may ask for: which names the models have for them, and which version a name means.

#include <optional>
#include <string>
#include <vector>

#include "coordinator/core/generation_service.h"
#include "coordinator/core/groups/groups.h"
#include "coordinator/core/groups/model.h"
#include "coordinator/core/region_options.h"
#include "coordinator/core/streams/streams.h"

namespace shoal::core {

// The one that the request asks for; none if no group of it is ready.
std::optional<ModelKey> FindKey(const Request& request, const RegionOptions& options,
                                const Groups& groups);

// The name of the model that a request names so, as its groups register it; none if clients know it
// by another one.
std::optional<std::string> ModelName(const std::string& asked, const RegionOptions& options,
                                     const Groups& groups);

// Longest prompt plus answer that the region grants to a model.
int64_t ContextTokens(const RegionOptions& options, const Model& model);

// As GenerationService::models.
std::vector<ServedModel> ListModels(const RegionOptions& options, const Groups& groups,
                                    const Streams& streams);

}  // namespace shoal::core
