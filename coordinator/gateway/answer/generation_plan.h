#pragma once

// From a checked request to token ids and the engine's parameters. Pure.

#include <cstdint>
#include <string>
#include <vector>

#include "coordinator/gateway/api/api_request.h"
#include "coordinator/gateway/text/text_service.h"
#include "transport/base/group.h"

namespace shoal::gateway {

struct PromptPlan {
  std::vector<int32_t> ids;
  std::string text;        // As echoed.
  bool bos_added = false;  // ids[0] is not part of the text.
  GenerationParams params;
};

// One for each prompt of the request, its `choice` 0. `seed` is used if the request has none.
// Errors: ApiError: what PromptEncoder refuses, and stop strings without a tokenizer.
std::vector<PromptPlan> PlanGeneration(const ApiRequest& request, const TextService& text,
                                       const ServedModel& model, uint64_t seed);

}  // namespace shoal::gateway
