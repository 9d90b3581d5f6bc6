#include "coordinator/core/streams/generation_state.h"

#include <algorithm>
#include <utility>

#include "transport/base/check.h"

namespace shoal::core {

GenerationState::GenerationState(Request granted) : request(std::move(granted)) {
  prompt_logprobs_left = prompt_logprobs_wanted();
}

int64_t GenerationState::prompt_logprobs_wanted() const {
  return request.params.prompt_logprobs ? static_cast<int64_t>(request.prompt.size()) - 1 : 0;
}

std::optional<UpdateFault> GenerationState::FindFault(const SequenceUpdate& update,
                                                      int32_t vocab_size) const {
  std::optional<UpdateFault> fault = FindTokensFault(update);
  if (!fault) fault = FindLogprobsFault(update);
  return fault ? std::move(fault) : FindTopFault(update, vocab_size);
}

std::optional<UpdateFault> GenerationState::FindTokensFault(const SequenceUpdate& update) const {
  const auto have = static_cast<int64_t>(tokens.size());
  const int64_t begin = update.tokens_before;
  if (begin < 0 || begin > have) {
    return UpdateFault{.what = Str("sequence ", update.id, " goes on after ", begin,
                                   " tokens, of which ", have, " were brought")};
  }
  const auto end = begin + static_cast<int64_t>(update.tokens.size());
  const int64_t tokens_max = request.params.tokens_max;
  if (end > tokens_max) {
    return UpdateFault{.what = Str("sequence ", update.id, " has ", end, " tokens, at most ",
                                   tokens_max, " were asked for")};
  }
  for (int64_t i = begin; i < std::min(have, end); ++i) {
    const int32_t token = update.tokens[static_cast<size_t>(i - begin)];
    const int32_t known = tokens[static_cast<size_t>(i)];
    if (token == known) continue;
    return UpdateFault{LossCause::kWrongAnswer, Str("sequence ", update.id, " has token ", token,
                                                    " at ", i, ", where it had ", known)};
  }
  const bool ends =
      update.finish != FinishReason::kNone && update.finish != FinishReason::kCancelled;
  if (ends && end < have) {
    return UpdateFault{LossCause::kWrongAnswer, Str("sequence ", update.id, " ends after ", end,
                                                    " tokens, of which ", have, " were brought")};
  }
  return std::nullopt;
}

std::optional<UpdateFault> GenerationState::FindLogprobsFault(const SequenceUpdate& update) const {
  const size_t logprobs = request.params.top_logprobs >= 0 ? update.tokens.size() : 0;
  if (update.logprobs.size() != logprobs) {
    return UpdateFault{.what = Str("sequence ", update.id, " has ", update.logprobs.size(),
                                   " log-probabilities, ", logprobs, " were expected")};
  }
  // They come in parts, before the first token.
  const int64_t have = prompt_logprobs_wanted() - prompt_logprobs_left;
  const auto count = static_cast<int64_t>(update.prompt_logprobs.size());
  const int64_t begin = update.prompt_logprobs_before;
  if (count > 0 && (begin < 0 || begin > have)) {
    return UpdateFault{.what = Str("sequence ", update.id, " goes on after ", begin,
                                   " log-probabilities of its prompt, of which ", have,
                                   " were brought")};
  }
  const int64_t fresh = count > 0 ? std::max<int64_t>(begin + count - have, 0) : 0;
  const int64_t left = prompt_logprobs_left - fresh;
  const bool all_due = !update.tokens.empty() || update.finish == FinishReason::kStop ||
                       update.finish == FinishReason::kLength;
  if (left < 0 || (left > 0 && all_due)) {
    return UpdateFault{.what = Str("sequence ", update.id, " has ", fresh,
                                   " log-probabilities of its prompt, ", prompt_logprobs_left,
                                   all_due ? "" : " or fewer", " were expected")};
  }
  return std::nullopt;
}

std::optional<UpdateFault> GenerationState::FindTopFault(const SequenceUpdate& update,
                                                         int32_t vocab_size) const {
  const auto count =
      static_cast<size_t>(std::clamp<int32_t>(request.params.top_logprobs, 0, vocab_size));
  for (const auto* positions : {&update.prompt_logprobs, &update.logprobs}) {
    for (const TokenLogprobs& position : *positions) {
      if (position.top.size() != count) {
        return UpdateFault{.what = Str("sequence ", update.id, " has ", position.top.size(),
                                       " alternatives at a position, ", count, " were expected")};
      }
      for (const auto& [token, logprob] : position.top) {
        if (token >= 0 && token < vocab_size) continue;
        return UpdateFault{.what = Str("alternative ", token, " of sequence ", update.id,
                                       " is not in the vocabulary of ", vocab_size)};
      }
    }
  }
  return std::nullopt;
}

void GenerationState::Trim(SequenceUpdate& update) const {
  const auto trim = [](auto& list, int64_t count) {
    list.erase(list.begin(), list.begin() + std::min<int64_t>(count, std::ssize(list)));
  };
  const int64_t known = std::ssize(tokens) - update.tokens_before;
  trim(update.tokens, known);
  trim(update.logprobs, known);
  update.tokens_before = std::ssize(tokens);
  const int64_t have = prompt_logprobs_wanted() - prompt_logprobs_left;
  if (!update.prompt_logprobs.empty()) {
    trim(update.prompt_logprobs, have - update.prompt_logprobs_before);
  }
  update.prompt_logprobs_before = have;
}

void GenerationState::Apply(const SequenceUpdate& update) {
  tokens.insert(tokens.end(), update.tokens.begin(), update.tokens.end());
  prompt_logprobs_left -= static_cast<int64_t>(update.prompt_logprobs.size());
}

}  // namespace shoal::core
