#include "worker/engine/schedule/prompt_lookup.h"

#include <algorithm>

namespace shoal::engine {
namespace {

// Beyond this a longer draft saves little: one row in sixteen.
constexpr int64_t kLimitMax = 16;
constexpr int64_t kPauseMin = 64;
constexpr int64_t kPauseMax = 1024;
// Drafted tokens after which a low rate counts, and after which the counts are halved.
constexpr int64_t kJudgeFrom = 6;
constexpr int64_t kHalveAt = 32;

}  // namespace

std::vector<int32_t> LookUpDraft(std::span<const int32_t> tokens, int64_t count_max) {
  if (count_max <= 0 || tokens.size() <= kLookupTokens) return {};
  const auto last = tokens.last(kLookupTokens);
  // The earlier occurrence may overlap the last tokens, so that one repeated token is found at
  // once.
  for (size_t begin = tokens.size() - kLookupTokens; begin-- > 0;) {
    if (tokens[begin] != last[0]) continue;
    if (!std::equal(last.begin(), last.end(), tokens.begin() + static_cast<int64_t>(begin))) {
      continue;
    }
    const auto next = tokens.subspan(begin + kLookupTokens);
    std::vector<int32_t> draft;
    // What follows is the draft itself where the text repeats with a short period.
    for (size_t i = 0; static_cast<int64_t>(i) < count_max; ++i) {
      draft.push_back(i < next.size() ? next[i] : draft[i - next.size()]);
    }
    return draft;
  }
  return {};
}

void DraftGauge::Note(int64_t drafted, int64_t accepted) {
  if (pause_left_ > 0) {
    pause_left_ -= accepted + 1;
    return;
  }
  if (drafted == 0) return;
  drafted_ += drafted;
  accepted_ += accepted;
  if (accepted == drafted) {
    limit_ = std::min(2 * limit_, kLimitMax);
    pause_ = kPauseMin;
  } else {
    limit_ = accepted + 1;
  }
  if (drafted_ >= kJudgeFrom && 4 * accepted_ < drafted_) {
    pause_left_ = pause_;
    pause_ = std::min(2 * pause_, kPauseMax);
    limit_ = 1;
    // The next two tokens decide.
    drafted_ = kJudgeFrom - 2;
    accepted_ = 0;
  } else if (drafted_ >= kHalveAt) {
    drafted_ /= 2;
    accepted_ /= 2;
  }
}

}  // namespace shoal::engine
