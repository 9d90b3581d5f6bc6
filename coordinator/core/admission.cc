#include "coordinator/core/admission.h"

#include <algorithm>
#include <utility>

#include "coordinator/core/groups/routing.h"
#include "transport/base/check.h"

namespace shoal::core {

int64_t ContextTokens(const RegionOptions& options, const Groups& groups) {
  if (!groups.model()) return options.context_tokens_max;
  const int64_t context_tokens = groups.model()->context_tokens;
  if (options.context_tokens_max == 0) return context_tokens;
  return std::min(options.context_tokens_max, context_tokens);
}

int64_t RequestsMax(const RegionOptions& options, const Groups& groups) {
  const int64_t held = RequestsHeld(groups.all());
  return held == 0 ? 0 : held + options.queue_requests_max;
}

std::variant<Stream, StreamError> Admit(Request request, const RegionOptions& options,
                                        const Groups& groups, size_t waiting) {
  SHOAL_CHECK(!request.prompt.empty());
  if (CountReady(groups.all()) == 0) {
    return MakeStreamError(BusyReason::kNoGroup, "no group of workers is ready");
  }
  const int64_t context_tokens = ContextTokens(options, groups);
  const auto prompt_tokens = static_cast<int64_t>(request.prompt.size());
  GenerationParams& params = request.params;
  // Subtracted rather than added: tokens_max is the user's.
  const int64_t room = context_tokens - prompt_tokens;
  if (room < std::min<int64_t>(params.tokens_max, 1)) {
    return MakeStreamError(
        BusyReason::kTooLarge,
        Str("the prompt has ", prompt_tokens, " tokens, the context ", context_tokens,
            params.tokens_max > 0 ? " with at least one for the answer" : "",
            ": shorten the prompt"));
  }
  const int64_t tokens_max = std::min(params.tokens_max, room);
  const int64_t needed = prompt_tokens + tokens_max;
  const int64_t largest = LargestKvCacheTokens(groups.all());
  if (needed > largest) {
    return MakeStreamError(
        BusyReason::kTooLarge,
        Str("prompt and answer may need ", needed, " tokens of KV cache, the largest group has ",
            largest, ": ask for fewer tokens, or raise --kv-cache-tokens or --kv-cache-bytes-max"));
  }
  if (waiting >= static_cast<size_t>(options.queue_requests_max) &&
      !ChooseGroup(groups.all(), needed)) {
    return MakeStreamError(BusyReason::kQueueFull,
                           Str("all groups are full and ", waiting, " requests wait already"));
  }
  // A group may have a longer context than this region grants.
  params.tokens_max = tokens_max;
  params.sampling.min_tokens = std::min(params.sampling.min_tokens, tokens_max);
  Stream stream;
  stream.tokens_needed = needed;
  stream.prompt_logprobs_left = params.prompt_logprobs ? prompt_tokens - 1 : 0;
  stream.request = std::move(request);
  return stream;
}

}  // namespace shoal::core
