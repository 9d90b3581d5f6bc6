#include "coordinator/core/admission.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "coordinator/core/catalog.h"
#include "coordinator/core/groups/routing.h"
#include "transport/base/check.h"

namespace shoal::core {

namespace {

StreamError NoGroupError(const Request& request, const RegionOptions& options,
                         const Groups& groups) {
  std::string message = Str("no group of workers is ready",
                            request.model.empty() ? "" : " that serves ", request.model);
  const std::optional<std::string> name = ModelName(request.model, options, groups);
  const auto full = std::ranges::find_if(groups.all(), [&](const auto& entry) {
    const Group& group = entry.second;
    return group.state == GroupState::kCanary && group.CanaryWaits() && group.key.name == name;
  });
  if (full != groups.all().end()) {
    message += Str(": ", full->second.Name(), " goes on with as many streams of before as its ",
                   "steps hold, and takes new requests soon after one of them has ended");
  }
  return MakeStreamError(BusyReason::kNoGroup, std::move(message));
}

}  // namespace

std::variant<Stream, StreamError> Admit(Request request, const RegionOptions& options,
                                        const Groups& groups, const Streams& streams,
                                        const Suspects& suspects, TimeNs now) {
  SHOAL_CHECK(!request.prompt.empty());
  std::optional<ModelKey> key = FindKey(request, options, groups);
  if (!key) return NoGroupError(request, options, groups);
  const TimeNs refused_ns = suspects.RefusedFor(*key, request.prompt, now);
  if (refused_ns > 0) {
    return StreamError{BusyReason::kRequestSuspect,
                       Str(options.groups_per_stream_max,
                           " groups were lost that had this prompt: it is "
                           "not taken again for a while"),
                       (refused_ns + kMillisecondNs - 1) / kMillisecondNs};
  }
  const int64_t context_tokens = ContextTokens(options, groups.models().at(*key));
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
  const int64_t largest = LargestKvCacheTokens(groups.all(), *key);
  if (needed > largest) {
    return MakeStreamError(
        BusyReason::kTooLarge,
        Str("prompt and answer may need ", needed, " tokens of KV cache, the largest group has ",
            largest, ": ask for fewer tokens, or raise --kv-cache-tokens or --kv-cache-bytes-max"));
  }
  const size_t waiting = streams.waiting_new(*key);
  if (waiting >= static_cast<size_t>(options.queue_requests_max) &&
      !ChooseGroup(groups.all(), *key, needed)) {
    return MakeStreamError(BusyReason::kQueueFull,
                           Str("all groups are full and ", waiting, " requests wait already"));
  }
  // A group may have a longer context than this region grants.
  const int64_t tokens_asked = std::exchange(params.tokens_max, tokens_max);
  params.sampling.min_tokens = std::min(params.sampling.min_tokens, tokens_max);
  Stream stream(std::move(request));
  stream.key = *std::move(key);
  stream.tokens_needed = needed;
  stream.tokens_asked = tokens_asked;
  return stream;
}

}  // namespace shoal::core
