#include "coordinator/core/groups/generation_state.h"

#include <utility>

#include "transport/base/check.h"

namespace shoal::core {

GenerationState::GenerationState(Request granted) : request(std::move(granted)) {
  if (request.params.prompt_logprobs) {
    prompt_logprobs_left = static_cast<int64_t>(request.prompt.size()) - 1;
  }
}

std::string GenerationState::FindFault(const SequenceUpdate& update) const {
  const GenerationParams& params = request.params;
  const auto tokens_then = static_cast<int64_t>(tokens.size() + update.tokens.size());
  if (tokens_then > params.tokens_max) {
    return Str("sequence ", update.id, " has ", tokens_then, " tokens, at most ", params.tokens_max,
               " were asked for");
  }
  const size_t logprobs = params.top_logprobs >= 0 ? update.tokens.size() : 0;
  if (update.logprobs.size() != logprobs) {
    return Str("sequence ", update.id, " has ", update.logprobs.size(), " log-probabilities, ",
               logprobs, " were expected");
  }
  // They come in parts, before the first token.
  const auto prompt_logprobs = static_cast<int64_t>(update.prompt_logprobs.size());
  const int64_t left = prompt_logprobs_left - prompt_logprobs;
  const bool all_due = !update.tokens.empty() || update.finish == FinishReason::kStop ||
                       update.finish == FinishReason::kLength;
  if (left < 0 || (left > 0 && all_due)) {
    return Str("sequence ", update.id, " has ", prompt_logprobs,
               " log-probabilities of its prompt, ", prompt_logprobs_left,
               all_due ? "" : " or fewer", " were expected");
  }
  return "";
}

void GenerationState::Apply(const SequenceUpdate& update) {
  tokens.insert(tokens.end(), update.tokens.begin(), update.tokens.end());
  prompt_logprobs_left -= static_cast<int64_t>(update.prompt_logprobs.size());
}

}  // namespace shoal::core
