#pragma once

// From a checked request to token ids and the engine's parameters. Pure.

#include <cstdint>
#include <string>
#include <vector>

#include "coordinator/gateway/api/api_request.h"
#include "coordinator/gateway/text/prompt_encoder.h"
#include "parallel/text/tools/answer_reader.h"

namespace shoal::gateway {

struct PromptPlan {
  std::vector<int32_t> ids;
  std::string text;        // As echoed.
  bool bos_added = false;  // ids[0] is not part of the text.
  GenerationParams params;
  text::AnswerSyntax syntax{};  // Of a chat's answer: what of it is told apart.

  bool splits() const { return syntax.tools || !syntax.reasoning_end.empty(); }
};

inline constexpr ApiWords kHttpWords = {
    .stop_ids = "stop_token_ids",
    .tokens_max = "max_tokens",
    .instead_of_text = "send a prompt of token ids and no stop strings",
    .instead_of_chat = "use /v1/completions"};

// One for each prompt of the request, its `choice` 0. `seed` is used if the request has none.
// Errors: ApiError: what PromptEncoder refuses, and stop strings without a tokenizer.
std::vector<PromptPlan> PlanGeneration(const ApiRequest& request, const PromptEncoder& encoder,
                                       uint64_t seed);

}  // namespace shoal::gateway
