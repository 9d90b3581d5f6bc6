#pragma once

// What two requests must have in common so that one can go on with the other's answer.

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "coordinator/gateway/answer/generation_plan.h"
#include "coordinator/gateway/api/api_request.h"
#include "coordinator/gateway/resume/cursor.h"
#include "transport/base/generation/generation.h"

namespace shoal::gateway {

Digest DigestText(std::string_view text);

// Of everything that the answer's bytes come from, but for endpoint, model and numerics id: tokens,
// parameters with the effective seed, stop strings, form; and of who asked (rpc::Caller::owner).
// Cost: linear in the prompts.
Digest DigestRequest(const ApiRequest& request, std::span<const PromptPlan> prompts,
                     std::string_view owner);

// Of a request over RPC. `has_text`: its answer has text beside the tokens.
Digest DigestRequest(const std::vector<int32_t>& prompt, const GenerationParams& params,
                     bool has_text, std::string_view owner);

}  // namespace shoal::gateway
