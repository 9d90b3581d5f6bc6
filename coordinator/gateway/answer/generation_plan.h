#pragma once

// From a checked request to token ids and the engine's parameters. Pure.

#include <cstdint>
#include <string>
#include <vector>

#include "coordinator/core/generation_service.h"
#include "coordinator/gateway/api/api_request.h"
#include "coordinator/gateway/text/text_service.h"

namespace shoal::gateway {

struct PromptPlan {
  std::vector<int32_t> ids;
  std::string text;        // As echoed.
  bool bos_added = false;  // ids[0] is not part of the text.
  GenerationParams params;
};

// Ids below it are what every group takes: of the model that the tokenizer came with, and of the
// groups.
int32_t VocabSize(const TextService& text, const core::ServedModel& model);

// One for each prompt of the request, its `choice` 0. `seed` is used if the request has none.
// Errors: ApiError: context_length_exceeded with both numbers, kv_cache_exceeded, ids outside the
// vocabulary, text without a tokenizer, a chat without a template or refused by it, a grammar
// that cannot be compiled.
std::vector<PromptPlan> PlanGeneration(const ApiRequest& request, const TextService& text,
                                       const core::ServedModel& model, uint64_t seed);

}  // namespace shoal::gateway
