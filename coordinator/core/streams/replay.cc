#include "coordinator/core/streams/replay.h"

#include <algorithm>
#include <utility>

namespace shoal::core {

namespace {

constexpr size_t kPositionsPerUpdate = 1'024;

template <typename Item>
std::vector<Item> Cut(const std::vector<Item>& list, size_t begin, size_t end) {
  return {list.begin() + static_cast<std::ptrdiff_t>(begin),
          list.begin() + static_cast<std::ptrdiff_t>(end)};
}

}  // namespace

std::vector<SequenceUpdate> Replay(const Stream& stream, const SequenceUpdate* end) {
  std::vector<SequenceUpdate> updates;
  const std::vector<TokenLogprobs>& prompt = stream.kept.prompt_logprobs;
  for (size_t i = 0; i < prompt.size(); i += kPositionsPerUpdate) {
    SequenceUpdate& update = updates.emplace_back();
    update.prompt_logprobs_before = static_cast<int64_t>(i);
    update.prompt_logprobs = Cut(prompt, i, std::min(i + kPositionsPerUpdate, prompt.size()));
  }
  for (size_t i = 0; i < stream.tokens.size(); i += kPositionsPerUpdate) {
    const size_t next = std::min(i + kPositionsPerUpdate, stream.tokens.size());
    SequenceUpdate& update = updates.emplace_back();
    update.prompt_logprobs_before = static_cast<int64_t>(prompt.size());
    update.tokens_before = static_cast<int64_t>(i);
    update.tokens = Cut(stream.tokens, i, next);
    if (stream.request.params.top_logprobs >= 0) {
      update.logprobs = Cut(stream.kept.logprobs, i, next);
    }
    if (i == 0) update.cached_tokens = stream.kept.cached_tokens;
  }
  if (end == nullptr) return updates;
  SequenceUpdate& last = updates.emplace_back();
  last.prompt_logprobs_before = static_cast<int64_t>(prompt.size());
  last.tokens_before = static_cast<int64_t>(stream.tokens.size());
  last.finish = end->finish;
  last.detail = end->detail;
  last.resumes = end->resumes;
  if (stream.tokens.empty()) last.cached_tokens = stream.kept.cached_tokens;
  return updates;
}

std::string FindRequestDifference(const Request& request, const std::string& model_name,
                                  const Stream& stream) {
  if (request.prompt != stream.request.prompt) return "its prompt";
  if (model_name != stream.key.name) return "its model";
  if (!request.numerics_id.empty() && request.numerics_id != stream.key.numerics_id) {
    return "its model's numerics id";
  }
  // As the stream was granted its parameters.
  GenerationParams params = request.params;
  const int64_t granted = stream.request.params.tokens_max;
  // Of a stream that another coordinator granted nobody knows how many it asked for.
  const bool may_be_cut = !stream.tokens_asked && params.tokens_max > granted;
  if (params.tokens_max != stream.tokens_asked.value_or(granted) && !may_be_cut) {
    return "its tokens_max";
  }
  params.tokens_max = granted;
  params.sampling.min_tokens = std::min(params.sampling.min_tokens, granted);
  return params == stream.request.params ? "" : "its parameters";
}

}  // namespace shoal::core
